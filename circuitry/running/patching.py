"""The one call most users need: a model, a task and a path to a patching table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch

from ..errors import CircuitryError, no_effect
from ..executing.distributed import shared_by_all
from ..executing.effects import Effects, ends_at_logits, unit_of
from ..executing.inputs import check_prompts
from ..executing.memory import parse_memory
from ..executing.metrics import METRICS, metric
from ..executing.reference.verify import by_reference, check_comparable, verified
from ..executing.rows.executor import Rows
from ..models import Model
from ..paths import Node, Path, parse
from ..planning import CellPlan, Intervention, Plan, join, plan
from ..planning import explain as explain_plan
from ..prompting import Prompts, Task
from ..results import PatchingTable
from ..results.table import COLUMNS
from ..results.units import DISTANCE
from .baseline import DRAWN, random_cells, random_frame
from .cautions import check_baseline, check_distinct, check_preference
from .options import MEMORY, check_axis, check_given, check_value, random_nodes
from .provenance import provenance

Engine = Literal["nnsight", "reference"]
Direction = Literal["noising", "denoising"]
Paths = Path | str | Mapping[Any, Path | str]
MetricLike = str | Callable[..., torch.Tensor]
AxisValues = Mapping[str, Sequence[int | str]]
Lint = bool | Literal["prompts"]


def compile_path(
    model: Model,
    task: Task,
    path: Paths,
    freezing: Node | Sequence[Node] = (),
    axes: AxisValues | None = None,
    intervention: Intervention = "resample",
    direction: Direction = "noising",
    axis: str = "path",
    lint: Lint = True,
) -> tuple[Plan, Prompts]:
    """The plan and the prompts of an experiment; what ``patch`` runs and ``explain`` prints.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> len(made.cells), len(prompts)
    (4, 2)
    """
    check_given(model, task)
    check_axis(path, axis)
    prompts = task.prompts(model.vocabulary, lint=bool(lint))
    check_prompts(model, prompts)
    held = (freezing,) if isinstance(freezing, Node) else tuple(freezing)

    def compiled(one: Path | str) -> Plan:
        parsed = parse(one) if isinstance(one, str) else one
        return plan(
            parsed.freezing(*held) if held else parsed, model.graph, where=prompts.where, length=prompts.stops.tolist(),
            changed=prompts.differing, sweep=task.definition.sweep, axes=axes, intervention=intervention, direction=direction,
        )  # fmt: skip

    several = {label: compiled(one) for label, one in path.items()} if isinstance(path, Mapping) else None
    made = compiled(path) if not isinstance(path, Mapping) else join(several or {}, axis, prompts.where)
    if taken := [name for name in made.axes if name in (*COLUMNS, *DRAWN)]:
        raise CircuitryError(f"every table has a column {taken[0]!r}, so no axis can be called that; {{{taken[0]}s}} would do")
    return made, prompts


def patch(
    model: Model,
    task: Task,
    path: Paths,
    *,
    freezing: Node | Sequence[Node] = (),
    axes: AxisValues | None = None,
    axis: str = "path",
    metric: MetricLike | Sequence[MetricLike] | None = None,
    intervention: Intervention = "resample",
    direction: Direction = "noising",
    value: Any = None,
    baseline: int | None = None,
    seed: int = 0,
    engine: Engine = "nnsight",
    verify: int = 0,
    memory: float | str | None = None,
    progress: bool = True,
    lint: Lint = True,
) -> PatchingTable:
    """Patch a path and measure its effect: the table has one row per cell and example.

    Args:
        path: text, or a value made with operators; axes left open become axes of the table. Several paths with labels, as
            a mapping, make one table whose first axis, called ``axis``, has the labels.
        freezing: nodes to freeze on the last leg, added to those the path names.
        axes: values for open axes; by default every layer, head ..., and the task's sweep for positions.
        metric: "logit" (of the answer, the paper's, and what is measured if nothing is said), "logit_difference", "foil_logit",
            "probability", "log_probability", "kl", or a function (logits [row, vocab], answer [row], foil [row]) -> [row]. Several, as a
            list, are measured in one run and are the table's first axis. A path that ends at another node, or at a set, has no
            metric: its effect is the L2 distance from the base run over all that it reads.
        intervention: what the source becomes: "resample" (its value on the other prompt), "zero", "mean" (over the
            corrupted prompts) or "given" (``value``).
        direction: "noising" patches corrupted values into the clean run; "denoising" swaps the two.
        baseline: how many random nodes to patch in the same way, for comparison (``table.random``), drawn with ``seed``; 16 by
            default.
        engine: "nnsight", or "reference": plain PyTorch hooks, one cell at a time, slow; in float32 at least.
        verify: check this many cells against the reference engine, on two examples each. Of a model in half precision both
            engines run a copy in float32, and the table says how far rounding moved these effects.
        memory: bound for one batch, bytes or text such as "2GiB"; 512MiB by default.
        lint: refuse prompts that would make the experiment meaningless, and warn where the model does not do the task;
            "prompts" only refuses, False does neither.

    Raises PathError for a path that cannot be read or can have no effect, TaskError for a task that this model cannot be given,
    CircuitryError for an option that would have no effect, GuardError where a check of the run itself fails.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> table = ct.patch(model, task, "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state", progress=False)
    >>> table.axes, len(table.frame)
    (('layer',), 16)
    """
    count = random_nodes(engine, baseline, seed, verify, memory)
    made, prompts = compile_path(model, task, path, freezing, axes, intervention, direction, axis, lint)
    check_value(intervention, value)
    metric = _metric(_own_metrics(metric, task, model), made)
    several = _named(metric, made) if isinstance(metric, Sequence) and not isinstance(metric, str) else None
    wanted = [resolve_metric(one) for one in (_one(metric) if several is None else several.values())]
    chosen = [function for function, _ in wanted]
    preference = lint is True and not task.definition.copied and ends_at_logits(made)
    if preference:
        chosen.append(METRICS["logit_difference"][0])
    if verify or engine == "reference":
        check_comparable(made)
    extra: tuple[CellPlan, ...] = ()
    checked: dict[str, str] = {}
    if engine == "reference":
        effects = by_reference(model.widened(), made, prompts, chosen, range(len(made.cells)))
    elif engine == "nnsight":
        extra = random_cells(made, prompts, count, seed)
        every = replace(made, cells=made.cells + extra)
        bound = parse_memory(MEMORY if memory is None else memory)
        executor = shared_by_all(Rows(model, memory=bound, progress=progress))
        effects = executor.run(every, prompts, chosen, value=value, extra=len(extra))
        if verify:
            checked = {"verified": verified(model, made, prompts, chosen, effects, verify, bound)}
    else:
        raise CircuitryError(f"no engine {engine!r}; known: nnsight, reference")
    about = {} if prompts.distinct == len(prompts) else {"distinct_examples": prompts.distinct}
    if lint is True:
        check_distinct(prompts, task)
        check_baseline(effects[0], metric if several is None else next(iter(several.values())), made, task)
        if preference:
            check_preference(effects.pop(), made, task)
    tables = [
        _table(made, extra, one, unit, provenance(model, task, made, unit_of(made, unit), len(prompts)) | about | checked)
        for one, (_, unit) in zip(effects, wanted, strict=True)
    ]
    if several is None:
        return tables[0]
    return PatchingTable.of_metrics(dict(zip(several, tables, strict=True)), str(made.path))


def _own_metrics(metric: Any, task: Task, model: Model) -> Any:
    """Names of the task's own metrics replaced by what they stand for; everything else as it is."""
    if isinstance(metric, Sequence) and not isinstance(metric, str):
        return [_own_metrics(one, task, model) for one in metric]
    if not isinstance(metric, str) or metric not in task.definition.metrics:
        return metric
    own = task.definition.metrics[metric](model.vocabulary)

    def named(*of_rows: torch.Tensor) -> torch.Tensor:
        return own(*of_rows)  # type: ignore[no-any-return]

    named.__name__ = metric  # what the table calls it
    return named


def _metric(asked: MetricLike | Sequence[MetricLike] | None, made: Plan) -> MetricLike | Sequence[MetricLike]:
    """The metric asked for, or the usual one; refused for a path whose effect is a distance."""
    if asked is None or ends_at_logits(made):
        return "logit" if asked is None else asked
    shown = asked if isinstance(asked, str) else ...
    why = f"this path ends at {', '.join(map(str, made.path.legs[-1].targets))}, where the effect is the {DISTANCE}"
    raise no_effect("metric", shown, why, "leave metric out, or end the path at logits")


def _one(metric: Any) -> list[MetricLike]:
    return [metric]


def _named(metrics: Sequence[MetricLike], made: Plan) -> dict[str, MetricLike]:
    """Several metrics by name, refused before anything runs where the table could not tell them apart."""
    names = [one if isinstance(one, str) else getattr(one, "__name__", "metric") for one in metrics]
    if not names:
        raise CircuitryError("no metric to measure; name at least one")
    if twice := [name for name in names if names.count(name) > 1]:
        raise CircuitryError(f"two metrics are called {twice[0]!r}; give each function a name of its own, and each metric once")
    if "metric" in made.axes:
        raise CircuitryError("several metrics make an axis 'metric', so no other axis can be called that")
    return dict(zip(names, metrics, strict=True))


def _table(made: Plan, extra: tuple[CellPlan, ...], effects: Effects, unit: str, about: dict[str, Any]) -> PatchingTable:
    """The effects by one metric as a table, those of the random nodes beside them."""
    found, by_chance = effects.split(len(made.cells))
    cells = [dict(cell.values) for cell in made.cells]
    table = PatchingTable.of(cells, found.effect, found.base, found.other, unit_of(made, unit), about)
    return replace(table, random=random_frame(extra, by_chance) if extra else None)


resolve_metric = metric


def explain(model: Model, task: Task, path: Paths, **options: Any) -> str:
    """What ``patch`` would run, in words; takes its ``freezing``, ``axes``, ``intervention`` and ``direction``.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> print(ct.explain(model, task, "conv_in[1] @ B -> ssm_in[1] @ B+1").splitlines()[1])
      table      1 cell
    """
    made, prompts = compile_path(model, task, path, **options)
    return explain_plan(made, len(prompts))
