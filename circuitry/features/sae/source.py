"""Where a training's batches come from: a stream of a model's activations, a custom stream, or plain tensors."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from ...errors import CircuitryError
from ...paths.parse import parse_node
from ...paths.values import Node
from ...team import Team

Batch: TypeAlias = Mapping[Node, Tensor]


@runtime_checkable
class Stream(Protocol):
    """Batches [token, width] of nodes that can be made again from any number on: ``circuitry.activations``, or an object like it."""

    def batches(self, start: int = 0) -> Iterator[Mapping[Node, Tensor]]:
        """Batch number ``start`` and all after it."""


Batches: TypeAlias = Stream | Iterable[Tensor] | Iterable[Mapping[Node, Tensor]]


@dataclass(frozen=True)
class Source:
    """The batches of one process of a team, from a given number on, and their description.

    ``widths`` by node; ``tokens`` of a batch; ``identity`` distinguishes streams; ``provenance`` goes into the SAEs' files.
    """

    batches: Callable[[int], Iterator[Batch]]
    widths: Mapping[Node, int]
    tokens: int
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]


def source(given: Batches, nodes: list[Node], team: Team) -> Source:
    """Read batches from a stream by ``batches(start)``, or from an iterable one after another.

    Each of several processes takes every ``world_size``-th batch, starting at its rank.

    >>> import torch
    >>> tensors = source([torch.zeros(2, 3), torch.ones(2, 3)], [parse_node("resid[0]")], Team())
    >>> [(str(node), float(value.sum())) for batch in tensors.batches(1) for node, value in batch.items()]
    [('resid[0]', 6.0)]
    """
    if not isinstance(given, Stream):
        return _of_tensors(given, nodes, team)
    stream: Any = given
    if hasattr(stream, "batch") and hasattr(stream, "widths"):
        widths, tokens = stream.widths, stream.batch
    else:
        widths, tokens = _shape(next(stream.batches(0), {}))
    return Source(functools.partial(_every, stream, team), dict(widths), tokens, *_described(stream))


def _of_tensors(given: Any, nodes: list[Node], team: Team) -> Source:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise CircuitryError(f"expected activations or an iterable of tensors to train on, got {type(given).__name__}")
    items: Iterable[Any] = given
    if iter(given) is given:  # an iterator, which cannot start again: put the batch that is looked at back in front
        peek = list(itertools.islice(given, 1))
        peeked, items = iter(peek), itertools.chain(peek, given)
    else:
        peeked = iter(given)
    first = _named(next(peeked, None), nodes)
    widths, tokens = _shape(first)

    def batches(start: int) -> Iterator[Batch]:
        for item in itertools.islice(items, start * team.world_size + team.rank, None, team.world_size):
            yield _named(item, nodes)

    return Source(batches, widths, tokens, {"first batch": _digest(first)}, {"text": "tensors that were given"})


def _named(item: Any, nodes: list[Node]) -> Batch:
    """Tensors by node."""
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
    """A digest of tensors whose origin is unknown."""
    digest = hashlib.blake2b(digest_size=8)
    for node, value in batch.items():
        digest.update(f"{node} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()


def _every(stream: Stream, team: Team, start: int) -> Iterator[Batch]:
    """This process's batches of a stream."""
    return itertools.islice(stream.batches(start * team.world_size + team.rank), 0, None, team.world_size)


def _described(stream: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The identity and the provenance of a stream; one that has none is known by its settings and its first batch."""
    if hasattr(stream, "identity"):
        return {"stream": dict(stream.identity)}, dict(stream.provenance)
    settings = {name: getattr(stream, name) for name in ("buffer", "seed", "memory") if hasattr(stream, name)}
    return {"stream": {**settings, "first batch": _digest(next(stream.batches(0), {}))}}, {}
