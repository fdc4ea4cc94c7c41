"""The call that most users need: from a model and a task to its circuit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ..errors import CircuitryError, expected, whole
from ..executing.inputs import check_prompts
from ..executing.open import DEFAULT as EXECUTOR
from ..executing.open import ExecutorLike
from ..models.model import Model
from ..patching.experiment import patch
from ..patching.measured import MetricLike, metric_of
from ..patching.options import check_given
from ..patching.provenance import commit, versions
from ..prompting.task import Task
from .methods import DEFAULT
from .methods import method as named
from .methods.method import Method
from .positions import labels
from .question import Level, Question
from .result import Discovery
from .truth import patched
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
    (77, ('B', 'B+1', 'B+2'))
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


def discover(
    model: Model,
    task: Task,
    *,
    method: str | Method = DEFAULT,
    level: Level = "edge",
    positions: bool = True,
    metric: MetricLike = "logit_difference",
    direction: Literal["noising", "denoising"] = "noising",
    verify: int = 50,
    confirm: bool = True,
    executor: ExecutorLike = EXECUTOR,
    seed: int = 0,
    progress: bool | None = None,
) -> Discovery:
    """Rank every edge (or node) at every position by how much it carries of a task, and verify the best exactly.

    Args:
        model, task: as for ``circuitry.patch``.
        method: how effects are estimated: "block-ig" (the default), "eap", "atp-star", "relp", "eap-ig-inputs", "eap-ig-activations",
            "exact", "random", or a value with ``name``, ``scores`` and ``passes``.
        level: "edge" (from each node that writes to the stream to each that reads it, and inside blocks) or "node".
        positions: keep tokens apart, by the names of the task's positions; or add them up.
        metric, direction, executor: as for ``circuitry.patch``.
        verify: how many of the best are patched exactly.
        confirm: rank on the first half of the prompts and verify, score and test on the second. Otherwise all prompts are used
            for both, and no q is to be trusted, since what was chosen for a large effect is tested on the same prompts.
        seed: draws what is random: random circuits of a curve, the method "random".
        progress: show bars; by default where stderr is a terminal.

    Raises CircuitryError for options that do not fit, TaskError for a task whose prompts do not fit the model.

    >>> import circuitry as ct
    >>> found = discover(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8), verify=4)
    >>> found.ranking["edge"][0], found.ranking["position"][0]
    ('embed -> conv_in[1]', 'B')
    """
    ranked = asked(
        model, task, level=level, positions=positions, metric=metric, direction=direction, executor=executor, seed=seed,
        progress=progress,
    )  # fmt: skip
    chosen, count = named(method), whole("verify", verify)
    confirming = ranked
    if confirm:
        examples = np.arange(len(ranked.prompts))
        if len(examples) < 4:
            raise CircuitryError(f"{len(examples)} prompts cannot be halved; use at least 4 examples, or confirm=False")
        ranked, confirming = ranked.part(examples[::2]), ranked.part(examples[1::2])
    scores = chosen.scores(ranked)
    whole_prompts = patch(model, task, "embed -> logits", metric=metric, direction=direction, baseline=0, executor=executor)
    ends = whole_prompts.values("base")[0], whole_prompts.values("source")[0]
    found = Discovery(ranked, confirming, chosen.name, scores, {}, ends)
    exact = patched(confirming, found.cells(count))
    return replace(found, exact=exact, provenance=_provenance(found, verify=count, confirm=confirm))


def _provenance(found: Discovery, **options: Any) -> dict[str, Any]:
    question = found.question
    return {
        "path": f"{question.level}s by {found.method}",
        "title": f"Discovered {question.level}s, {question.task.name} in {question.model.name}",
        "model": question.model.name,
        **commit(question.model),
        "task": question.task.record,
        "method": found.method,
        "metric": question.metric.name,
        "direction": question.direction,
        "unit": question.metric.unit,
        "never_negative": [] if question.metric.signed else [question.metric.unit],
        "ranked_on": len(question.prompts),
        "confirmed_on": len(found.confirming.prompts),
        "versions": versions(),
        **options,
    }
