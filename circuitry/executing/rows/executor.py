"""The executor that runs every patched run as a whole row, from the first token and the first layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...models import Model
from ...planning import Plan
from ...prompting import Prompts
from ...team import Team
from .. import guards
from ..effects import Effects
from ..executor import ALONE, Cost
from ..metrics import Metric
from .chunks import chunks
from .engine import run_plan


class Rows:
    """Clean, corrupted and patched runs are rows of one batch; ``memory`` bounds one batch, in bytes.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> Rows(model, memory=1 << 28).cost(made, prompts)
    Cost(batches=1, token_layers=864)
    """

    name = "rows"

    def __init__(self, model: Model, *, memory: int, progress: bool = False) -> None:
        self.model, self.memory, self.progress = model, memory, progress

    def cost(self, plan: Plan, prompts: Prompts) -> Cost:
        """What ``run`` would take, without its guards."""
        batches = list(chunks(plan, self.model, len(prompts), prompts.length, self.memory))
        rows = sum(len(examples) * (2 + sum(len(plan.cells[k].passes) for k in cells)) for cells, examples in batches)
        return Cost(len(batches), rows * prompts.length * plan.graph.sizes["layer"])

    def run(
        self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, value: Any = None, extra: int = 0, team: Team = ALONE
    ) -> list[Effects]:
        """Effects by each metric (``Executor.run``)."""
        if team.mine(team.world - 1):  # who has as many batches as the others, or one less
            guards.check(self.model, plan, prompts, len(plan.cells) - extra)
        return run_plan(self.model, plan, prompts, metrics, memory=self.memory, value=value, progress=self.progress, team=team)
