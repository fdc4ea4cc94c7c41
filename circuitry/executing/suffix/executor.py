"""The executor that computes patched runs only where they can differ: from their first live layer, at their live tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ...models import Model
from ...models.packed import Ints
from ...paths import Node
from ...planning import CellPlan, Pass, Plan, Write
from ...planning.live import LiveSets
from ...prompting import Prompts
from ..constants import constant_values
from ..effects import Effects
from ..executor import Cost
from ..guards import check_same, sampled
from ..metrics import Metric
from .driver import Values, run
from .layout import Builder, Layout, Reading
from .measure import Measured, measure, of_site
from .rows import Job, Runs

_EXAMPLES = 2


@dataclass(frozen=True)
class Batch:
    """What shares one forward pass: some examples, and jobs on them (by number among these examples)."""

    examples: Ints
    jobs: tuple[Job, ...]


class Suffix:
    """Clean and corrupted runs are computed whole, once a batch, patched ones where they are live; ``memory`` bounds a batch, in bytes.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> Suffix(model, memory=1 << 28).run(made, prompts, [ct.executing.metrics.METRICS["logit"][0]])[0].effect.shape
    (4, 2)
    """

    name = "suffix"

    def __init__(self, model: Model, *, memory: int, progress: bool = False) -> None:
        self.model, self.memory, self.progress = model, memory, progress

    def cost(self, plan: Plan, prompts: Prompts) -> Cost:
        """What ``run`` would take, with its guards."""
        lives, count, tokens = LiveSets(plan.graph, prompts.length), 0, 0
        for batch in self._batches(plan, prompts, lives, 0):
            layout = self._layout(plan, prompts, lives, batch)
            count += 1
            tokens += sum(
                len(one)
                for region, one in layout.tokens.items()
                if not region.block and 0 <= region.layer < len(lives.regions.layers)
            )
        return Cost(count, tokens)

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, value: Any = None, extra: int = 0) -> list[Effects]:
        """Effects by each metric (``Executor.run``)."""
        filled = np.full((len(metrics), 3, len(plan.cells), len(prompts)), np.nan)
        constants = constant_values(self.model, plan, prompts, value, self.memory)
        lives = LiveSets(plan.graph, prompts.length)
        total = len(plan.cells) * len(prompts)
        with tqdm(total=total, desc=str(plan.path)[:60], unit="patch", disable=not self.progress, leave=False) as bar:
            for batch in self._batches(plan, prompts, lives, extra):
                part = prompts.take(batch.examples)
                layout = self._layout(plan, prompts, lives, batch)
                columns = self._columns(plan, part, metrics)
                values = run(self.model, layout, constants, columns)
                for reading in layout.readings:
                    self._fill(filled, reading, values, plan, part, metrics, columns, batch)
                    bar.update(len(reading.job.examples) * (reading.job.number >= 0))
        return [Effects(*one) for one in filled]

    def _fill(
        self, filled: Any, reading: Reading, values: Values, plan: Plan, part: Prompts, metrics: Sequence[Metric],
        columns: Tensor | None, batch: Batch,
    ) -> None:  # fmt: skip
        if reading.job.number < 0:
            check_same(self.model, *_guarded(reading, values))
            return
        where = reading.job.number, batch.examples[reading.job.examples]
        for number, metric in enumerate(metrics):
            found: Measured = measure(values, reading, part, metric, plan, columns is not None)
            for kind, got in enumerate(found):
                filled[(number, kind, *where)] = got

    def _columns(self, plan: Plan, part: Prompts, metrics: Sequence[Metric]) -> Tensor | None:
        """The logits of each example that the metrics read, where they do not read all of them."""
        return None

    def _layout(self, plan: Plan, prompts: Prompts, lives: LiveSets, batch: Batch) -> Layout:
        return Builder(Runs(plan, batch.jobs, prompts.take(batch.examples), lives), self.model.device).build()

    def _batches(self, plan: Plan, prompts: Prompts, lives: LiveSets, extra: int) -> list[Batch]:
        every = np.arange(len(prompts))
        jobs = [Job(number, cell, every) for number, cell in enumerate(plan.cells)]
        few = every[:_EXAMPLES]
        if plan.intervention == "resample":
            jobs += [Job(-1, plan.cells[k], few, nothing=True) for k in sampled(len(plan.cells) - extra)]
        jobs.append(Job(-2, _everything(plan), few))
        return [Batch(every, tuple(jobs))]


def _everything(plan: Plan) -> CellPlan:
    """The whole input replaced, read where the first cell is: it must be what the other run is."""
    embed = Node(plan.graph.by_role("embed")[0].name)
    first = plan.cells[0]
    return replace(first, passes=(Pass((Write(embed, None, "other"),), frozenset(), first.passes[-1].reads),))


def _guarded(reading: Reading, values: Mapping[Any, Tensor]) -> tuple[list[tuple[Tensor, Tensor]], str]:
    """What the guard's runs are at each site, and what they must be."""
    count, pairs = len(reading.job.examples), []
    for read in reading.reads:
        value = of_site(values, read)
        mine = torch.from_numpy(np.flatnonzero(read.runs >= 2 * count))
        if reading.job.nothing:
            wanted = torch.from_numpy(read.base)[mine]
            problem = "patching nothing does not give the unpatched run"
        else:
            order = {(run, k): where for run, k, where in _numbered(read.runs, read.own)}
            wanted = torch.tensor([order[run - count, k] for run, k, _ in _numbered(read.runs, read.own) if run >= 2 * count])
            problem = "patching the whole input does not give the other run"
        pairs.append((value[torch.from_numpy(read.own)[mine]], value[wanted]))
    return pairs, problem


def _numbered(runs: Ints, own: Ints) -> list[tuple[int, int, int]]:
    """Of every value that is read: its run, which of that run's it is, and where it stands."""
    seen: dict[int, int] = {}
    made = []
    for run_number, where in zip(runs.tolist(), own.tolist(), strict=True):
        seen[run_number] = seen.get(run_number, -1) + 1
        made.append((run_number, seen[run_number], where))
    return made
