"""The guards as jobs of the same batches: patch nothing and get the base run, patch everything and get the source run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ...models.model import Model
from ...paths.values import Node
from ...planning.values import SOURCE, CellPlan, Pass, Plan, Write
from ..guards import EVERYTHING, EXAMPLES, NOTHING, check_same, sampled
from .layout import Reading, of_site
from .rows import Job


def guards_of(plan: Plan, examples: int, cells: int) -> Iterator[Job]:
    """The jobs of the guards, for a sample of the first ``cells`` cells and two examples.

    >>> import circuitry as ct
    >>> plan, prompts = ct.patching.experiment.compile_path(
    ...     ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=3), "h[{layer}] @ B+1 -> logits")
    >>> [job.nothing for job in guards_of(plan, 3, cells=2)]
    [True, True, False]
    """
    few = np.arange(min(examples, EXAMPLES))
    if plan.intervention.from_source:
        for number in sampled(cells):
            yield Job(-1, plan.cells[number], few, nothing=True)
    yield Job(-1, _everything(plan), few)


def _everything(plan: Plan) -> CellPlan:
    """A cell that replaces the whole input and reads what the first cell reads: it must equal the source run."""
    embed = Node(plan.graph.by_role("embed")[0].name)
    first = plan.cells[0]
    return replace(first, passes=(Pass((Write(embed, None, SOURCE),), frozenset(), first.passes[-1].reads),))


def check(model: Model, reading: Reading, values: Mapping[Any, Tensor]) -> None:
    """Raise GuardError if a guard's run is not what it must be."""
    problem = NOTHING if reading.job.nothing else EVERYTHING
    check_same(model, (_pair(model, values, reading, number) for number in range(len(reading.reads))), problem)


def _pair(model: Model, values: Mapping[Any, Tensor], reading: Reading, number: int) -> tuple[Tensor, Tensor]:
    """What the guard's run is at a site, and what it must be: the base run, or the source run."""
    read, count = reading.reads[number], len(reading.job.examples)
    mine = read.runs >= 2 * count
    expected = read.base[mine] if reading.job.nothing else read.own[(read.runs >= count) & ~mine]
    return of_site(values, read, read.own[mine], model.saes), of_site(values, read, expected, model.saes)
