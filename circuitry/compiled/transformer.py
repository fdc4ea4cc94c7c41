"""Induction in a Transformer: one head copies each token to the next position, and another looks for these copies.

A head looks a fixed number of positions back, by the angle between its rotary query and key, or it looks for a key with the same
entry as its query, in dimensions that are not rotated. Scores are so far apart that softmax is 0 or 1. In layer 0 one head writes
the previous token into each position; in layer 1 one head looks for the current token among these and copies the token at that
position. The other heads, and the MLPs, write where nothing reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .stream import LOGIT, TOKENS, Stream, blank, hashed
from .truth import GroundTruth, TrueComponent, ground_truth

ROTARY, THETA = 16, 3.0
"""Rotated dimensions of a head, and the base of their angles, such that a wrong distance scores far below the right one."""
SHARP = 150.0
"""The least distance between two scores of a head."""


@dataclass(frozen=True)
class Head:
    """A head that looks ``looks`` positions back, or for its token in the block ``looks``, and copies ``copies`` to ``into``.

    If ``looks`` is a block, the query is the current token, and the entries of the block ``unless`` are subtracted from the key.
    """

    looks: int | str
    copies: str
    into: str
    unless: str = ""


LAYERS = (
    (Head(2, "token", "spare"), Head(1, "token", "previous"), Head("token", "token", "spare")),
    (Head("previous", "token", "out", unless="token"), Head(3, "token", "spare"), Head(1, "previous", "spare")),
    (Head(0, "out", "spare"), Head("previous", "previous", "spare"), Head(1, "out", "spare")),
)
"""The heads of each layer. The first position is its own predecessor, since a head must look somewhere: hence ``unless``."""


@torch.no_grad()
def build(tokens: int = TOKENS, layers: tuple[tuple[Head, ...], ...] = LAYERS) -> Any:
    """A GPTNeoXForCausalLM with constructed weights, three heads in every one of ``layers``.

    >>> build(tokens=5)(torch.tensor([[0, 3, 4, 1, 3]])).logits[0, -1].argmax().item()
    4
    """
    size = tokens + ROTARY  # of a head
    stream = Stream(centred=True, token=tokens, previous=tokens, out=tokens, unused=3 * ROTARY - 19)

    def write(block: Any, number: int, head: Head, rows: Rows, angles: Tensor) -> None:
        q, k, v = rows
        _look(block.attention.query_key_value.weight, stream, head, (q, k), angles)
        _copy(block.attention, stream, head, v, slice(number * size + ROTARY, (number + 1) * size))

    return neox(stream, tokens, layers, rotated=ROTARY, theta=THETA, positions=1024, write=write)


Rows: TypeAlias = tuple[slice, slice, slice]
"""The rows of a head's query, key and value."""


@torch.no_grad()
def neox(
    stream: Stream,
    tokens: int,
    layers: Sequence[Sequence[Any]],
    *,
    rotated: int,
    theta: float,
    positions: int,
    write: Callable[..., None],
) -> Any:
    """A GPTNeoXForCausalLM whose embedding, MLPs and output layer are written; ``write(block, number, head, rows, angles)`` writes each head.

    ``rotated`` dimensions of a head, by angles to the base ``theta``, come before one for each token. All layers have as many heads as the first.

    >>> stream = Stream(centred=True, token=5, previous=5, out=5, unused=29)
    >>> neox(stream, 5, (("one", "two", "three"),), rotated=16, theta=3.0, positions=8, write=lambda *head: None).config.num_attention_heads
    3
    """
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    size = tokens + rotated
    config = GPTNeoXConfig(
        vocab_size=tokens, hidden_size=stream.size, num_hidden_layers=len(layers), num_attention_heads=len(layers[0]),
        intermediate_size=16,
        rope_parameters={"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": (rotated + 0.5) / size},
        max_position_embeddings=positions, tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(GPTNeoXForCausalLM, config)
    stream.embed(hf.gpt_neox.embed_in.weight, token=torch.eye(tokens))
    angles = hf.gpt_neox.rotary_emb.inv_freq
    for block, heads in zip(hf.gpt_neox.layers, layers, strict=True):
        for number, head in enumerate(heads):
            q, k, v = (slice(start, start + size) for start in range(3 * number * size, 3 * (number + 1) * size, size))
            write(block, number, head, (q, k, v), angles)
        stream.read(block.mlp.dense_h_to_4h.weight, slice(None), "token", hashed(tokens))
        stream.write(block.mlp.dense_4h_to_h.weight, "spare", slice(None), torch.eye(16))
    stream.read(hf.get_output_embeddings().weight, slice(None), "out", LOGIT * torch.eye(tokens))
    return hf


def _look(weight: Tensor, stream: Stream, head: Head, rows: tuple[slice, slice], angles: Tensor) -> None:
    """Write the weights of a head's query and key."""
    q, k = rows
    # The model divides scores by the root of the head's size.
    gain = SHARP * (q.stop - q.start) ** 0.5
    if isinstance(head.looks, int):
        turned = torch.cat([torch.cos(angles * head.looks), -torch.sin(angles * head.looks)])
        stream.constant(weight, slice(q.start, q.start + ROTARY), gain * turned)
        stream.constant(weight, slice(k.start, k.start + ROTARY // 2), 1.0)
        return
    eye = torch.eye(q.stop - q.start - ROTARY)
    stream.read(weight, slice(q.start + ROTARY, q.stop), "token", gain * eye)
    stream.read(weight, slice(k.start + ROTARY, k.stop), head.looks, eye)
    if head.unless:
        stream.read(weight, slice(k.start + ROTARY, k.stop), head.unless, -eye)


def _copy(attention: Any, stream: Stream, head: Head, v: slice, z: slice) -> None:
    eye = torch.eye(z.stop - z.start)
    stream.read(attention.query_key_value.weight, slice(v.start + ROTARY, v.stop), head.copies, eye)
    stream.write(attention.dense.weight, head.into, z, hashed(len(eye)) if head.into == "spare" else eye)


_TAIL = "head[1,0] @ END -> attn[1] @ END -> resid[2] @ END -> resid[3] @ END -> logits @ END"
_ROUTES = {
    "A": f"""
embed @ A -> resid[0] @ A -> head[0,1].v @ A -[attention]-> head[0,1] @ B -> attn[0] @ B -> resid[1] @ B -> head[1,0].k @ B
head[1,0].k @ B -[attention]-> head[1,0].pattern @ END -> {_TAIL}
""",
    "B": f"""
embed @ B -> resid[0] @ B -> resid[1] @ B -> head[1,0].v @ B -[attention]-> {_TAIL}
""",
}


def truth() -> GroundTruth:
    """Head 1 of layer 0 writes the keys of head 0 of layer 1. [A] acts through keys alone, so no value carries it.

    >>> [(component.node, component.role) for component in truth().components]
    [('head[1,0]', 'induction head'), ('head[0,1]', "writes the k ([A'])")]
    """
    components = (TrueComponent("head[1,0]", "induction head", "B"), TrueComponent("head[0,1]", "writes the k ([A'])", "B"))
    return ground_truth("compiled:transformer", "induction", _ROUTES, components, {"B": 0})
