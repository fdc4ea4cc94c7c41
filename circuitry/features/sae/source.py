"""Where a training's batches come from: a stream of a model's activations, a custom stream, or plain tensors."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

from torch import Tensor

from ...errors import CircuitryError
from ...paths.parse import parse_node
from ...paths.values import Node
from ...team import Team
from ..activations.forward import Forward
from ..activations.paired import Paired, paired
from ..activations.shared import Shared
from ..activations.stream import Activations

Batch: TypeAlias = Mapping[Node, Tensor]


@runtime_checkable
class Stream(Protocol):
    """Batches [token, width] of nodes that can be made again from any number on: ``circuitry.activations``, or an object like it."""

    def batches(self, start: int = 0) -> Iterator[Mapping[Node, Tensor]]:
        """Batch number ``start`` and all after it."""


Batches: TypeAlias = Stream | Iterable[Tensor] | Iterable[Mapping[Node, Tensor]]


@dataclass(frozen=True)
class Source:
    """Batches of the nodes of one process of a team, from a given number on, and their description.

    ``widths`` of all nodes; ``mine``: those of this process; ``tokens`` of a batch; ``identity`` distinguishes streams;
    ``provenance`` goes into the SAEs' files. ``read``: of a transcoder, by the node that it predicts, the node that it reads and how
    many numbers at the beginning of its batches are that node's.
    """

    batches: Callable[[int], Iterator[Batch]]
    widths: Mapping[Node, int]
    mine: tuple[Node, ...]
    tokens: int
    identity: Mapping[str, Any]
    provenance: Mapping[str, Any]
    read: Mapping[Node, tuple[Node, int]] = field(default_factory=dict)


def source(given: Batches, nodes: list[Node], team: Team, sources: Mapping[Node, Node] | None = None) -> Source:
    """Read batches from a stream by ``batches(start)``, or from an iterable one after another.

    ``sources``: of transcoders, the node that each reads, by the node that it predicts. A batch of a transcoder has the values of both,
    side by side.

    Each of several processes gets some of the nodes, in every batch. A model's passes are divided among them; other batches are
    read by all.

    >>> import torch
    >>> tensors = source([torch.zeros(2, 3), torch.ones(2, 3)], [parse_node("resid[0]")], Team())
    >>> [(str(node), float(value.sum())) for batch in tensors.batches(1) for node, value in batch.items()]
    [('resid[0]', 6.0)]
    """
    if not isinstance(given, Stream):
        return _of_tensors(given, nodes, team, sources or {})
    stream: Any = given
    read: dict[Node, tuple[Node, int]] = {}
    if sources:
        stream, read = _of_pairs(stream, sources)
    if hasattr(stream, "batch") and hasattr(stream, "widths"):
        widths, tokens = stream.widths, stream.batch
    else:
        widths, tokens = _shape(next(stream.batches(0), {}))
    described = _described(stream)
    owned = _owned(widths, team)
    mine = owned[team.rank]
    if isinstance(stream, Activations):
        computed = stream.origin.origin if isinstance(stream.origin, Paired) else stream.origin
        shared = team.world_size > 1 and isinstance(computed, Forward)  # stored values are read, not computed
        origin = Shared(stream.origin, team, owned) if shared else stream.origin
        return Source(replace(stream, origin=origin, nodes=mine).batches, dict(widths), mine, tokens, *described, read)
    return Source(lambda start: _of(mine, stream.batches(start)), dict(widths), mine, tokens, *described)


def _of_pairs(stream: Any, sources: Mapping[Node, Node]) -> tuple[Activations, dict[Node, tuple[Node, int]]]:
    """The stream whose batches are pairs, and the node and width that each transcoder reads."""
    if not isinstance(stream, Activations):
        raise CircuitryError(
            "transcoders train on a model, on circuitry.activations, or on an iterable of dictionaries, not on another stream"
        )
    _check_both(sources, stream.nodes)
    read = {node: (read, stream.origin.widths[read]) for node, read in sources.items()}
    return replace(stream, origin=Paired(stream.origin, sources), nodes=tuple(sources)), read


def _check_both(sources: Mapping[Node, Node], there: Iterable[Node]) -> None:
    if missing := [str(node) for node in (*sources.values(), *sources) if node not in there]:
        raise CircuitryError(
            f"the activations have no {missing[0]}; a transcoder needs those of the node it reads and of its target"
        )


def _owned(widths: Mapping[Node, int], team: Team) -> tuple[tuple[Node, ...], ...]:
    """The nodes of each process: about equally many numbers."""
    nodes, sizes = list(widths), list(widths.values())
    return tuple(tuple(Team(rank, team.world_size).part(nodes, sizes)) for rank in range(team.world_size))


def _of(nodes: Iterable[Node], batches: Iterable[Batch]) -> Iterator[Batch]:
    """Batches with some of their nodes."""
    return ({node: batch[node] for node in nodes} for batch in batches)


def _of_tensors(given: Any, nodes: list[Node], team: Team, sources: Mapping[Node, Node]) -> Source:
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise CircuitryError(f"expected activations or an iterable of tensors to train on, got {type(given).__name__}")
    items: Iterable[Any] = given
    if iter(given) is given:  # an iterator, which cannot start again: put the batch that is looked at back in front
        peek = list(itertools.islice(given, 1))
        peeked, items = iter(peek), itertools.chain(peek, given)
    else:
        peeked = iter(given)
    first, read = _named(next(peeked, None), nodes), dict[Node, tuple[Node, int]]()
    if sources:
        _check_both(sources, first)
        read = {node: (read, first[read].shape[1]) for node, read in sources.items()}
        first = paired(first, sources)
    widths, tokens = _shape(first)

    mine = _owned(widths, team)[team.rank]

    def batches(start: int) -> Iterator[Batch]:
        every = (_named(item, nodes) for item in itertools.islice(items, start, None))
        return _of(mine, (paired(batch, sources) for batch in every) if sources else every)

    return Source(batches, widths, mine, tokens, {"first batch": _digest(first)}, {"text": "tensors that were given"}, read)


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


def _described(stream: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The identity and the provenance of a stream; one that has none is known by its settings and its first batch."""
    if hasattr(stream, "identity"):
        return {"stream": dict(stream.identity)}, dict(stream.provenance)
    settings = {name: getattr(stream, name) for name in ("buffer", "seed", "memory") if hasattr(stream, name)}
    return {"stream": {**settings, "first batch": _digest(next(stream.batches(0), {}))}}, {}
