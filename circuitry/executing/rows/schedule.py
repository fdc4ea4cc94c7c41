"""A plan for some examples and cells: which batch row is copied into which, at which place. Plain numpy, no torch.

All passes ride in one batch. The rows are, for every example, the base input, the source input, and one row for every leg of
every cell. A write copies from the source input's row (or the previous leg's), a hold copies from the base row, at the same
place in the same forward pass: nothing has to be stored, and a frozen node costs one copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...architecture.families import Place
from ...architecture.graph import Graph
from ...architecture.terms import terms_among
from ...paths.positions import Position
from ...paths.values import Site
from ...planning.positions import absolute
from ...planning.values import SOURCE, CellPlan, Pass, Plan, Write
from ...prompting.prompts import Prompts
from ..copies import ALL, Call, Copy, unit_of, units_frozen

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """What the last leg reads: rows [cell, example], their base rows [example], and the position in each example."""

    sites: tuple[Site, ...]
    rows: Ints
    base: Ints
    source: Ints


@dataclass
class Schedule:
    """One batch. ``example`` [row] and ``corrupted`` [row] say what each row's input is; ``copies`` what happens where."""

    example: Ints
    corrupted: NDArray[np.bool_]
    reading: Reading
    copies: dict[Call, list[Copy]] = field(default_factory=dict)


def schedule(plan: Plan, cells: Sequence[CellPlan], prompts: Prompts) -> Schedule:
    """Lay out one batch for these prompts and cells. The last legs of the cells must read the same sites.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> ids = np.arange(6).reshape(2, 3)
    >>> prompts = Prompts(ids, ids + 1, ids[:, 0], ids[:, 1], {"END": np.array([2, 2])}, ())
    >>> compiled = plan("mlp[{layer}] @ 1 -> logits", ct.graph("gpt2", layer=2), where={"END": [2]})
    >>> schedule(compiled, compiled.cells, prompts).example.tolist()
    [0, 0, 0, 1, 1, 1]
    """
    legs, count = len(cells[0].passes), len(prompts)
    if any(cell.passes[-1].reads != cells[0].passes[-1].reads for cell in cells):
        raise ValueError("these cells read different sites, so they cannot share a batch")
    width = 2 + legs * len(cells)
    first = np.arange(count) * width
    kinds = np.array([False, True] + [False] * (width - 2))
    kinds = kinds if plan.base == "clean" else ~kinds
    rows = first[None, None, :] + 2 + np.arange(legs * len(cells)).reshape(len(cells), legs, 1)
    reading = Reading(cells[0].passes[-1].reads, rows[:, -1], first, first + 1)
    batch = Schedule(np.repeat(np.arange(count), width), np.tile(kinds, count), reading)
    layout = _Layout(batch, plan.graph, prompts, first)
    for cell, cell_rows in zip(cells, rows, strict=True):
        for number, step in enumerate(cell.passes):
            layout.add(step, cell_rows, number)
    return batch


@dataclass
class _Layout:
    schedule: Schedule
    graph: Graph
    prompts: Prompts
    base: Ints

    def add(self, step: Pass, cell_rows: Ints, leg: int) -> None:
        """The copies of one leg; ``cell_rows`` [leg, example] are the rows of its cell."""
        rows = cell_rows[leg]
        for write in step.writes:
            source = cell_rows[write.value] if isinstance(write.value, int) else self.base + 1
            self._write(write, rows, source, leg)
        for term in terms_among(step.frozen):
            self._write(Write(term, None, SOURCE), rows, self.base, leg)
        for place, units in units_frozen(self.graph, step.frozen).items():
            to, unit = np.repeat(rows, len(units)), np.tile(units, len(rows))
            self._put(place, None, Copy(to, np.repeat(self.base, len(units)), np.full(len(to), ALL), unit, leg))

    def _write(self, write: Write, rows: Ints, source: Ints, leg: int) -> None:
        place, value = self.graph.place(write.node), write if write.made else None
        unit, term = np.full(len(rows), unit_of(place, write.node)), write.node if write.node.term else None
        at = self._positions(write.at)
        if place.position is not None:
            self._put(place, None, Copy(rows, source, at, unit, leg, value, term))
            return
        every = np.full(len(rows), ALL)
        if write.at is None:
            for stop in range(self.prompts.length):
                self._put(place, stop, Copy(rows, source, every, unit, leg, value, term))
            return
        for stop in np.unique(at):
            chosen = at == stop
            self._put(place, int(stop), Copy(rows[chosen], source[chosen], every[chosen], unit[chosen], leg, value, term))

    def _positions(self, at: Position | None) -> Ints:
        if at is None:
            return np.full(len(self.prompts), ALL)
        return np.broadcast_to(np.array(absolute(at, self.prompts.where)), len(self.prompts))

    def _put(self, place: Place, stop: int | None, copy: Copy) -> None:
        self.schedule.copies.setdefault((place, stop), []).append(copy)
