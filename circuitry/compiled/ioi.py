"""Indirect object identification in a Transformer, for the sentences of the task "ioi" and the tokenizer of the bundled models.

Each name has its own entry in the stream; all other tokens share one. At S2 a duplicate-token head finds the same name at S1
and writes it to the stream at S2. From END an S-inhibition head finds that name and copies it. The name mover looks for names,
but not for that one, and copies what it finds to the answer. Each position has its own entry too, so that a head can look a
fixed number of tokens back, and the duplicate-token head does not look at itself. All other heads, and the MLPs, write where
nothing reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .. import content
from ..prompting.vocabulary import Vocabulary
from .stream import LOGIT, Stream, blank, hashed
from .truth import GroundTruth, TrueComponent, ground_truth

POSITIONS, SHARP = 64, 150.0
"""The longest text, and the least distance between two scores of a head."""


@dataclass(frozen=True)
class Term:
    """A part of a head's score: ``strength`` if the query's block and the key's block have the same entry.

    With the query "on": if the key's block has any entry. ``lag``: the key's entry counts as the one ``lag`` further on.
    """

    query: str
    key: str
    strength: float
    lag: int = 0


@dataclass(frozen=True)
class Head:
    """A head whose score is a sum of terms. It copies the block ``copies`` to the block ``into``."""

    terms: tuple[Term, ...]
    copies: str
    into: str


def back(lag: int, copies: str = "name") -> Head:
    """A distractor that looks ``lag`` tokens back.

    >>> back(1).terms
    (Term(query='position', key='position', strength=1, lag=1),)
    """
    return Head((Term("position", "position", 1, lag),), copies, "spare")


# Before S2, or if no name occurs twice, the first two heads look at tokens that are not names, and so copy nothing.
DUPLICATE = Head((Term("name", "name", 2), Term("position", "position", -4), Term("on", "other", 1)), "name", "duplicate")
INHIBITION = Head((Term("on", "duplicate", 2), Term("on", "other", 1)), "duplicate", "inhibit")
MOVER = Head((Term("on", "name", 1), Term("inhibit", "name", -2)), "name", "out")
ANY_NAME = Head((Term("on", "name", 1),), "name", "spare")
LAYERS = (
    (back(1), DUPLICATE, back(2)),
    (INHIBITION, ANY_NAME, back(3)),
    (back(0, "inhibit"), ANY_NAME, MOVER),
    (back(0, "out"), back(1), ANY_NAME),
)


def tokenizer() -> Any:
    """The tokenizer of the bundled models.

    >>> len(tokenizer())
    2048
    """
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(content.BUNDLED / "gpt_neox")


@torch.no_grad()
def build(layers: tuple[tuple[Head, ...], ...] = LAYERS) -> Any:
    """A GPT2LMHeadModel with constructed weights, three heads in every one of ``layers``.

    >>> ids = torch.tensor([tokenizer().encode("Then, Mary and John went to the park. John gave a ring to")])
    >>> tokenizer().decode(build()(ids).logits[0, -1].argmax())
    ' Mary'
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    words = tokenizer()
    names = torch.tensor(list(Vocabulary.of(words, len(words)).single(content.load("tasks", "ioi").NAMES).values()))
    count, size = len(names), len(names) + POSITIONS + 8  # of a head
    stream = Stream(
        centred=True, name=count, other=1, position=POSITIONS, duplicate=count, inhibit=count, out=count,
        unused=3 * size - 4 * count - POSITIONS - 20,
    )  # fmt: skip
    config = GPT2Config(
        vocab_size=len(words), n_embd=stream.size, n_layer=len(layers), n_head=3, n_inner=16, n_positions=POSITIONS,
        tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    hf = blank(GPT2LMHeadModel, config)
    is_name = torch.zeros(len(words), count)
    is_name[names] = torch.eye(count)
    stream.embed(hf.transformer.wte.weight, name=is_name, other=1 - is_name.sum(1, keepdim=True))
    stream.write(hf.transformer.wpe.weight.T, "position", slice(None), torch.eye(POSITIONS))
    for block, heads in zip(hf.transformer.h, layers, strict=True):
        for number, head in enumerate(heads):
            _head(block.attn, stream, head, number * size, size)
        stream.read(block.mlp.c_fc.weight.T, slice(None), "name", hashed(count))
        stream.write(block.mlp.c_proj.weight.T, "spare", slice(None), torch.eye(16))
    stream.read(hf.lm_head.weight, slice(None), "out", LOGIT * is_name)
    return hf


def _head(attention: Any, stream: Stream, head: Head, start: int, size: int) -> None:
    """Write the weights of one head. Each term has its own dimensions in query and key."""
    # GPT-2 stores its maps as [input, output], the transpose of a linear layer's weight.
    q, k, v = (part.T for part in attention.c_attn.weight.chunk(3, 1))
    at = start
    for term in head.terms:
        width = 1 if term.query == "on" else stream.width(term.query)
        rows, gain = slice(at, at + width), SHARP * size**0.5 * term.strength
        if term.query == "on":
            stream.constant(q, rows, gain)
        else:
            stream.read(q, rows, term.query, gain * torch.eye(width))
        stream.read(k, rows, term.key, _keys(width, stream.width(term.key)).roll(term.lag, 0))
        at += width
    width = stream.width(head.copies)
    rows, eye = slice(start, start + width), torch.eye(width)
    stream.read(v, rows, head.copies, eye)
    stream.write(attention.c_proj.weight.T, head.into, rows, hashed(width) if head.into == "spare" else eye)


def _keys(rows: int, width: int) -> Tensor:
    """The key's map: all entries of a block in one dimension, or each in its own."""
    return torch.ones(1, width) if rows == 1 else torch.eye(width)


_TAIL = "head[2,2] @ END -> attn[2] @ END -> resid_mid[2] @ END -> resid[3] @ END -> resid_mid[3] @ END -> resid[4] @ END -> logits @ END"
_IO = f"""
embed @ IO -> resid[0] @ IO -> resid_mid[0] @ IO -> resid[1] @ IO -> resid_mid[1] @ IO -> resid[2] @ IO -> head[2,2].v @ IO
head[2,2].v @ IO -[attention]-> {_TAIL}
"""
_FROM_S2 = f"""
head[0,1] @ S2 -> attn[0] @ S2 -> resid_mid[0] @ S2 -> resid[1] @ S2 -> head[1,0].v @ S2 -[attention]-> head[1,0] @ END
resid[1] @ S2 -> head[1,0].k @ S2 -[attention]-> head[1,0].pattern @ END -> head[1,0] @ END
head[1,0] @ END -> attn[1] @ END -> resid_mid[1] @ END -> resid[2] @ END -> head[2,2].q @ END -> head[2,2].pattern @ END -> {_TAIL}
"""
_S1 = f"""
embed @ S1 -> resid[0] @ S1 -> head[0,1].k @ S1 -[attention]-> head[0,1].pattern @ S2 -> head[0,1] @ S2
resid[0] @ S1 -> head[0,1].v @ S1 -[attention]-> head[0,1] @ S2
resid[0] @ S1 -> resid_mid[0] @ S1 -> resid[1] @ S1 -> resid_mid[1] @ S1 -> resid[2] @ S1 -> head[2,2].k @ S1
head[2,2].k @ S1 -[attention]-> head[2,2].pattern @ END
{_FROM_S2}"""
_S2 = f"""
embed @ S2 -> resid[0] @ S2 -> head[0,1].q @ S2 -> head[0,1].pattern @ S2 -> head[0,1] @ S2
resid[0] @ S2 -> resid_mid[0] @ S2 -> resid[1] @ S2 -> resid_mid[1] @ S2 -> resid[2] @ S2 -> head[2,2].k @ S2
head[2,2].k @ S2 -[attention]-> head[2,2].pattern @ END
{_FROM_S2}"""


def truth() -> GroundTruth:
    """Three heads, for names replaced one at a time ("IO", "S1", "S2") and all at once by different ones ("ABC").

    >>> [(component.node, component.role) for component in truth().components]
    [('head[2,2]', 'name mover'), ('head[1,0]', 'S-inhibition head'), ('head[0,1]', 'duplicate-token head')]
    """
    components = (
        TrueComponent("head[2,2]", "name mover", "END"),
        TrueComponent("head[1,0]", "S-inhibition head", "END"),
        TrueComponent("head[0,1]", "duplicate-token head", "S2"),
    )
    routes = {"IO": _IO, "S1": _S1, "S2": _S2, "ABC": _IO + _S1 + _S2}
    return ground_truth("compiled:ioi", "ioi", routes, components, {"IO": 0})
