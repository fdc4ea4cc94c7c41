"""The neuron baseline: MPPC of the neurons of two models, which are not sparse, from one stream of both (section 4.3.1)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from ...errors import CircuitryError, expected
from ...executing.distributed import current
from ...executing.memory import parse_memory
from ...models.model import Model
from ...paths.values import Node
from ...progress import bar, together
from ...team import Team
from ..activations.corpus import Corpus
from ..activations.forward import Forward
from ..activations.origin import MASK, first_tokens, origin
from ..activations.shared import Shared
from ..activations.stream import Origin, activations
from .best import Best
from .dense import Correlations
from .hidden import neuron_nodes, read_neurons
from .matches import Matches
from .moments import Ints
from .mppc import MIN_COUNT, VERSION, finish
from .null import rotation
from .tiles import Tile, Tiles

Chunk: TypeAlias = Mapping[Node, Tensor]
Nodes: TypeAlias = str | Node | Iterable[Node | str] | None
Numbers: TypeAlias = tuple[int, int]


@together()
def mppc_neurons(
    model_a: Model,
    nodes_a: Nodes,
    model_b: Model,
    nodes_b: Nodes,
    corpus: Corpus,
    *,
    post_silu: str = "scan",
    min_count: int = MIN_COUNT,
    null: str | None = "shift",
    out: str | PathLike[str] | None = None,
    batch: int = 4096,
    memory: int | str = "2GiB",
    rank: int = 0,
    world_size: int = 1,
    progress: bool = True,
) -> Matches:
    """As ``mppc``, for the models' neurons instead of features, computed while both models run.

    Args:
        nodes_a, nodes_b: nodes of each model; an ``mlp`` node means its neurons. None: every layer's neurons.
        post_silu: what are the neurons of a Mamba, of which the paper says "post-SiLU activations": "scan", the input of the scan, or
            "gate".
        corpus: with tokens that both models have.
        null: "shift": the same with ``model_b``'s text shifted by half of the corpus's tokens, in whole documents. None: no null.
        batch: tokens of both models that are multiplied at once.
        memory: bound for sums of products, 8 bytes for each pair of neurons. Layer pairs beyond it take another pass over the corpus.
        min_count, out, rank, world_size, progress: as for ``mppc``. Processes that are all within ``together``
            (``circuitry.executing.distributed``) share the passes of the models too; others run both models each.

    >>> import circuitry as ct
    >>> from circuitry.features.activations import corpus
    >>> model = ct.load("bundled:gpt_neox")
    >>> matches = mppc_neurons(model, ["mlp[0]"], model, ["mlp[0]"], corpus(model, ["Twenty characters or more."]), null=None)
    >>> matches.forward["mppc"].round(3).unique().tolist()
    [1.0]
    """
    models = model_a, model_b
    nodes = [_nodes(model, given, corpus, post_silu) for model, given in zip(models, (nodes_a, nodes_b), strict=True)]
    rotate, document = _rotation(null, corpus)
    provenance = _about(models, nodes, corpus, min_count, rotate)
    tiles = Tiles(len(nodes[0]), len(nodes[1]), provenance, Path(out) if out is not None else None, rank, world_size)
    crew = current() if (rank, world_size) == (current().rank, current().world_size) else Team()
    run = _Run(models, (nodes[0], nodes[1]), corpus, min_count, batch, progress, crew)
    with tiles.open():
        left = [pair for pair in tiles.own() if tiles.get(pair) is None]
        # Processes that have no group left still run their part of the passes.
        groups = crew.gathered(list(_groups(left, provenance, parse_memory(memory) // 8)))
        for groups_by_process in itertools.zip_longest(*groups, fillvalue=[]):
            matches = run(groups_by_process)
            nulls = [result[0] for result in run(groups_by_process, document)] if rotate is not None else [None] * len(matches)
            for pair, match, by_chance in zip(groups_by_process[crew.rank], matches, nulls, strict=True):
                tiles.put(pair, Tile(*match, by_chance))
        return finish(tiles, out)


@dataclass(frozen=True)
class _Run:
    """Passes of both models over the corpus, which the processes of a team share."""

    models: tuple[Model, Model]
    nodes: tuple[list[Node], list[Node]]
    corpus: Corpus
    min_count: int
    batch: int
    progress: bool
    team: Team

    def __call__(self, groups: Sequence[Sequence[Numbers]], first: int = 0) -> list[tuple[Best, Ints, Ints]]:
        """Best matches and counts of this process's pairs of layers; the second model's text begins with document ``first``.

        ``groups``: the pairs of each process, by the numbers of their layers.
        """
        pairs = [(self.nodes[0][row], self.nodes[1][column]) for row, column in groups[self.team.rank]]
        correlations = Correlations(pairs, self.min_count)
        corpora = self.corpus, rolled(self.corpus, first)
        chunks = zip(*(self._stream(side, groups, corpora[side]) for side in (0, 1)), strict=True)
        correlations.feed(bar(chunks, "neurons", unit="batch", show=None if self.progress else False))
        return [(correlations.best(pair), *correlations.counts(pair)) for pair in pairs]

    def _stream(self, side: int, groups: Sequence[Sequence[Numbers]], corpus: Corpus) -> Iterator[Chunk]:
        """A model's neurons at the used tokens, ``batch`` at a time: those of this process's pairs."""
        model, nodes = self.models[side], self.nodes[side]
        owned = tuple(tuple(nodes[number] for number in dict.fromkeys(pair[side] for pair in group)) for group in groups)
        # Of all nodes, since they decide which documents run together, and so how values round.
        stream = activations(model, nodes, corpus=corpus, batch=self.batch, buffer=4 * self.batch)
        origin: Origin = Forward(model, stream.nodes, corpus, stream.buffer, parse_memory("512MiB"), read_neurons)
        if self.team.world_size > 1:
            origin = Shared(origin, self.team, owned)
        for _, values in replace(stream, origin=origin, nodes=owned[self.team.rank]).in_order():
            yield values


def rolled(corpus: Corpus, first: int) -> Corpus:
    """The corpus with document ``first`` moved to the front, and the documents before it moved to the end.

    >>> text = Corpus(np.arange(5, dtype=np.int32), np.array([0, 2, 5]), np.zeros(5, bool), "numbers", "")
    >>> rolled(text, 1).ids.tolist(), rolled(text, 1).starts.tolist()
    ([2, 3, 4, 0, 1], [0, 3, 5])
    """
    at, end = int(corpus.starts[first]), len(corpus.ids)
    starts = np.concatenate([corpus.starts[first:] - at, corpus.starts[1 : first + 1] + end - at])
    return replace(corpus, ids=np.roll(corpus.ids, -at), special=np.roll(corpus.special, -at), starts=starts)


def _nodes(model: Model, given: Nodes, corpus: Corpus, post_silu: str) -> list[Node]:
    """The given nodes, or those of the neurons. Raises CircuitryError for a corpus that the model cannot read."""
    several = [given] if isinstance(given, str | Node) else given
    chosen = neuron_nodes(model, post_silu) if several is None else [model.graph.node(node) for node in several]
    activations(model, chosen, corpus=corpus)  # for its checks only, before any file is written
    return chosen


def _rotation(null: str | None, corpus: Corpus) -> tuple[int | None, int]:
    """The shift of the second model's text in tokens, and the document it then begins with."""
    if null not in (None, "shift"):
        raise CircuitryError(expected("'shift' or None as the null of neurons", null))
    first = first_tokens(corpus)
    if null and len(first) < 2:
        raise CircuitryError("a corpus of one document cannot be shifted by documents; give more, or null=None")
    rotate = rotation(null, corpus.tokens, first)
    return rotate, 0 if rotate is None else int(np.searchsorted(corpus.starts, corpus.used[rotate], side="right")) - 1


def _groups(left: Iterable[Numbers], provenance: Mapping[str, Any], numbers: int) -> Iterator[list[Numbers]]:
    """Groups of layer pairs whose products together have at most ``numbers`` numbers, or a single larger pair."""
    group: list[Numbers] = []
    size = 0
    for row, column in left:
        products = provenance["a"][row]["features"] * provenance["b"][column]["features"]
        if group and size + products > numbers:
            yield group
            group, size = [], 0
        group.append((row, column))
        size += products
    if group:
        yield group


def _about(
    models: tuple[Model, Model], nodes: list[list[Node]], corpus: Corpus, min_count: int, rotate: int | None
) -> dict[str, Any]:
    """Everything that the results depend on, as for features."""
    identity: dict[str, Any] = {"version": VERSION, "tokens": corpus.tokens, "min_count": min_count, "shift": rotate}
    for name, model, chosen in zip("ab", models, nodes, strict=True):
        values = read_neurons(model, chosen, np.zeros((1, 1), np.int64))
        identity[name] = [
            {**origin(model, node), "neurons": True, "corpus": corpus.digest, "mask": MASK, "features": values[node].shape[-1]}
            for node in chosen
        ]
    return identity
