"""Warnings about tables that mean little: prompts repeat, or the model does not do the task."""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import GuardError
from ..executing.effects import Effects, ends_at_logits
from ..planning.metrics import Metric
from ..planning.values import Plan
from ..prompting.prompts import Prompts
from ..prompting.task import Task


def check_distinct(prompts: Prompts, task: Task) -> None:
    """Warn if examples repeat a prompt: statistics over n examples then rest on fewer prompts.

    >>> import circuitry as ct
    >>> task = ct.task("induction", distance=8, examples=2)
    >>> check_distinct(task.prompts(ct.load("bundled:mamba").vocabulary), task)
    """
    if (distinct := prompts.distinct) < len(prompts):
        warnings.warn(
            f"{task!r}: only {distinct} of its {len(prompts)} prompts are different, so intervals and stars rest on fewer prompts "
            f"than they count; ask for examples={distinct} or fewer, or lint=False",
            stacklevel=3,
        )


def check_finite(effects: Effects, what: str, dtype: object) -> None:
    """Refuse effects that are not finite numbers: a table would take them for missing examples and average over the others.

    Raises GuardError with their number.

    >>> import torch
    >>> check_finite(Effects(np.array([[np.inf, 1]]), np.zeros((1, 2)), np.ones((1, 2))), "change of y", torch.float16)
    Traceback (most recent call last):
    circuitry.errors.GuardError: change of y is not a finite number in 1 of 2 examples; it was computed in torch.float16, so a wider dtype or a smaller given value may do
    """
    wrong = ~(np.isfinite(effects.effect) & np.isfinite(effects.base) & np.isfinite(effects.source))
    if wrong.any():
        raise GuardError(
            f"{what} is not a finite number in {wrong.any(0).sum()} of {wrong.shape[1]} examples; it was computed in {dtype}, "
            "so a wider dtype or a smaller given value may do"
        )


def check_baseline(effects: Effects, metric: Metric, plan: Plan, task: Task) -> None:
    """Warn if there is nothing to explain: the two inputs do not differ in the metric.

    A path's effect is a part of the difference between the clean and the corrupted run; if that is not
    above zero by two standard errors, no part of it means anything.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> ones = np.ones((1, 2))
    >>> check_baseline(Effects(ones, 5 + ones, ones), ct.patching.METRICS["logit"], plan, task)
    """
    if not (ends_at_logits(plan) and metric.needs_gap):
        return
    gap = (effects.base - effects.source).mean(0)
    spread = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else 0.0
    sign = 1 if plan.base == "clean" else -1
    if sign * gap.mean() <= 2 * spread:
        warnings.warn(
            f"{task!r}: the model does no better on clean than on corrupted prompts ({gap.mean():.3g} +- {spread:.2g}), "
            "so there is nothing to explain here; try another distance or model, or lint=False",
            stacklevel=3,
        )


def check_preference(effects: Effects, plan: Plan, task: Task) -> None:
    """Warn if the model does not prefer the answer to the foil, in a task whose prompts do not contain the answer.

    ``effects`` are those by the logit difference. On the clean prompts it must be above zero by two standard errors.
    ``check_baseline`` checks for every metric that it is larger there than on the corrupted prompts.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> ones = np.ones((1, 2))
    >>> check_preference(Effects(ones, ones, -ones), plan, task)
    """
    clean = (effects.base if plan.base == "clean" else effects.source).mean(0)
    spread = clean.std(ddof=1) / np.sqrt(len(clean)) if len(clean) > 1 else 0.0
    if clean.mean() <= 2 * spread:
        warnings.warn(
            f"{task!r}: the model does not prefer the answer to the foil on clean prompts (logit difference {clean.mean():.3g} "
            f"+- {spread:.2g}, over zero in {int((clean > 0).sum())} of {len(clean)}), so there is nothing to explain here; "
            "try another model, or lint=False",
            stacklevel=3,
        )
