"""The executor that others are compared with: it follows paths by itself, with plain hooks, one cell and one run after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ...errors import CircuitryError
from ...models.model import Model
from ...paths.values import Path
from ...planning.metrics import Metric
from ...planning.values import Plan
from ...progress import bar
from ...prompting.prompts import Prompts
from ...team import Team
from ..effects import Effects, ends_at_latent, ends_at_logits
from ..executor import ALONE, Cost
from ..metrics import evaluate
from .follow import Unpatched, distances, follow_all, remembering


class Reference:
    """One cell at a time, with all examples at once, in float32 at least.

    It has no guards, since the other executors are compared with it.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> Reference(model).cost(plan, prompts, [ct.planning.METRICS["logit"]])
    Cost(batches=4, token_layers=768, whole=768, short=0)
    """

    name = "reference"
    provenance: Mapping[str, str] = {}

    def __init__(self, model: Model, *, memory: int = 0, progress: bool | None = None, team: Team = ALONE) -> None:
        self.model, self.progress, self.team = model, progress, team

    def cost(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> Cost:
        """What ``run`` would take: base and source, and every leg of each cell, one pass for each. Raises what ``run`` raises."""
        check_comparable(plan)
        passes = 2 + sum(len(cell.passes) for cell in plan.cells)
        tokens = passes * len(prompts) * prompts.length * plan.graph.sizes["layer"]
        return Cost(len(plan.cells), tokens, tokens)

    def described(self, plan: Plan, prompts: Prompts) -> Mapping[str, str]:
        """Nothing: every run is whole."""
        return {}

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> list[Effects]:
        """Effects by each metric (``Executor.run``). Raises CircuitryError for an intervention other than resampling."""
        check_comparable(plan)
        mine = self.team.part(range(len(plan.cells)))
        filled = np.full((len(metrics), 3, len(plan.cells), len(prompts)), np.nan)
        if mine:
            part = replace(plan, cells=tuple(plan.cells[number] for number in mine))
            for number, effects in enumerate(by_reference(self.model.widened(), part, prompts, metrics, self.progress)):
                filled[number][:, mine] = effects.effect, effects.base, effects.source
        return [Effects(*by_kind) for by_kind in filled]


def by_reference(
    model: Model, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], progress: bool | None = False
) -> list[Effects]:
    """Effects of all cells, all examples at once, one cell after the other; by each metric.

    >>> import circuitry as ct
    >>> from circuitry.planning import METRICS
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> by_reference(model, plan, prompts, [METRICS["logit"]])[0].effect.shape
    (1, 2)
    """
    unpatched = remembering()  # base and source run once, not for every cell
    by_cell = []
    with bar(total=len(plan.cells) * len(prompts), desc=str(plan.path), unit="patch", show=progress) as shown:
        for cell in plan.cells:
            by_cell.append(_runs(model, plan, cell.path, prompts, metrics, unpatched))
            shown.update(len(prompts))
    by_metric = np.array(by_cell).transpose(1, 2, 0, 3)
    return [Effects(patched - on_base, on_base, on_source) for on_base, on_source, patched in by_metric]


def _runs(
    model: Model, plan: Plan, path: Path, prompts: Prompts, metrics: Sequence[Metric], unpatched: Unpatched
) -> list[list[np.ndarray]]:
    """By each metric, what it is on the base, on the source and on the patched run [example]."""
    clean, corrupted = (torch.from_numpy(ids).to(model.device) for ids in (prompts.clean, prompts.corrupted))
    base, source = (clean, corrupted) if plan.base == "clean" else (corrupted, clean)
    where = {name: at.tolist() for name, at in prompts.where.items()}
    saes = {(node.family, tuple(int(str(i)) for i in node.indices), node.port or ""): sae for node, sae in model.saes.items()}
    read = follow_all(model.hf, path, base, source, where, saes, unpatched)
    runs: list[list[Tensor]]
    if ends_at_logits(plan):
        answer, foil = (torch.from_numpy(tokens).to(model.device) for tokens in (prompts.answer, prompts.foil))
        runs = [[evaluate(metric, logits, read[0][1][0], answer, foil) for logits in read[0][1]] for metric in metrics]
    elif ends_at_latent(plan):
        on_base, on_source, patched = read[0][1]
        runs = [[on_base, on_source, patched] for _ in metrics]
    else:
        source_distance, patched = distances(read, prompts.stops.tolist())
        runs = [[torch.zeros_like(source_distance), source_distance, patched] for _ in metrics]
    return [[values.double().cpu().numpy() for values in of_metric] for of_metric in runs]


def check_comparable(plan: Plan) -> None:
    """Refuse an intervention that the reference does not have, before anything runs. Raises CircuitryError.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> check_comparable(plan("mlp[0] -> logits", ct.graph("gpt2"), intervention="zero"))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: the reference can only resample, got intervention 'zero'
    """
    if not plan.intervention.from_source:
        raise CircuitryError(f"the reference can only resample, got intervention {plan.intervention.name!r}")
