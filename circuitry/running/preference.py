"""Whether the model does a task whose answer stands nowhere in the prompt: it must prefer the answer to the foil."""

from __future__ import annotations

import warnings

import numpy as np

from ..planning import Plan
from ..prompting import Task
from .engine import Effects


def check_preference(effects: Effects, made: Plan, task: Task) -> None:
    """Warn where a task whose answer stands nowhere in the prompt is not done: the model does not prefer answer to foil.

    ``effects`` are those by the logit difference. On the clean prompts it must be over zero by more than its own standard
    error; that it is larger there than on the corrupted ones is what ``check_baseline`` asks of any metric.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> one = np.ones((1, 2))
    >>> check_preference(Effects(one, one, -one), made, task)
    """
    clean = (effects.base if made.base == "clean" else effects.other).mean(0)
    spread = clean.std(ddof=1) / np.sqrt(len(clean)) if len(clean) > 1 else 0.0
    if clean.mean() <= 2 * spread:
        warnings.warn(
            f"{task!r}: the model does not prefer the answer to the foil on clean prompts (logit difference {clean.mean():.3g} "
            f"+- {spread:.2g}, over zero in {int((clean > 0).sum())} of {len(clean)}), so there is no behaviour here to explain; "
            "try another model, or lint=False",
            stacklevel=3,
        )
