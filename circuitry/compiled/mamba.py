"""Induction in a Mamba: the convolution brings [A] to [B], the state stores [B] under the key [A], and the second [A] reads it.

Every layer does this with its own lag: it stores each token under the token ``lag`` positions before it, and reads what is stored
under the current token. Layer 1 has lag 1 and writes what the logits read. The others have lags 2 and 3 and write where nothing
reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from .stream import LOGIT, ONE, TOKENS, Stream, blank, hashed
from .truth import GroundTruth, TrueComponent, ground_truth

LAYERS = ((2, "spare"), (1, "out"), (3, "spare"))
"""For each layer, the distance from key to value in tokens, and the block that the layer writes."""
WIDTH = 4
"""Taps of the convolution."""


class Store(NamedTuple):
    """What a mixer stores: each token under the one ``lag`` positions before it; what it reads goes to the block ``into``.

    ``share`` scales what is read, ``retention`` is what the state keeps with each token, ``step`` the step size, ``drive`` the
    number before every SiLU that is on. With ``flag`` it stores 1, not the token. A ``gate`` names the block that opens the gate
    if its entries add up to 1, or with a minus ("-out") closes it; without one the gate is always open. ``mixed``: how much of
    the token before is stored with each token, before the SiLU.
    """

    lag: int
    into: str
    share: float = 1.0
    retention: float = 1.0
    step: float = 1.0
    drive: float = ONE
    flag: bool = False
    gate: str = ""
    mixed: float = 0.0


@torch.no_grad()
def build(tokens: int = TOKENS, layers: Iterable[tuple[Any, ...]] = LAYERS, flag: int = 0) -> Any:
    """A MambaForCausalLM with constructed weights; each of ``layers`` as in ``LAYERS``, or a ``Store``. ``flag``: width of that block.

    >>> build(tokens=5)(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    from transformers import MambaConfig, MambaForCausalLM

    stream, stores = Stream(token=tokens, out=tokens, flag=flag), [Store(*layer) for layer in layers]
    config = MambaConfig(
        vocab_size=tokens, hidden_size=stream.size, num_hidden_layers=len(stores), state_size=tokens, time_step_rank=1, expand=1,
        conv_kernel=WIDTH, tie_word_embeddings=False, use_cache=False, pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(MambaForCausalLM, config)
    stream.embed(hf.backbone.embeddings.weight, token=torch.eye(tokens))
    for block, one in zip(hf.backbone.layers, stores, strict=True):
        store(block.mixer, stream, one)
    stream.read(hf.lm_head.weight, slice(None), "out", LOGIT * torch.eye(tokens))
    return hf


def store(mixer: Any, stream: Stream, what: Store, scale: float = 1.0) -> None:
    """Write the weights of one mixer; ``scale`` is what its norms multiply the product of B and C by.

    Channels are [token as value][token as key][1]; the state is value times key.

    >>> stream = Stream(token=5, out=5); stream.embed(torch.zeros(5, stream.size), token=torch.eye(5))
    >>> mixer = build(tokens=5).backbone.layers[0].mixer
    >>> with torch.no_grad(): store(mixer, stream, Store(2, "out", step=0.5))
    >>> round(mixer.out_proj.weight[5, 0].item(), 3)
    2.0
    """
    tokens = stream.width("token")
    value, key, eye = slice(tokens), slice(tokens, 2 * tokens), torch.eye(tokens)
    for channels, steps in ((value, 0), (key, what.lag)):
        stream.read(mixer.in_proj.weight, channels, "token", eye)
        mixer.conv1d.weight[channels, 0, WIDTH - 1 - steps] = what.drive
    if what.mixed:
        mixer.conv1d.weight[value, 0, WIDTH - 2] = what.mixed * what.drive
    _gate(mixer, stream, what)
    on = what.drive / (1 + math.exp(-what.drive))  # after SiLU
    write, read = slice(1, 1 + tokens), slice(1 + tokens, None)  # the rows of B and C; row 0 is the step size
    mixer.x_proj.weight[write, key] = eye / on
    mixer.x_proj.weight[read, value] = eye / on
    mixer.dt_proj.bias.fill_(math.log(math.expm1(what.step)))
    mixer.A_log.fill_(-30.0 if what.retention == 1 else math.log(-math.log(what.retention) / what.step))
    written = value
    if what.flag:
        written = slice(2 * tokens, 2 * tokens + 1)
        stream.constant(mixer.in_proj.weight, written, 1.0)
        mixer.conv1d.weight[written, 0, -1], eye = what.drive, torch.eye(1)
    amount = what.share / (on * on * what.step * scale)  # one for the value's SiLU and one for the gate's
    stream.write(mixer.out_proj.weight, what.into, written, amount * (hashed(tokens) if what.into == "spare" else eye))


def _gate(mixer: Any, stream: Stream, what: Store) -> None:
    rows, block = slice(stream.size, None), what.gate.removeprefix("-")
    if what.gate == block != "":
        stream.read(mixer.in_proj.weight, rows, block, what.drive)
        return
    stream.constant(mixer.in_proj.weight, rows, what.drive)
    if block:
        stream.read(mixer.in_proj.weight, rows, block, -what.drive)


_STORED = """
ssm_state[1] @ B..END -> ssm_state[1].carry @ B..END-1 -[next position]-> ssm_state[1] @ B..END
ssm_state[1] @ B..END -> ssm_state[1].read @ END -> ssm_out[1] @ END -> mixer_out[1] @ END -> resid[2] @ END
resid[2] @ END -> resid[3] @ END -> logits @ END
"""
_ROUTES = {
    "A": """
embed @ A -> resid[0] @ A -> resid[1] @ A -> conv_in[1] @ A -[lag 1]-> conv_tap[1,1] @ B -> ssm_in[1] @ B
ssm_in[1] @ B -> ssm_in[1].B @ B -> ssm_state[1] @ B..END
"""
    + _STORED,
    "B": """
embed @ B -> resid[0] @ B -> resid[1] @ B -> conv_in[1] @ B -[lag 0]-> conv_tap[1,0] @ B -> ssm_in[1] @ B
ssm_in[1] @ B -> ssm_in[1].value @ B -> ssm_state[1] @ B..END
"""
    + _STORED,
}


def truth() -> GroundTruth:
    """Layer 1 writes [B] to its state at [B], and [A] one token after [A].

    >>> truth().offsets
    {'A': 1, 'B': 0}
    """
    components = (
        TrueComponent("ssm_state[1]", "state", "B"),
        TrueComponent("conv_tap[1,0]", "writes the state ([B'])", "B"),
        TrueComponent("conv_tap[1,1]", "writes the state ([A'])", "B"),
    )
    return ground_truth("compiled:mamba", "induction", _ROUTES, components, {"A": 1, "B": 0})
