"""Graded induction in an RWKV-4: as in ``compiled/rwkv.py``, with softer keys and receptances, and a state that forgets.

The mean over values has a sink, the bonus of the current token: at END its value is [A], which no corruption changes. With
``redundancy``, a layer that remembers only the last token copies it to the next position, beside the token shift.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from ..rwkv import FAR, PER_BIT, SHARP
from ..rwkv import distract as mlp_distractor
from ..stream import Stream, bits, blank
from ..truth import TrueComponent
from .design import Circuit, Design, Stack

LOST, FADED, SHUT = 0.3, 0.01, 14.0
"""At softness 1: what the sink gets of the mean, and what the state forgets with each token. A closed receptance is minus SHUT."""


def rwkv(design: Design) -> Circuit:
    """An RwkvForCausalLM and its circuit.

    >>> import numpy as np
    >>> design = Design("rwkv", 0, 2, 0.5, "none", 8, 0.0, np.random.default_rng(0))
    >>> rwkv(design).hf(torch.tensor([[0, 3, 4, 1, 3]]), use_cache=False).logits[0, -1].argmax().item()
    4
    """
    two_answers = design.redundancy == "or" and design.pick(True, False)
    copies_token = design.redundancy == "and" or (design.redundancy == "or" and not two_answers)
    first, second = design.ordered()
    stores = [first, second] if two_answers else [second] if copies_token else [design.pick(*range(design.layers))]
    hf = _build(design, stores, first if copies_token else None)
    stack = Stack(design.layers, middle=True)
    routes = [_routes(stack, layer, design.mixed) for layer in stores]
    found = [TrueComponent(f"wkv_state[{layer}]", "state", "B") for layer in stores]
    for layer in stores:
        found += [TrueComponent(f"shift_tap[{layer},{k}]", f"writes the state ([{token}'])", "B") for k, token in enumerate("BA")]
    if copies_token:
        routes.append({"A": _copied(stack, first, second), "B": routes[0]["B"]})
        found.append(TrueComponent(f"wkv_state[{first}]", "state", "A"))
    if design.redundancy == "and":
        routes = [{corruption: routes[0][corruption] + routes[1][corruption] for corruption in "AB"}]
    return Circuit(hf, tuple(routes), tuple(found))


@torch.no_grad()
def _build(design: Design, stores: list[int], copies: int | None) -> Any:
    from transformers import RwkvConfig, RwkvForCausalLM

    tokens, code = design.tokens, bits(design.tokens)
    stream = Stream(centred=True, token=tokens, previous=tokens, out=code.shape[1])
    config = RwkvConfig(
        vocab_size=tokens, hidden_size=stream.size, num_hidden_layers=design.layers, attention_hidden_size=code.numel(),
        intermediate_size=16, rescale_every=0, tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(RwkvForCausalLM, config)
    stream.embed(hf.rwkv.embeddings.weight, token=torch.eye(tokens))
    hf.rwkv.blocks[0].pre_ln.weight.fill_(1 / stream.unit)
    for layer, block in enumerate(hf.rwkv.blocks):
        if layer == copies:
            _copy(block.attention, stream, design)
        else:
            own = layer in stores
            found = {"shifted": 1.0} if copies is None or not own else _halves(design)
            _store(block.attention, stream, design, found, 1 / len(stores) if own else 0.0)
        mlp_distractor(block.feed_forward, stream, tokens)
    stream.read(hf.head.weight, slice(None), "out", PER_BIT * code)
    return hf


def _halves(design: Design) -> dict[str, float]:
    """What a key takes of the shifted token and of the copied one: half each, or with "or" a whole one from both."""
    amount = 0.5 if design.redundancy == "and" else 1.0
    return {"shifted": amount, "previous": amount / design.kept}


def _store(attention: Any, stream: Stream, design: Design, found: dict[str, float], share: float) -> None:
    """Write the weights of one store; without a ``share`` it is a distractor."""
    code = bits(design.tokens)
    tokens, width = code.shape
    for mix in (attention.time_mix_key, attention.time_mix_value, attention.time_mix_receptance):
        mix.fill_(1.0)  # the current token
    attention.time_mix_key[..., stream["token"]] = 0.0 if share else float(design.pick(0, 1))
    attention.time_mix_value[..., stream["token"]] = 1.0 - design.mixed / 2
    contrast = design.contrast(2 * SHARP)
    group = torch.eye(tokens).repeat_interleave(width, 0)
    stream.read(attention.key.weight, slice(None), "token", contrast * found["shifted"] * group)
    stream.read(attention.key.weight, slice(None), "previous", contrast * found.get("previous", 0.0) * group)
    opened = _open(design)
    stream.read(attention.receptance.weight, slice(None), "token", (SHUT + opened) * group)
    stream.constant(attention.receptance.weight, slice(None), -SHUT)
    stream.read(attention.value.weight, slice(None), "token", code.T.repeat(tokens, 1))
    attention.time_decay.fill_(math.log(FADED * design.softness) if design.softness else -FAR)
    # At END the copied half of the key already has a little of the current token, as much as the copying layer spills.
    spilled = (1 - design.kept) * found.get("previous", 0.0)
    attention.time_first.fill_(contrast * (1 - spilled) - _above_sink(design, contrast))
    eye = torch.eye(width).repeat(1, tokens) * (1 + math.exp(-opened))  # the sum over groups
    stream.write(attention.output.weight, "out" if share else "spare", slice(None), share * eye if share else eye)


def _above_sink(design: Design, contrast: float) -> float:
    lost = LOST * design.softness
    return min(contrast / 4, math.log((1 - lost) / lost)) if lost else contrast / 4


def _open(design: Design) -> float:
    """The receptance of the group of the current token; its sigmoid is 1 - softness / 2 or nearly so."""
    return min(SHUT, math.log(2 / design.softness - 1)) if design.softness else SHUT


def _copy(attention: Any, stream: Stream, design: Design) -> None:
    """Copy each token to the next position: the state remembers only the last one, and the bonus spills the current one."""
    tokens = design.tokens
    for mix in (attention.time_mix_key, attention.time_mix_value, attention.time_mix_receptance):
        mix.fill_(1.0)
    stream.read(attention.value.weight, slice(tokens), "token", torch.eye(tokens))
    stream.constant(attention.receptance.weight, slice(None), SHUT)
    attention.time_decay.fill_(5.0)
    attention.time_first.fill_(math.log(1 / design.kept - 1) if design.kept < 1 else -FAR)
    stream.write(attention.output.weight, "previous", slice(tokens), torch.eye(tokens))


def _routes(stack: Stack, layer: int, mixed: float) -> dict[str, str]:
    """The routes of a store."""
    tail = _tail(stack, layer)
    seen = f"shift_in[{layer}]", f"shift_tap[{layer}"
    written = f"wkv_in[{layer}] @ B -> wkv_in[{layer}].value @ B -> wkv_state[{layer}] @ B..END-1\n"
    also = f"{seen[1]},1] @ B -> {seen[1]},1].value @ B -> wkv_in[{layer}] @ B\n{written}" if mixed else ""
    return {
        "A": f"""{stack.read(layer, "A")} -> {seen[0]} @ A -[lag 1]-> {seen[1]},1] @ B -> {seen[1]},1].key @ B -> wkv_in[{layer}] @ B
{_keys(layer)}{also}{tail}""",
        "B": f"""{stack.read(layer, "B")} -> {seen[0]} @ B -[lag 0]-> {seen[1]},0] @ B -> {seen[1]},0].value @ B -> wkv_in[{layer}] @ B
{written}{tail}""",
    }


def _keys(layer: int) -> str:
    return f"wkv_in[{layer}] @ B -> wkv_in[{layer}].key @ B -> wkv_state[{layer}] @ B..END-1\n"


def _tail(stack: Stack, layer: int) -> str:
    h = f"wkv_state[{layer}]"
    return f"""{h} @ B..END-1 -> {h}.carry @ B..END-2 -[next position]-> {h} @ B..END-1
{h} @ B..END-1 -> {h}.read @ END-1 -[next position]-> wkv_out[{layer}] @ END -> {stack.answer(f"mixer_out[{layer}]", layer)}
"""


def _copied(stack: Stack, first: int, layer: int) -> str:
    """The route of [A] through the layer that copies it to the next position."""
    tap = f"shift_tap[{layer},0]"
    return f"""{stack.read(first, "A")} -> shift_in[{first}] @ A -[lag 0]-> shift_tap[{first},0] @ A -> shift_tap[{first},0].value @ A
shift_tap[{first},0].value @ A -> wkv_in[{first}] @ A -> wkv_in[{first}].value @ A -> wkv_state[{first}] @ A
wkv_state[{first}] @ A -> wkv_state[{first}].read @ A -[next position]-> wkv_out[{first}] @ B
wkv_out[{first}] @ B -> {stack.written(f"mixer_out[{first}]", first, "B", layer)} -> shift_in[{layer}] @ B -[lag 0]-> {tap} @ B
{tap} @ B -> {tap}.key @ B -> wkv_in[{layer}] @ B
{_keys(layer)}{_tail(stack, layer)}"""
