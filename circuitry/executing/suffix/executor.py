"""The executor that computes patched runs only where they can differ: from their first live layer, at their live tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...models.model import Model
from ...planning.live import LiveSets, described
from ...planning.metrics import Metric
from ...planning.regions import Region
from ...planning.values import Plan
from ...progress import bar
from ...prompting.prompts import Prompts
from ...team import Team
from ..constants import constant_values, cost_of_constants
from ..effects import Effects, ends_at_logits
from ..executor import ALONE, Cost
from ..moving import moving
from . import guarded
from .batches import Batch, Size, batches, counts
from .builder import Builder
from .driver import run
from .layout import Layout
from .measure import measure
from .rows import Job, Runs, first_legs


class Suffix:
    """Clean and corrupted runs are whole, once per batch; patched ones are computed where they are live. ``memory`` bounds a batch, in bytes.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> Suffix(model, memory=1 << 28).run(plan, prompts, [ct.planning.METRICS["logit"]])[0].effect.shape
    (4, 2)
    """

    name = "suffix"
    provenance: Mapping[str, str] = {}

    def __init__(self, model: Model, *, memory: int, progress: bool | None = None, team: Team = ALONE) -> None:
        self.model, self.memory, self.progress, self.team = model, memory, progress, team

    def cost(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> Cost:
        """What ``run`` would take, with its guards."""
        lives, jobs = LiveSets(plan.graph, prompts.length), self._jobs(plan, prompts, extra)
        size = self._size(prompts, _narrow(plan, metrics))
        cut = batches(plan, jobs, prompts, lives, size)
        whole, _ = counts(plan, jobs, prompts, lives)
        shared = sum(int(whole[batch.examples, 0, :-1].sum()) for batch in cut)
        of_batches = (counts(plan, batch.jobs, prompts.take(batch.examples), lives)[1] for batch in cut)
        patched = sum(int(of_jobs[:, :, 0, :-1].sum()) for of_jobs in of_batches)
        legs = sum(len(job.examples) * len(job.cell.passes) for job in jobs)
        every = (2 * len(prompts) + legs) * prompts.length * plan.graph.sizes["layer"]
        least = max(size.of(of_example) for of_example in whole)
        cost = Cost(len(cut), shared + patched, every, least if least > self.memory else 0)
        return cost + cost_of_constants(self.model, plan, prompts, self.memory)

    def described(self, plan: Plan, prompts: Prompts) -> Mapping[str, str]:
        """For each pass, the blocks that are computed and the number of tokens of the first prompt."""
        return {f"live {leg.number + 1}": described(leg.live, plan.graph) for leg in first_legs(plan, prompts)}

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> list[Effects]:
        """Effects by each metric (``Executor.run``)."""
        filled = np.full((len(metrics), 3, len(plan.cells), len(prompts)), np.nan)
        lives, jobs = LiveSets(plan.graph, prompts.length), self._jobs(plan, prompts, extra)
        narrow = _narrow(plan, metrics)
        every = batches(plan, jobs, prompts, lives, self._size(prompts, narrow))
        work = self.team.part(every, [batch.tokens for batch in every])
        with bar(total=sum(map(_patches, work)), desc=str(plan.path), unit="patch", show=self.progress) as shown:
            constants = constant_values(self.model, plan, prompts, self.memory)
            for batch in work:
                part = prompts.take(batch.examples)
                layout = Builder(Runs(plan, batch.jobs, part, lives), self.model.device).build()
                with moving(self.model, shown, _patches(batch), _work(layout, len(lives.regions.layers))):
                    values = run(self.model, layout, constants, self._columns(part) if narrow else None)
                for reading in layout.readings:
                    if reading.job.number < 0:
                        guarded.check(self.model, reading, values)
                        continue
                    examples = batch.examples[reading.job.examples]
                    for number, metric in enumerate(metrics):
                        filled[number, :, reading.job.number][:, examples] = measure(
                            values, reading, part, metric, plan, narrow, self.model.saes
                        )
        return [Effects(*by_kind) for by_kind in filled]

    def _jobs(self, plan: Plan, prompts: Prompts, extra: int) -> list[Job]:
        """A job for every cell, and those of the guards."""
        cells = [Job(number, cell, np.arange(len(prompts))) for number, cell in enumerate(plan.cells)]
        return [*cells, *guarded.guards_of(plan, len(prompts), len(cells) - extra)]

    def _size(self, prompts: Prompts, narrow: bool) -> Size:
        model = self.model
        return Size(model.bytes_per_token(prompts.length), model.bytes_after(not narrow), model.bytes_per_state(), self.memory)

    def _columns(self, part: Prompts) -> Tensor:
        """The logits [example, 2] that these metrics read: the answer's and the foil's."""
        return torch.from_numpy(np.stack([part.answer, part.foil], 1)).to(self.model.device)


def _patches(batch: Batch) -> int:
    """Patched runs of a batch without those of the guards, as ``explain`` counts them."""
    return sum(len(job.examples) for job in batch.jobs if job.number >= 0)


def _work(layout: Layout, layers: int) -> list[int]:
    """The tokens that each layer computes."""
    return [len(layout.tokens[Region(layer)]) if Region(layer) in layout.tokens else 0 for layer in range(layers)]


def _narrow(plan: Plan, metrics: Sequence[Metric]) -> bool:
    """Whether all metrics need only the logits of answer and foil."""
    return ends_at_logits(plan) and all(metric.reads != "all" for metric in metrics)
