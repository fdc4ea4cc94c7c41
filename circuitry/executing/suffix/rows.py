"""The runs of one batch, and where each is live: clean and corrupted ones whole, patched ones only where they can differ and matter."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...models.packed import Ints
from ...paths.positions import Position
from ...paths.values import Node, Site
from ...planning.live import End, Live, LiveSets
from ...planning.positions import absolute
from ...planning.values import SOURCE, CellPlan, Pass, Plan, Write
from ...prompting.prompts import Prompts
from .beginnings import Begun, begun


@dataclass(frozen=True)
class Job:
    """A cell on some examples. ``nothing``: its source takes the base run's own value, for the guard that patches nothing."""

    number: int
    cell: CellPlan
    examples: Ints
    nothing: bool = False


@dataclass(frozen=True)
class Leg:
    """One leg of a job, for those of its examples whose positions have the same distances.

    ``rows`` and ``examples`` [n]; ``before`` [n] are the rows of the leg before, None on the first; ``low`` [n] is the first
    position at which it can differ, which ``live`` counts from.
    """

    job: Job
    number: int
    rows: Ints
    examples: Ints
    before: Ints | None
    low: Ints
    live: Live

    @property
    def plan(self) -> Pass:
        """What is written, frozen and read."""
        return self.job.cell.passes[self.number]


class Runs:
    """Rows: for every example the base run, then for every example the source run, then the legs of all jobs, example by example.

    ``examples`` are those that the batch has, ``stops`` [example] how many tokens of each prompt have to be computed. ``share_beginnings``: legs that
    begin alike share their first layers.
    """

    def __init__(
        self, plan: Plan, jobs: Sequence[Job], prompts: Prompts, lives: LiveSets, *, share_beginnings: bool = True
    ) -> None:
        self.plan, self.prompts, self.lives, self.count = plan, prompts, lives, len(prompts)
        self.jobs, self.stops = list(jobs), np.ones(len(prompts), np.int64)
        starts = self._first_rows()
        self.base = np.concatenate([np.arange(2 * self.count), np.repeat(np.arange(self.count), self._width)])
        legs = [leg for job, first in zip(self.jobs, starts, strict=True) for leg in self._legs(job, first)]
        self.origin, self.begins = np.arange(len(self.base)), np.full(len(self.base), -1)
        # What layers pass on beside the stream would have to come from the other leg, too.
        alike = share_beginnings and not plan.graph.skips
        self.legs = [self._cut(start) for start in begun(legs, lives.regions)] if alike else legs

    def came(self, rows: Ints, layer: int) -> Ints:
        """The row whose stream enters a layer, for each of ``rows``: the origin of a row that begins there, else the row itself."""
        return np.where(self.begins[rows] == layer, self.origin[rows], rows)

    def _cut(self, start: Begun) -> Leg:
        if start.origin is not None:
            self.origin[start.leg.rows], self.begins[start.leg.rows] = start.origin.leg.rows, start.layer
        return start.leg

    @functools.cached_property
    def last(self) -> int:
        """The last layer in which any run is live or read; past the last of all for what comes after the layers."""
        live = [region.layer for leg in self.legs for region in leg.live.tokens]
        return max(live + [self.lives.regions.of(site.node).layer for job in self.jobs for site in job.cell.passes[-1].reads])

    def _first_rows(self) -> list[Ints]:
        """For each job, the row of its first leg in each of its examples; the rows of one example are next to each other."""
        width = np.zeros(self.count, np.int64)
        offsets = []
        for job in self.jobs:
            offsets.append(width[job.examples])
            width[job.examples] += len(job.cell.passes)
        begin = 2 * self.count + np.concatenate([[0], np.cumsum(width)[:-1]])
        self._width = width
        return [begin[job.examples] + offset for job, offset in zip(self.jobs, offsets, strict=True)]

    def _legs(self, job: Job, first: Ints) -> Iterator[Leg]:
        """Leg after leg; examples with the same distances together."""
        earliest = np.zeros(len(job.examples), np.int64)
        for number, step in enumerate(job.cell.passes):
            starts = [self._starts(write, job, earliest) for write in step.writes]
            stops = [self._stops(site, job) for site in step.reads]
            low = np.min([at for at, _ in starts], axis=0)
            np.maximum.at(self.stops, job.examples, 1 + np.max([at for at, _ in stops], axis=0))
            table = np.stack([at - low for at, _ in (*starts, *stops)], 1)
            # A live set depends on distances between tokens only, so examples with equal ones share it.
            shapes, which = np.unique(table, axis=0, return_inverse=True)
            for shape, offsets in enumerate(shapes.tolist()):
                members = np.flatnonzero(which.ravel() == shape)
                live = self._live(step, offsets, tuple(every for _, every in (*starts, *stops)))
                before = None if number == 0 else (first + number - 1)[members]
                yield Leg(job, number, (first + number)[members], job.examples[members], before, low[members], live)
            earliest = low

    def _starts(self, write: Write, job: Job, earliest: Ints) -> tuple[Ints, bool]:
        """The first token at which a write can change something, in each example, and whether it can at all later ones."""
        if write.at is not None:
            return self._at(write.at, job.examples), False
        if write.value == SOURCE:
            return (self.prompts.clean != self.prompts.corrupted).argmax(1)[job.examples], True
        return earliest, True

    def _stops(self, site: Site, job: Job) -> tuple[Ints, bool]:
        if site.at is not None:
            return self._at(site.at, job.examples), False
        return self.prompts.stops[job.examples] - 1, True

    def _at(self, at: Position, examples: Ints) -> Ints:
        return positions_of(at, self.prompts)[examples]

    def _live(self, step: Pass, offsets: Sequence[int], every: tuple[bool, ...]) -> Live:
        starts, stops = (
            list(zip(offsets, every, strict=True))[: len(step.writes)],
            list(zip(offsets, every, strict=True))[len(step.writes) :],
        )
        return self.lives.of(
            step,
            _ends([write.node for write in step.writes], starts),
            _ends([site.node for site in step.reads], stops),
        )


def _ends(nodes: Sequence[Node], at: Sequence[tuple[int, bool]]) -> list[End]:
    """Nodes at the same tokens together, so that the graph is asked only once what moves from them."""
    groups: dict[tuple[int, bool], list[Node]] = {}
    for node, place in zip(nodes, at, strict=True):
        groups.setdefault(place, []).append(node)
    return [End(tuple(members), *place) for place, members in groups.items()]


def positions_of(at: Position, prompts: Prompts) -> Ints:
    """The token [example] that a position names in each example.

    >>> import circuitry as ct
    >>> prompts = ct.task("induction", distance=8, examples=2).prompts(ct.load("bundled:mamba").vocabulary)
    >>> (positions_of(ct.Position("B", 1), prompts) - prompts.where["B"]).tolist()
    [1, 1]
    """
    return np.broadcast_to(np.array(absolute(at, prompts.where), np.int64), len(prompts))


@functools.lru_cache(maxsize=1 << 12)
def offsets_of(bits: int) -> tuple[int, ...]:
    """The numbers of the bits that are set.

    >>> offsets_of(0b1101)
    (0, 2, 3)
    """
    return tuple(number for number, bit in enumerate(bin(bits)[:1:-1]) if bit == "1")


def first_legs(plan: Plan, prompts: Prompts) -> list[Leg]:
    """The legs of a plan's first cell on the first example.

    >>> import circuitry as ct
    >>> plan, prompts = ct.patching.experiment.compile_path(
    ...     ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=3), "h[1] @ B+1 -> logits")
    >>> [leg.number for leg in first_legs(plan, prompts)]
    [0]
    """
    lives, first = LiveSets(plan.graph, prompts.length), np.arange(1)
    return Runs(plan, [Job(0, plan.cells[0], first)], prompts.take(first), lives).legs
