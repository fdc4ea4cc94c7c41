"""Induction in a Mamba-2: as in the Mamba, with a convolution over value, key and query together, and a state for every head.

B is the token ``lag`` positions back, C the current one. Both have an entry for every token and are shared by the heads. The
value of a head is the token's number in binary, with two entries for each bit, since SiLU would destroy a sign. In layer 1 one
head stores each token under the token before it and writes what the logits read. Other heads store other tokens under the same
keys, or forget them. The last head has no state and passes on the current token, with an entry that is always on and so large
that the norm after the gate divides by nearly the same number everywhere. Other layers have other lags. All of these write where
nothing reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .stream import ON, ONE, TOKENS, Stream, bits, blank
from .truth import GroundTruth, TrueComponent, ground_truth

_WIDTH, _SIZE, PER_BIT, INNER = 4, 64, 5.0, 10 * ON
"""Taps of the convolution, channels of a head, logits for each bit, and the entry of the last head that is always on."""
KEEPS, FORGETS, STATELESS = -30.0, 1.0, None
"""A head's ``A_log``: no decay, or a decay to 1/15 with each token; None for no state."""


@dataclass(frozen=True)
class Head:
    """A head whose value is the token ``lag`` positions back, and the block that it writes.

    ``share`` scales what it writes, and ``step`` is its step size. With ``flag`` its value is 1, not a token. A ``gate`` names the
    block that opens its gate if the entries add up to 1, or with a minus ("-out") closes it if they do; by default it is open.
    ``mixed``: how much of the token before is added to the value, before its SiLU.
    """

    lag: int
    memory: float | None
    into: str = "spare"
    share: float = 1.0
    step: float = 1.0
    flag: bool = False
    gate: str = ""
    mixed: float = 0.0


OTHERS = (Head(1, KEEPS), Head(2, KEEPS), Head(0, KEEPS), Head(0, FORGETS), Head(0, STATELESS))
LAYERS = ((2, OTHERS), (1, (*OTHERS[:2], Head(0, KEEPS, "out"), *OTHERS[3:])), (3, OTHERS))
"""For each layer, how many tokens back the key is, and the heads, of which the last must have no state."""


@torch.no_grad()
def build(tokens: int = TOKENS, layers: Sequence[tuple[int, Sequence[Head]]] = LAYERS, flag: int = 0) -> Any:
    """A Mamba2ForCausalLM with constructed weights; ``layers`` as ``LAYERS``, and ``flag`` the width of that block.

    >>> build(tokens=5)(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    from transformers import Mamba2Config, Mamba2ForCausalLM

    code = torch.cat([bits(tokens), -bits(tokens)], 1)  # [token, bit or its opposite]
    used = tokens + code.shape[1] + flag + 17
    inner = -(-used // (5 * _SIZE)) * 5 * _SIZE  # the stream is as wide as the heads
    stream = Stream(token=tokens, out=code.shape[1], flag=flag, unused=inner - used)
    config = Mamba2Config(
        vocab_size=tokens, hidden_size=inner, num_hidden_layers=len(layers), state_size=tokens, num_heads=inner // _SIZE,
        head_dim=_SIZE, n_groups=1, expand=1, conv_kernel=_WIDTH, chunk_size=64, tie_word_embeddings=False, use_cache=False,
        pad_token_id=0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(Mamba2ForCausalLM, config)
    stream.embed(hf.backbone.embeddings.weight, token=torch.eye(tokens))
    for block, (lag, heads) in zip(hf.backbone.layers, layers, strict=True):
        _keys(block.mixer, stream, tokens, lag)
        for number, head in enumerate(heads):
            _values(block.mixer, stream, head, number, code.clamp(min=0))
    stream.read(hf.lm_head.weight, slice(None), "out", PER_BIT * code)
    return hf


def _keys(mixer: Any, stream: Stream, tokens: int, lag: int) -> None:
    """Write the weights of B, C and the gate, which is always 1. The projection's rows are [gate][value][B][C][step size]."""
    start, eye = 2 * stream.size, torch.eye(tokens)
    for rows, back in ((slice(start, start + tokens), lag), (slice(start + tokens, start + 2 * tokens), 0)):
        _read(mixer, stream, rows, eye, back)
    stream.constant(mixer.in_proj.weight, slice(stream.size), ONE)


def _values(mixer: Any, stream: Stream, head: Head, number: int, code: torch.Tensor) -> None:
    start, width = number * _SIZE, 1 if head.flag else code.shape[1]
    if head.flag:
        _constant(mixer, stream, start, ONE)
    else:
        _read(mixer, stream, slice(stream.size + start, stream.size + start + width), code.T, head.lag)
        if head.mixed:
            mixer.conv1d.weight[start : start + width, 0, _WIDTH - 2 - head.lag] = head.mixed * ONE
    mixer.A_log[number] = KEEPS if head.memory is None else head.memory
    mixer.dt_bias[number] = math.log(math.expm1(head.step)) if head.memory is not None else -100.0  # a step size of 0
    _gate(mixer, stream, head, slice(start, start + _SIZE))
    scale = INNER / stream.size**0.5 * head.share / head.step  # the root: what the norm after the gate divides by
    stream.write(mixer.out_proj.weight, head.into, slice(start, start + width), scale * torch.eye(width))
    if head.memory is None:
        mixer.D[number] = 1.0
        _constant(mixer, stream, start + _SIZE - 1, INNER)


def _constant(mixer: Any, stream: Stream, channel: int, value: float) -> None:
    """Let one channel of the values have the same number before its SiLU at all tokens."""
    row = stream.size + channel
    stream.constant(mixer.in_proj.weight, slice(row, row + 1), value)
    mixer.conv1d.weight[channel, 0, -1] = 1.0


def _gate(mixer: Any, stream: Stream, head: Head, rows: slice) -> None:
    """Let a head's gate depend on a block, of whose entries one is 1 for the flag, or one for each bit for the answer."""
    block = head.gate.removeprefix("-")
    if block:
        ones = 1 if block == "flag" else stream.width(block) // 2
        stream.read(mixer.in_proj.weight, rows, block, (ONE if block == head.gate else -ONE) / ones)
        if block == head.gate:
            stream.constant(mixer.in_proj.weight, rows, 0.0)


def _read(mixer: Any, stream: Stream, rows: slice, values: torch.Tensor, back: int) -> None:
    """Let rows of the projection read the token ``back`` positions before."""
    # The gate's rows come first and are not convolved: row ``stream.size`` of the projection is channel 0 of the convolution.
    stream.read(mixer.in_proj.weight, rows, "token", values)
    mixer.conv1d.weight[rows.start - stream.size : rows.stop - stream.size, 0, _WIDTH - 1 - back] = ONE


_STORED = """
ssm_state[1,2] @ B..END -> ssm_state[1,2].carry @ B..END-1 -[next position]-> ssm_state[1,2] @ B..END
ssm_state[1,2] @ B..END -> ssm_state[1,2].read @ END -> ssm_out[1,2] @ END -> mixer_out[1] @ END -> resid[2] @ END
resid[2] @ END -> resid[3] @ END -> logits @ END
"""
_ROUTES = {
    "A": """
embed @ A -> resid[0] @ A -> resid[1] @ A -> conv_in[1] @ A -[lag 1]-> conv_tap[1,1] @ B -> ssm_in[1] @ B
ssm_in[1] @ B -> ssm_in[1].B @ B -> ssm_state[1,2] @ B..END
"""
    + _STORED,
    "B": """
embed @ B -> resid[0] @ B -> resid[1] @ B -> conv_in[1] @ B -[lag 0]-> conv_tap[1,0] @ B -> ssm_in[1] @ B
ssm_in[1] @ B -> ssm_in[1].value @ B -> ssm_state[1,2] @ B..END
"""
    + _STORED,
}


def truth() -> GroundTruth:
    """Head 2 of layer 1. The induction suite asks for states by layer.

    >>> truth().offsets
    {'A': 1, 'B': 0}
    """
    components = (
        TrueComponent("ssm_state[1,2]", "state", "B"),
        TrueComponent("conv_tap[1,0]", "writes the state ([B'])", "B"),
        TrueComponent("conv_tap[1,1]", "writes the state ([A'])", "B"),
    )
    return ground_truth("compiled:mamba2", "induction", _ROUTES, components, {"A": 1, "B": 0})
