"""The random-node baseline: what a path does when its source is any node of the same kind, anywhere it could have an effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from ..architecture.graph import Graph
from ..errors import PathError
from ..executing.effects import Effects
from ..paths.positions import Index, Position
from ..paths.terms import LATENT, Term
from ..paths.values import Leg, Node, Path, Site
from ..planning.effects import check_effects, differs_everywhere
from ..planning.frozen import nodes_of
from ..planning.plan import cell_plan
from ..planning.twice import experiment
from ..planning.values import Cell, CellPlan, Plan
from ..prompting.prompts import Prompts

DRAWN = ("draw", "node")
"""Columns of the random nodes that a table itself does not have."""
_TRIES, _MOVES = 48, 6
"""How often a draw is tried, and how many of the first tries also move its position."""
Moved = dict[tuple[Index, ...], tuple[int, ...]]
"""The new indices of each node of a path, by its old ones."""


Live: TypeAlias = Callable[[Site], Sequence[int]]
"""The latents of a site's node that could be patched there with an effect."""


def random_cells(plan: Plan, prompts: Prompts, count: int, seed: int = 0, live: Live | None = None) -> tuple[CellPlan, ...]:
    """Cells of the plan with their sources moved to random indices and positions; fewer than ``count`` if few are possible.

    A latent is exchanged for a random one of ``live`` of its node, and stays at its position: most of thousands of latents are zero
    on any prompt, and zeros would make any real latent look special.

    A node that ``except`` exempts together with a source moves with it. Positions are drawn from those between the first
    changed token and END, if the graph says that the path can still have an effect; otherwise the position stays.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> [str(cell.path.sources[0].node.family) for cell in random_cells(plan, prompts, 2)]
    ['h', 'h']
    """
    rng, cells = np.random.default_rng(seed), []
    changed = prompts.differing if plan.intervention.from_source else None
    for _ in range(count):
        like = plan.cells[rng.integers(len(plan.cells))]
        for attempt in range(_TRIES):
            path = _moved(like.path, plan.graph, prompts, rng, live or _every(plan.graph), keep_position=attempt >= _MOVES)
            if path == like.path and any(site.node.term for site in path.sources):
                continue  # all latents, or an error: no other one of its node can be drawn
            try:
                check_effects(path, plan.graph, prompts.where, prompts.stops.tolist(), changed, hints=False)
            except PathError:
                continue
            if not differs_everywhere(path, plan.graph, prompts.where, changed):
                continue  # exact zeros among its examples would make any real node look special
            cells.append(cell_plan(Cell(like.values, path), plan.graph, plan.intervention))
            break
    return tuple(cells)


def _every(graph: Graph) -> Live:
    """All latents of a node."""
    return lambda site: range(graph.terms.latents[graph.canonical(site.node.host)])


def _moved(path: Path, graph: Graph, prompts: Prompts, rng: Generator, live: Live, *, keep_position: bool) -> Path:
    if any(site.node.term for site in path.sources):
        return replace(path, sources=tuple(_other_latent(site, live, rng) for site in path.sources))
    path = _as_layers(path, graph)
    moved = _drawn([site.node for site in path.sources], graph, rng)
    room = int((prompts.where["END"] - prompts.first_changed).min())
    old = dict.fromkeys(site.at for site in path.sources)  # in order: a set's would differ from process to process
    places = {at: None if at is None else Position("END", -int(rng.integers(room + 1))) for at in old}
    places = {at: at for at in old} if keep_position else places
    sources = tuple(Site(replace(s.node, indices=moved[s.node.indices]), places[s.at]) for s in path.sources)
    return Path(sources, tuple(_leg(leg, moved) for leg in path.legs))


def _other_latent(site: Site, live: Live, rng: Generator) -> Site:
    """A random latent of the same node at the same position; anything but a single latent stays."""
    if site.node.term is None or site.node.term.number is None or not (choices := live(site)):
        return site
    return replace(site, node=replace(site.node, term=Term(LATENT, int(choices[int(rng.integers(len(choices)))]))))


def _as_layers(path: Path, graph: Graph) -> Path:
    """The path with sources that are all heads of a layer named as that layer, so that they move to all heads of another."""
    layers = dict.fromkeys(Site(replace(site.node, indices=site.node.indices[:1]), site.at) for site in path.sources)
    named = tuple(layers)
    return replace(path, sources=named) if _written(named, graph) == _written(path.sources, graph) else path


def _written(sources: tuple[Site, ...], graph: Graph) -> list[Site]:
    return [Site(node, site.at) for site in sources for node in nodes_of(site, graph)]


def _drawn(nodes: list[Node], graph: Graph, rng: Generator) -> Moved:
    """Random new indices; different ones stay different if possible.

    Nodes that share indices move together, so only to indices that all of them have.
    """
    by_indices: dict[tuple[Index, ...], list[tuple[tuple[int, ...], ...]]] = {}
    for node in nodes:
        shortened = (indices[: len(node.indices)] for indices in graph.indices(node.family))
        by_indices.setdefault(node.indices, []).append(tuple(shortened))
    moved: Moved = {}
    for indices, choices in by_indices.items():
        every = sorted(set[tuple[int, ...]].intersection(*map(set, choices)))
        free = [target for target in every if target not in moved.values()] or every
        moved[indices] = free[int(rng.integers(len(free)))]
    return moved


def _leg(leg: Leg, moved: Moved) -> Leg:
    exempt = tuple(replace(node, indices=moved.get(node.indices, node.indices)) for node in leg.exempt)
    return replace(leg, exempt=exempt)


@dataclass(frozen=True)
class Once:
    """A plan with its random nodes, in which no experiment is run twice: a random node may be a cell of the table, or drawn again.

    ``plan`` has the cells of the table and then the ``extra`` others; ``numbers`` [cell] says where among these each cell of the table
    and each random node is.
    """

    plan: Plan
    extra: int
    numbers: NDArray[np.int64]

    def every(self, effects: Effects) -> Effects:
        """The effects of all cells of the table and all random nodes, from those of what ran."""
        return effects.part(self.numbers, effects.effect.shape[1])


def once(plan: Plan, drawn: Sequence[CellPlan], prompts: Prompts) -> Once:
    """The experiments of a plan and its random nodes, each once.

    Two are the same if they patch and read the same nodes at the same tokens in every example.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> found = once(plan, plan.cells, prompts)
    >>> found.extra, found.numbers.tolist()
    (0, [0, 0])
    """
    numbers = {experiment(cell.path, plan.graph, prompts.where): at for at, cell in enumerate(plan.cells)}
    cells, where = list(plan.cells), list(range(len(plan.cells)))
    for cell in drawn:
        where.append(numbers.setdefault(experiment(cell.path, plan.graph, prompts.where), len(cells)))
        cells += [cell] if where[-1] == len(cells) else []
    return Once(replace(plan, cells=tuple(cells)), len(cells) - len(plan.cells), np.array(where))


def random_frame(cells: tuple[CellPlan, ...], effects: Effects) -> pd.DataFrame:
    """The effects of random nodes as PatchingTable.random has them: draw, node, example, effect, base, source.

    >>> import circuitry as ct
    >>> cell = ct.patching.experiment.compile_path(
    ...     ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2), "h[2] @ B+1 -> logits")[0].cells[0]
    >>> ones = np.ones((1, 2))
    >>> random_frame((cell,), Effects(ones, ones, ones)).node.tolist()
    ['h[2] @ B+1', 'h[2] @ B+1']
    """
    count, examples = effects.effect.shape
    names = [", ".join(map(str, cell.path.sources)) for cell in cells]
    return pd.DataFrame({
        "draw": np.repeat(np.arange(count), examples),
        "node": np.repeat(np.array(names, dtype=object), examples),
        "example": np.tile(np.arange(examples), count),
        "effect": effects.effect.ravel(),
        "base": effects.base.ravel(),
        "source": effects.source.ravel(),
    })  # fmt: skip
