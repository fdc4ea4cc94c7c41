"""The executor that runs every patched run as a whole row, from the first token and the first layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from ...models.model import Model
from ...planning.metrics import Metric
from ...planning.positions import absolute
from ...planning.values import Plan
from ...progress import bar
from ...prompting.prompts import Prompts
from ...team import Team
from ..constants import constant_values, cost_of_constants
from ..effects import Effects
from ..executor import ALONE, Cost
from ..moving import moving
from . import guarded
from .chunks import chunks
from .driver import run
from .measure import measured
from .schedule import schedule


class Rows:
    """Clean, corrupted and patched runs are rows of one batch; ``memory`` bounds one batch, in bytes.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> Rows(model, memory=1 << 28).cost(plan, prompts, [ct.planning.METRICS["logit"]])
    Cost(batches=1, token_layers=768, whole=768, short=0)
    """

    name = "rows"
    provenance: Mapping[str, str] = {}

    def __init__(self, model: Model, *, memory: int, progress: bool | None = False, team: Team = ALONE) -> None:
        self.model, self.memory, self.progress, self.team = model, memory, progress, team

    def cost(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> Cost:
        """What ``run`` would take, without its guards."""
        batches = list(chunks(plan, self.model, len(prompts), prompts.length, self.memory))
        rows = sum(len(examples) * (2 + sum(len(plan.cells[k].passes) for k in cells)) for cells, examples in batches)
        tokens = rows * prompts.length * plan.graph.sizes["layer"]
        return Cost(len(batches), tokens, tokens) + cost_of_constants(self.model, plan, prompts, self.memory)

    def described(self, plan: Plan, prompts: Prompts) -> Mapping[str, str]:
        """Nothing: every run is whole."""
        return {}

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> list[Effects]:
        """Effects by each metric (``Executor.run``)."""
        if self.team.mine(self.team.world_size - 1):  # the last process has as many batches as the others, or one less
            guarded.check(self.model, plan, prompts, len(plan.cells) - extra)
        return run_plan(self.model, plan, prompts, metrics, memory=self.memory, progress=self.progress, team=self.team)


def run_plan(
    model: Model,
    plan: Plan,
    prompts: Prompts,
    metrics: Sequence[Metric],
    *,
    memory: int,
    progress: bool | None = False,
    batch: Callable[..., list[Tensor]] = run,
    team: Team = ALONE,
) -> list[Effects]:
    """Run every cell on every example, in batches of predicted size under ``memory`` bytes; effects by each metric.

    If there are several processes, each runs its share of the batches.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> from circuitry.planning import METRICS
    >>> run_plan(model, plan, prompts, [METRICS["logit"]], memory=1 << 28)[0].effect.shape
    (1, 2)
    """
    filled = np.full((len(metrics), 3, len(plan.cells), len(prompts)), np.nan)
    work = team.part(list(chunks(plan, model, len(prompts), prompts.length, memory)))
    total = sum(len(cells) * len(examples) for cells, examples in work)
    with bar(total=total, desc=str(plan.path), unit="patch", show=progress) as shown:
        constants = constant_values(model, plan, prompts, memory)
        for cells, examples in work:
            part = prompts.take(examples)
            # Values made beforehand may have an entry for every position, padding included.
            part = part if plan.intervention.by_position else _trimmed(plan, part)
            laid = schedule(plan, [plan.cells[k] for k in cells], part)
            with moving(model, shown, len(cells) * len(examples)):
                values = batch(model, laid, part, constants)
            where = np.ix_(cells, examples)
            for number, metric in enumerate(metrics):
                for kind, got in enumerate(measured(values, laid.reading, part, metric, plan)):
                    filled[number, kind][where] = got
    return [Effects(*by_kind) for by_kind in filled]


def _trimmed(plan: Plan, prompts: Prompts) -> Prompts:
    """Without what follows the last END, unless the plan writes or reads there."""
    passes = [step for cell in plan.cells for step in cell.passes]
    ats = {at for step in passes for at in (*(w.at for w in step.writes), *(s.at for s in step.reads))}
    last = max((max(absolute(at, prompts.where)) for at in ats if at is not None), default=0)
    everywhere = any(site.at is None for step in passes for site in step.reads)
    return prompts.trimmed(max(last + 1, int(prompts.stops.max()) if everywhere else 0))
