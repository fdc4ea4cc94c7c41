"""Cuts an experiment into batches that fit a memory bound."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ...models.model import Model
from ...models.packed import Ints
from ...paths.values import Site
from ...planning.values import CellPlan, Plan
from ..executor import EXAMPLES


def chunks(plan: Plan, model: Model, examples: int, length: int, memory: int) -> Iterator[tuple[Ints, Ints]]:
    """(cells, examples) of each batch: as many rows as fit, from at most ``EXAMPLES`` examples, and at least one cell of one example.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> [(cells.tolist(), examples.tolist()) for cells, examples in chunks(plan, model, 2, prompts.length, 1 << 30)]
    [([0], [0, 1])]
    """
    for alike in reading_alike(plan.cells):
        legs = len(plan.cells[alike[0]].passes)
        most = max(2 + legs, memory // model.bytes_per_row(length))
        cells = min(len(alike), max(1, (most - 2) // legs))
        at_once = min(EXAMPLES, max(1, most // (2 + legs * cells)))
        for first in range(0, examples, at_once):
            for start in range(0, len(alike), cells):
                yield alike[start : start + cells], np.arange(first, min(first + at_once, examples))


def reading_alike(cells: Sequence[CellPlan]) -> list[Ints]:
    """Numbers of the cells that can share a batch: those with the same number of legs, whose last leg reads the same sites.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> [group.tolist() for group in reading_alike(plan.cells)]
    [[0]]
    """
    groups: dict[tuple[int, tuple[Site, ...]], list[int]] = {}
    for number, cell in enumerate(cells):
        groups.setdefault((len(cell.passes), cell.passes[-1].reads), []).append(number)
    return [np.array(group) for group in groups.values()]
