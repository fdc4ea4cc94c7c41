"""The call that most users need: from a model and a task to its circuit."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ..errors import CircuitryError, expected
from ..executing.inputs import check_prompts
from ..executing.open import DEFAULT as EXECUTOR
from ..executing.open import ExecutorLike
from ..models.model import Model
from ..patching.measured import MetricLike, metric_of
from ..patching.options import check_given
from ..prompting.task import Task
from .positions import labels
from .question import Level, Question
from .wiring import Wiring


def asked(
    model: Model,
    task: Task,
    *,
    level: Level = "edge",
    positions: bool = True,
    metric: MetricLike = "logit_difference",
    direction: Literal["noising", "denoising"] = "noising",
    executor: ExecutorLike = EXECUTOR,
    seed: int = 0,
    progress: bool | None = None,
) -> Question:
    """The question that ``discover`` puts to a method, with everything checked.

    >>> import circuitry as ct
    >>> question = asked(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2))
    >>> len(question.items), question.labels.names[:3]
    (126, ('B', 'B+1', 'B+2'))
    """
    check_given(model, task)
    if level not in ("edge", "node"):
        raise CircuitryError(expected("level 'edge' or 'node'", level))
    if direction not in ("noising", "denoising"):
        raise CircuitryError(expected("direction 'noising' or 'denoising'", direction))
    prompts = task.prompts(model.vocabulary)
    check_prompts(model, prompts)
    used = prompts.trimmed()
    if direction == "denoising":
        used = replace(used, clean=used.corrupted, corrupted=used.clean)
    return Question(
        model, task, used, Wiring(model.graph), metric_of(metric, task, model), level, labels(used, apart=positions), direction,
        executor, seed=seed, progress=progress,
    )  # fmt: skip
