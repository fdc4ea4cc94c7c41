"""Induction in an RWKV-4: the token shift brings [A] to [B], and a group of channels for every [A] stores the [B] after it.

A channel's state is a mean of values, weighted by the exponential of its key. The key of a group is large after its own token and
small after any other, so the group stores only the token that followed its own. The value is the current token's number in
binary, the same in every group. The receptance opens only the group of the current token, whose output is the answer's number.
Layer 0 does the same without the shift; layer 2 writes where nothing reads.
"""

from __future__ import annotations

from typing import Any

import torch

from .stream import TOKENS, Stream, bits, blank, hashed
from .truth import GroundTruth, TrueComponent, ground_truth

LAYERS = ((0, "spare"), (1, "out"), (1, "spare"))
"""For each layer, how many tokens back its keys look, and the block that it writes."""
SHARP, FAR, PER_BIT = 20.0, 100.0, 5.0
"""Keys and receptances are plus or minus SHARP; decay and bonus of the current token are minus FAR; a bit has logit PER_BIT."""


@torch.no_grad()
def build(tokens: int = TOKENS, layers: tuple[tuple[int, str], ...] = LAYERS) -> Any:
    """An RwkvForCausalLM with constructed weights; ``layers`` as ``LAYERS``.

    >>> build(tokens=5)(torch.tensor([[0, 3, 4, 1, 3]]), use_cache=False).logits[0, -1].argmax().item()
    4
    """
    from transformers import RwkvConfig, RwkvForCausalLM

    code = bits(tokens)
    stream = Stream(centred=True, token=tokens, out=code.shape[1])
    config = RwkvConfig(
        vocab_size=tokens, hidden_size=stream.size, num_hidden_layers=len(layers), attention_hidden_size=code.numel(),
        intermediate_size=16, rescale_every=0, tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(RwkvForCausalLM, config)
    stream.embed(hf.rwkv.embeddings.weight, token=torch.eye(tokens))
    # Layer 0 norms the stream itself; with this weight the norm changes nothing.
    hf.rwkv.blocks[0].pre_ln.weight.fill_(1 / stream.unit)
    for block, (lag, into) in zip(hf.rwkv.blocks, layers, strict=True):
        _store(block.attention, stream, code, lag, into)
        distract(block.feed_forward, stream, tokens)
    stream.read(hf.head.weight, slice(None), "out", PER_BIT * code)
    return hf


def _store(attention: Any, stream: Stream, code: torch.Tensor, lag: int, into: str) -> None:
    """Write the weights of time mixing. Channels are [group of a token][bit of another token]."""
    tokens, width = code.shape
    for mix in (attention.time_mix_key, attention.time_mix_value, attention.time_mix_receptance):
        mix.fill_(1.0)  # the current token
    attention.time_mix_key[..., stream["token"]] = 1.0 - lag
    group = torch.eye(tokens).repeat_interleave(width, 0)
    for gate in (attention.key.weight, attention.receptance.weight):
        stream.read(gate, slice(None), "token", 2 * SHARP * group)
        stream.constant(gate, slice(None), -SHARP)
    stream.read(attention.value.weight, slice(None), "token", code.T.repeat(tokens, 1))
    attention.time_decay.fill_(-FAR)
    attention.time_first.fill_(-FAR)
    stream.write(attention.output.weight, into, slice(None), torch.eye(width).repeat(1, tokens))  # the sum over groups


def distract(mlp: Any, stream: Stream, tokens: int) -> None:
    """Let channel mixing read the token and write where nothing reads.

    >>> stream = Stream(centred=True, token=5, out=3)
    >>> mlp = build(tokens=5).rwkv.blocks[0].feed_forward
    >>> with torch.no_grad(): distract(mlp, stream, 5)
    >>> mlp.time_mix_key.unique().tolist()
    [1.0]
    """
    mlp.time_mix_key.fill_(1.0)
    stream.read(mlp.key.weight, slice(None), "token", hashed(tokens))
    stream.write(mlp.value.weight, "spare", slice(None), torch.eye(16))


_STORED = """
wkv_state[1] @ B..END-1 -> wkv_state[1].carry @ B..END-2 -[next position]-> wkv_state[1] @ B..END-1
wkv_state[1] @ B..END-1 -> wkv_state[1].read @ END-1 -[next position]-> wkv_out[1] @ END -> mixer_out[1] @ END -> resid_mid[1] @ END
resid_mid[1] @ END -> resid[2] @ END -> resid_mid[2] @ END -> resid[3] @ END -> logits @ END
"""
_ROUTES = {
    "A": """
embed @ A -> resid[0] @ A -> resid_mid[0] @ A -> resid[1] @ A -> shift_in[1] @ A -[lag 1]-> shift_tap[1,1] @ B
shift_tap[1,1] @ B -> shift_tap[1,1].key @ B -> wkv_in[1] @ B -> wkv_in[1].key @ B -> wkv_state[1] @ B..END-1
"""
    + _STORED,
    "B": """
embed @ B -> resid[0] @ B -> resid_mid[0] @ B -> resid[1] @ B -> shift_in[1] @ B -[lag 0]-> shift_tap[1,0] @ B
shift_tap[1,0] @ B -> shift_tap[1,0].value @ B -> wkv_in[1] @ B -> wkv_in[1].value @ B -> wkv_state[1] @ B..END-1
"""
    + _STORED,
}


def truth() -> GroundTruth:
    """As in the Mamba; a token reads the state before its own write, so the state at END does not matter.

    >>> truth().offsets
    {'A': 1, 'B': 0}
    """
    components = (
        TrueComponent("wkv_state[1]", "state", "B"),
        TrueComponent("shift_tap[1,0]", "writes the state ([B'])", "B"),
        TrueComponent("shift_tap[1,1]", "writes the state ([A'])", "B"),
    )
    return ground_truth("compiled:rwkv", "induction", _ROUTES, components, {"A": 1, "B": 0})
