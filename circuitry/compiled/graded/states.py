"""Graded induction in Mamba and Mamba-2: states that forget, with small steps and half-open gates.

A second layer or head may store the same pair ("or"), or a state with a flag opens the gate of the one that answers ("and"), or
the gate of a second layer is closed by the answer of the first ("backup"). The flag is 1 if the current token came before: it is
stored under the token before, like the answer.
"""

from __future__ import annotations

import math
from typing import Any

from .. import mamba as s6
from .. import mamba2 as ssd
from ..mamba import Store
from ..mamba2 import Head
from ..truth import TrueComponent
from .design import Circuit, Design, Stack


def mamba(design: Design) -> Circuit:
    """A MambaForCausalLM and its circuit.

    >>> import numpy as np, torch
    >>> design = Design("mamba", 0, 2, 0.5, "none", 8, 0.0, np.random.default_rng(0))
    >>> mamba(design).hf(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    stores = [distractor(design) for _ in range(design.layers)]
    places = two_layers(design)
    for layer, store in zip(places, answering(design), strict=False):
        stores[layer] = store
    hf = s6.build(design.tokens, stores, flag=1)
    nodes = [(f"ssm_state[{layer}]", f"ssm_out[{layer}]", layer) for layer in places]
    return Circuit(hf, state_routes(Stack(design.layers, middle=False), design, nodes), components(nodes))


def mamba2(design: Design) -> Circuit:
    """A Mamba2ForCausalLM and its circuit.

    >>> import numpy as np, torch
    >>> design = Design("mamba2", 0, 2, 0.5, "none", 8, 0.0, np.random.default_rng(0))
    >>> mamba2(design).hf(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    keeps = ssd.KEEPS if design.retention == 1 else math.log(-math.log(design.retention) / design.step)
    soft: dict[str, Any] = {"memory": keeps, "step": design.step}
    layers = [[Head(design.pick(0, 1, 2), **soft) for _ in range(4)] for _ in range(design.layers)]
    lags = [design.pick(1, 2, 3) for _ in layers]
    chosen: list[tuple[int, int]] = []
    for layer, store in zip(two_layers(design), answering(design), strict=False):
        # Heads of a layer share their keys, so a second head may well be in the same layer, unless the first works on its gate.
        at = chosen[0][0] if chosen and design.redundancy == "or" and design.pick(True, False) else layer
        free = [number for number in range(4) if (at, number) not in chosen]
        chosen.append((at, design.pick(*free)))
        lags[at] = 1
        same: dict[str, Any] = {name: getattr(store, name) for name in ("into", "share", "flag", "gate", "mixed")}
        layers[at][chosen[-1][1]] = Head(0, **soft, **same)
    forgets = Head(0, ssd.FORGETS)
    for layer, heads in enumerate(layers):
        for number in range(4):
            if (layer, number) not in chosen and design.pick(True, False, False):
                heads[number] = forgets
    last = Head(0, ssd.STATELESS)
    hf = ssd.build(design.tokens, [(lag, (*heads, last)) for lag, heads in zip(lags, layers, strict=True)], flag=1)
    nodes = [(f"ssm_state[{layer},{head}]", f"ssm_out[{layer},{head}]", layer) for layer, head in chosen]
    return Circuit(hf, state_routes(Stack(design.layers, middle=False), design, nodes), components(nodes))


def softened(design: Design) -> dict[str, Any]:
    """What softness changes in a ``Store``."""
    return {"retention": design.retention, "step": design.step, "drive": design.drive}


def distractor(design: Design) -> Store:
    """A state that stores tokens, perhaps under the right keys, and writes them where nothing reads."""
    return Store(design.pick(1, 2, 3), "spare", **softened(design))


def answering(design: Design) -> list[Store]:
    """The one or two stores of the circuit, in the order of their layers."""
    soft = softened(design)
    answers = Store(1, "out", **soft, mixed=design.mixed)
    if design.redundancy == "or":
        return [answers._replace(share=share) for share in design.shares()]
    if design.redundancy == "and":
        return [Store(1, "flag", **soft, flag=True), answers._replace(gate="flag")]
    return [answers] + [answers._replace(gate="-out")] * (design.redundancy == "backup")


def two_layers(design: Design) -> tuple[int, ...]:
    """The layers of these stores."""
    return (design.pick(*range(design.layers)),) if design.redundancy == "none" else design.ordered()


Nodes = list[tuple[str, str, int]]
"""For each store its state, what the state is read into, and its layer."""


def components(nodes: Nodes) -> tuple[TrueComponent, ...]:
    """The states, and the taps through which [B] and [A] get there; two heads of a layer share them."""
    found = [TrueComponent(state, "state", "B") for state, _, _ in nodes]
    for layer in dict.fromkeys(layer for _, _, layer in nodes):
        found += [TrueComponent(f"conv_tap[{layer},{k}]", f"writes the state ([{token}'])", "B") for k, token in enumerate("BA")]
    return tuple(found)


def state_routes(stack: Stack, design: Design, nodes: Nodes) -> tuple[dict[str, str], ...]:
    """The routes of each copy."""
    both = [store_routes(stack, design.mixed, *node) for node in nodes]
    if design.redundancy in ("none", "or"):
        return tuple(both)
    (state, out, first), (_, _, second) = nodes
    found = f"{_key(stack, state, first)}{_kept(state, out)}{out} @ END -> "
    found += f"{stack.written(f'mixer_out[{first}]', first, 'END', second)} -> gate[{second}] @ END\n"
    gate = f"gate[{second}] @ END -> {stack.answer(f'mixer_out[{second}]', second)}\n"
    if design.redundancy == "and":
        return ({"A": found + gate + both[1]["A"], "B": both[1]["B"]},)
    # The gate depends on whether the first store found its key, not on what it found there: [B'] leaves the second one shut.
    # It belongs to both copies: opened alone, it lets the second store answer beside the first.
    return {"A": both[0]["A"] + found, "B": both[0]["B"]}, {"A": both[1]["A"] + gate, "B": both[0]["B"]}


def store_routes(stack: Stack, mixed: float, state: str, out: str, layer: int) -> dict[str, str]:
    """The routes of a store that answers, for each corruption."""
    tail = f"{_kept(state, out)}{out} @ END -> {stack.answer(f'mixer_out[{layer}]', layer)}\n"
    written = f"ssm_in[{layer}] @ B -> ssm_in[{layer}].value @ B -> {state} @ B..END\n"
    value = f"""{stack.read(layer, "B")} -> conv_in[{layer}] @ B -[lag 0]-> conv_tap[{layer},0] @ B -> ssm_in[{layer}] @ B
{written}"""
    return {"A": _key(stack, state, layer) + (written if mixed else "") + tail, "B": value + tail}


def _key(stack: Stack, state: str, layer: int) -> str:
    return f"""{stack.read(layer, "A")} -> conv_in[{layer}] @ A -[lag 1]-> conv_tap[{layer},1] @ B -> ssm_in[{layer}] @ B
ssm_in[{layer}] @ B -> ssm_in[{layer}].B @ B -> {state} @ B..END
"""


def _kept(state: str, out: str) -> str:
    return f"""{state} @ B..END -> {state}.carry @ B..END-1 -[next position]-> {state} @ B..END
{state} @ B..END -> {state}.read @ END -> {out} @ END
"""
