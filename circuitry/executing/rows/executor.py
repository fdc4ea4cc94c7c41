"""The executor that runs every patched run as a whole row, from the first token and the first layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...models.model import Model
from ...planning.metrics import Metric
from ...planning.values import Plan
from ...prompting.prompts import Prompts
from ...team import Team
from ..constants import cost_of_constants
from ..effects import Effects
from ..executor import ALONE, Cost
from . import guarded
from .chunks import chunks
from .engine import run_plan


class Rows:
    """Clean, corrupted and patched runs are rows of one batch; ``memory`` bounds one batch, in bytes.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.patching.experiment.compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> Rows(model, memory=1 << 28).cost(made, prompts, [ct.planning.METRICS["logit"]])
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
        if self.team.mine(self.team.world - 1):  # who has as many batches as the others, or one less
            guarded.check(self.model, plan, prompts, len(plan.cells) - extra)
        return run_plan(self.model, plan, prompts, metrics, memory=self.memory, progress=self.progress, team=self.team)
