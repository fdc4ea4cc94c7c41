"""The metrics that ``patch`` is asked for (names, functions, values, a task's own) as values. Those that no table could hold are refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..blame import blamed
from ..errors import CircuitryError, no_effect
from ..executing.effects import ends_at_latent, ends_at_logits
from ..executing.metrics import check_reads
from ..models.model import Model
from ..planning.metrics import METRICS, Metric, metric
from ..planning.values import Plan
from ..prompting.task import Task
from ..results.units import DISTANCE, LATENT

MetricLike = Metric | str | Callable[..., Any]


def is_several(asked: Any) -> bool:
    """Whether a list of metrics is asked for, which makes an axis even if the list has one entry.

    >>> is_several("logit"), is_several(["logit"])
    (False, True)
    """
    return isinstance(asked, Sequence) and not isinstance(asked, str)


def metrics(asked: MetricLike | Sequence[MetricLike] | None, task: Task, model: Model, plan: Plan) -> list[Metric]:
    """The metrics asked for; the answer's logit if none is.

    Raises CircuitryError for an unknown name, for two with one name, for one that reads other logits than it declares, and for any if
    the effect is a distance.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> [entry.name for entry in metrics(["kl", "logit"], task, model, plan)]
    ['kl', 'logit']
    """
    if asked is not None and not ends_at_logits(plan):
        shown = asked if isinstance(asked, str) else ...
        why = f"this path ends at {', '.join(map(str, plan.path.legs[-1].targets))}, where the effect is the {LATENT if ends_at_latent(plan) else DISTANCE}"
        raise no_effect("metric", shown, why, "leave metric out, or end the path at logits")
    if asked is None:
        return [METRICS["logit"]]
    if not isinstance(asked, Sequence) or isinstance(asked, str):
        return [metric_of(asked, task, model)]
    resolved = [metric_of(entry, task, model) for entry in asked]
    _check_names([entry.name for entry in resolved], plan)
    return resolved


def metric_of(asked: MetricLike, task: Task, model: Model) -> Metric:
    """One metric as a value. One of the task's own keeps the name that the task gives it, whatever its function is called.

    >>> import circuitry as ct
    >>> metric_of("kl", ct.task("induction"), ct.load("bundled:mamba")).name
    'kl'
    """
    if isinstance(asked, str) and asked in task.definition.metrics:
        with blamed(f"while task {task.name!r} made its metric {asked!r}"):
            custom = metric(task.definition.metrics[asked](model.vocabulary))
        unit = custom.unit if custom.unit != f"change of {custom.name}" else ""
        resolved = replace(custom, name=asked, unit=unit)
    else:
        resolved = metric(asked)
    check_reads(resolved, model.device)
    return resolved


def _check_names(names: Sequence[str], plan: Plan) -> None:
    """Refuse, before anything runs, what the table could not tell apart."""
    if not names:
        raise CircuitryError("no metric to measure; name at least one")
    if twice := [name for name in names if names.count(name) > 1]:
        raise CircuitryError(f"two metrics are called {twice[0]!r}; give each function a name of its own, and each metric once")
    if "metric" in plan.axes:
        raise CircuitryError("several metrics make an axis 'metric', so no other axis can be called that")
