"""Where a training's batches come from: a stream of a model's activations, one that somebody else wrote, or just tensors."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from ...errors import CircuitryError
from ...paths.parse import parse_node
from ...paths.values import Node
from ...team import Team

Batch: TypeAlias = Mapping[Node, Tensor]


@runtime_checkable
class Stream(Protocol):
    """Batches [token, width] of nodes, any of which can be made again: ``circuitry.activations``, or an object like it."""

    def batches(self, start: int = 0) -> Iterator[Mapping[Node, Tensor]]:
        """Batch number ``start`` and all that follow it."""


Batches: TypeAlias = Stream | Iterable[Tensor] | Iterable[Mapping[Node, Tensor]]


@dataclass(frozen=True)
class Source:
    """Batches from a number on, as one process of a team gets them, and what is known of them.

    ``widths`` by node; ``tokens`` of a batch; ``identity`` tells one stream from another; ``provenance`` is for the SAEs' files.
    """

    batches: Callable[[int], Iterator[Batch]]
    widths: Mapping[Node, int]
    tokens: int
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]


def source(given: Batches, nodes: list[Node], team: Team) -> Source:
    """Read batches off what is given: ``batches(start)`` where it has that, else one after another from its beginning.

    Of several processes each takes every ``world_size``-th batch, beginning with its own.

    >>> import torch
    >>> found = source([torch.zeros(2, 3), torch.ones(2, 3)], [parse_node("resid[0]")], Team())
    >>> [(str(node), float(value.sum())) for batch in found.batches(1) for node, value in batch.items()]
    [('resid[0]', 6.0)]
    """
    if not isinstance(given, Stream):
        return _of_tensors(given, nodes, team)
    stream: Any = given
    if shared := hasattr(stream, "__dataclass_fields__") and hasattr(stream, "world_size"):
        stream = replace(stream, rank=team.rank, world_size=team.world_size)
    if hasattr(stream, "batch") and hasattr(stream, "widths"):
        widths, tokens = stream.widths, stream.batch
    else:
        widths, tokens = _shape(next(stream.batches(0), {}))
    batches = stream.batches if shared else functools.partial(_every, stream, team)
    return Source(batches, dict(widths), tokens, *_known(stream))


def _of_tensors(given: Any, nodes: list[Node], team: Team) -> Source:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise CircuitryError(f"{type(given).__name__} is nothing to train on; give activations, or an iterable of tensors")
    items: Iterable[Any] = given
    if iter(given) is given:  # what was looked at must come again
        first = list(itertools.islice(given, 1))
        peeked, items = iter(first), itertools.chain(first, given)
    else:
        peeked = iter(given)
    known = _named(next(peeked, None), nodes)
    widths, tokens = _shape(known)

    def batches(start: int) -> Iterator[Batch]:
        for item in itertools.islice(items, start * team.world_size + team.rank, None, team.world_size):
            yield _named(item, nodes)

    return Source(batches, widths, tokens, {"first batch": _digest(known)}, {"text": "tensors that were given"})


def _named(item: Any, nodes: list[Node]) -> Batch:
    """Tensors under their nodes."""
    if isinstance(item, Mapping):
        return {parse_node(node) if isinstance(node, str) else node: value for node, value in item.items()}
    if isinstance(item, Tensor) and len(nodes) != 1:
        raise CircuitryError("name the one node these tensors are of, or give dictionaries from nodes to tensors")
    return {nodes[0]: item} if isinstance(item, Tensor) else {}


def _shape(batch: Batch) -> tuple[dict[Node, int], int]:
    """Widths and number of tokens of a batch."""
    if not batch or any(value.ndim != 2 for value in batch.values()):
        raise CircuitryError("there is nothing to train on: batches are tensors [token, width]")
    return {node: value.shape[1] for node, value in batch.items()}, len(next(iter(batch.values())))


def _digest(batch: Batch) -> str:
    """What tells tensors whose origin is not known from others."""
    made = hashlib.blake2b(digest_size=8)
    for node, value in batch.items():
        made.update(f"{node} {tuple(value.shape)}".encode())
        made.update(value.detach().cpu().float().contiguous().numpy().data)
    return made.hexdigest()


def _every(stream: Stream, team: Team, start: int) -> Iterator[Batch]:
    """This process's batches of a stream that knows of no others."""
    return itertools.islice(stream.batches(start * team.world_size + team.rank), 0, None, team.world_size)


def _known(stream: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What tells this stream from others, and what a reader wants to know of it."""
    corpus, model = getattr(stream, "corpus", None), getattr(stream, "model", None)
    identity = {name: getattr(stream, name) for name in ("buffer", "seed", "memory") if hasattr(stream, name)}
    provenance: dict[str, Any] = {}
    if corpus is not None:
        identity["corpus"] = provenance["corpus"] = corpus.digest
        provenance |= {"text": corpus.source, "tokenizer": corpus.tokenizer}
    if model is not None:
        identity["weights"] = provenance["weights"] = model.fingerprint
        provenance |= {"model": model.name, "dtype": str(model.dtype).removeprefix("torch.")}
    if corpus is None or model is None:
        identity["first batch"] = _digest(next(stream.batches(0), {}))
    return {"stream": identity}, provenance
