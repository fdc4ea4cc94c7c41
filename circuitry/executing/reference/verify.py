"""Comparison of the nnsight engine with the reference engine, on a few cells and examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ...errors import CircuitryError, GuardError
from ...models import Model
from ...planning import Metric, Plan
from ...prompting import Prompts
from ..effects import Effects, ends_at_logits
from ..metrics import evaluate
from ..rows.engine import run_plan
from .follow import distances, follow_all


def by_reference(model: Model, made: Plan, prompts: Prompts, metrics: Sequence[Metric], cells: Sequence[int]) -> list[Effects]:
    """Effects of some cells by the reference engine, all examples at once, one cell after the other; by each metric.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> from circuitry.planning import METRICS
    >>> by_reference(model, made, prompts, [METRICS["logit"]], [0])[0].effect.shape
    (1, 2)
    """
    clean, corrupted = (torch.from_numpy(t).to(model.device) for t in (prompts.clean, prompts.corrupted))
    base, other = (clean, corrupted) if made.base == "clean" else (corrupted, clean)
    where = {name: at.tolist() for name, at in prompts.where.items()}
    answer, foil = (torch.from_numpy(t).to(model.device) for t in (prompts.answer, prompts.foil))
    found = []
    for number in cells:
        path = made.cells[number].path
        read = follow_all(model.hf, path, base, other, where)
        if ends_at_logits(made):
            runs = [[evaluate(m, one, read[0][1][0], answer, foil) for one in read[0][1]] for m in metrics]
        else:
            away, patched = distances(read, prompts.stops.tolist())
            runs = [[torch.zeros_like(away), away, patched] for _ in metrics]
        found.append([[one.double().cpu().numpy() for one in of_metric] for of_metric in runs])
    by_metric = np.array(found).transpose(1, 2, 0, 3)
    return [Effects(patched - on_base, on_base, on_other) for on_base, on_other, patched in by_metric]


def check_comparable(made: Plan) -> None:
    """Refuse what the reference engine does not do, before anything runs. Raises CircuitryError.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> check_comparable(plan("mlp[0] -> logits", ct.graph("gpt2"), intervention="zero"))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: the reference engine only resamples, it has no 'zero'
    """
    if not made.intervention.from_other:
        raise CircuitryError(f"the reference engine only resamples, it has no {made.intervention.name!r}")


def verified(
    model: Model, made: Plan, prompts: Prompts, metrics: Sequence[Metric], effects: Sequence[Effects], count: int, memory: int
) -> str:
    """Compare cells spread over the table with the reference, and say so. Raises GuardError where they differ.

    Two engines that round to half precision differ by more than an error of either may be, so they are compared in float32;
    what that leaves out, how far half precision moves an effect, is said and is no error.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> table = ct.patch(model, task, "h[2] @ B+1 -> logits", verify=1, progress=False)
    >>> table.about["verified"].startswith("1 of 1 cells agree")
    True
    """
    few, wide = prompts.take(slice(2)), model.widened()
    picked = np.unique(np.linspace(0, len(made.cells) - 1, count).astype(int))
    ours = [
        replace(one, effect=one.effect[picked, : len(few)], base=one.base[:, : len(few)], other=one.other[:, : len(few)])
        for one in effects
    ]
    compared = ours
    if wide is not model:
        compared = run_plan(wide, replace(made, cells=tuple(made.cells[k] for k in picked)), few, metrics, memory=memory)
    most = 0.0
    for found, wanted in zip(compared, by_reference(wide, made, few, metrics, picked.tolist()), strict=True):
        error = _apart(found, wanted)
        if not error <= (1e-8 if wide.dtype == torch.float64 else 5e-3):
            raise GuardError(f"the nnsight engine and the reference differ by {error:.2g} (relative); no result is reported")
        most = max(most, error)
    closely = f"within {most:.0e} (relative)" if most else "exactly"
    said = f"{len(picked)} of {len(made.cells)} cells agree {closely} with the reference engine on {len(few)} examples"
    if wide is model:
        return said
    narrow = str(model.dtype).removeprefix("torch.")
    moved = max(_apart(one, exact) for one, exact in zip(ours, compared, strict=True))
    if not np.isfinite(moved):
        raise GuardError(f"in {narrow} some effects are not numbers, in float32 they are; no result is reported")
    return f"{said}, both in float32; {narrow} moves these effects by up to {moved:.1e} (relative)"


def _apart(one: Effects, other: Effects) -> float:
    """How far effects are apart, in units of the metric itself where that is more than 1."""
    return float(np.abs(one.effect - other.effect).max() / max(1.0, np.abs(one.base).max(), np.abs(one.other).max()))
