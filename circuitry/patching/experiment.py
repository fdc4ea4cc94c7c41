"""The one call most users need: a model, a task and a path to a patching table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from ..errors import CircuitryError
from ..executing.effects import Effects, ends_at_logits, unit_of
from ..executing.inputs import check_prompts
from ..executing.open import DEFAULT, ExecutorLike, open_executor
from ..models.model import Model
from ..paths.labelled import Labelled, labelled
from ..paths.parse import parse
from ..paths.values import Path
from ..planning.explain import explain as explain_plan
from ..planning.interventions import Intervention
from ..planning.metrics import METRICS, Metric
from ..planning.plan import join, plan
from ..planning.values import CellPlan, Plan
from ..prompting.prompts import Prompts
from ..prompting.task import Task
from ..results.measurements import COLUMNS
from ..results.table import PatchingTable
from .baseline import DRAWN, random_cells, random_frame
from .cautions import check_baseline, check_distinct, check_finite, check_preference
from .measured import MetricLike, is_several, metrics
from .options import RANDOM_NODES, RandomNodes, check_given, random_nodes
from .provenance import provenance

Direction = Literal["noising", "denoising"]
Paths = Path | str | Mapping[Any, Path | str] | Labelled
AxisValues = Mapping[str, Sequence[int | str]]
Lint = bool | Literal["prompts"]


def compile_path(
    model: Model,
    task: Task,
    path: Paths,
    *,
    axes: AxisValues | None = None,
    intervention: Intervention | str = "resample",
    direction: Direction = "noising",
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
    prompts = task.prompts(model.vocabulary, lint=bool(lint))
    check_prompts(model, prompts)

    def compiled(one: Path | str) -> Plan:
        return plan(
            parse(one) if isinstance(one, str) else one, model.graph, where=prompts.where, length=prompts.stops.tolist(),
            changed=prompts.differing, sweep=task.definition.sweep, axes=axes, intervention=intervention, direction=direction,
        )  # fmt: skip

    several = labelled("path", path) if isinstance(path, Mapping) else path
    if isinstance(several, Labelled):
        made = join({label: compiled(one) for label, one in several.paths.items()}, several.axis, prompts.where)
    else:
        made = compiled(several)
    if taken := [name for name in made.axes if name in (*COLUMNS, *DRAWN)]:
        raise CircuitryError(f"every table has a column {taken[0]!r}, so no axis can be called that; try {{{taken[0]}s}}")
    return made, prompts


def patch(
    model: Model,
    task: Task,
    path: Paths,
    *,
    axes: AxisValues | None = None,
    metric: MetricLike | Sequence[MetricLike] | None = None,
    intervention: Intervention | str = "resample",
    direction: Direction = "noising",
    baseline: int | RandomNodes = RANDOM_NODES,
    executor: ExecutorLike = DEFAULT,
    lint: Lint = True,
) -> PatchingTable:
    """Patch a path and measure its effect: the table has one row per cell and example.

    Args:
        path: text, or a value made with operators; axes left open become axes of the table. Several paths with labels, as
            a mapping, make one table whose first axis has the labels: ``ct.labelled("port", {...})`` names that axis.
        axes: values for open axes; by default every layer, head ..., and the task's sweep for positions.
        metric: "logit" (of the answer, the paper's, and what is measured if nothing is said), "logit_difference", "foil_logit",
            "probability", "log_probability", "kl", a function (logits [row, vocab], answer [row], foil [row]) -> [row], or a
            ``ct.Metric``. Several, as a list, are measured in one run and are the table's first axis. A path that ends at
            another node, or at a set, has no metric: its effect is the L2 distance from the base run over all that it reads.
        intervention: what the patched node becomes: "resample" (its value on the source prompt), "zero", "mean" (over the
            corrupted prompts), ``ct.given(2.0)`` (a number or a tensor of the node's shape), or a ``ct.Intervention``.
        direction: "noising" patches corrupted values into the clean run; "denoising" swaps the two.
        baseline: how many random nodes to patch in the same way, for comparison (``table.random``);
            ``ct.random_nodes(16, seed=3)`` draws others.
        executor: what runs the plan, by name or as ``ct.executor("rows", memory="2GiB", verify=3)``: a bound of memory, and
            how many cells are checked against the independent reference.
        lint: refuse prompts that would make the experiment meaningless, and warn where the model does not do the task;
            "prompts" only refuses, False does neither.

    Raises PathError for a path that cannot be read or can have no effect, TaskError for a task that this model cannot be given,
    CircuitryError for an option that would have no effect, GuardError where a check of the run itself fails.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> table = ct.patch(model, task, "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state")
    >>> table.axes, len(table.frame)
    (('layer',), 16)
    """
    made, prompts = compile_path(model, task, path, axes=axes, intervention=intervention, direction=direction, lint=lint)
    wanted, opened = metrics(metric, task, model, made), open_executor(executor, model)
    preference = lint is True and not task.definition.copied and ends_at_logits(made)
    chosen = [*wanted, METRICS["logit_difference"]] if preference else wanted
    extra = _random(made, prompts, baseline)
    effects = opened.run(replace(made, cells=made.cells + extra), prompts, chosen, extra=len(extra))
    for one, found in zip(chosen, effects, strict=True):
        check_finite(found, unit_of(made, one), model.dtype)
    if lint is True:
        check_distinct(prompts, task)
        check_baseline(effects[0], wanted[0], made, task)
        if preference:
            check_preference(effects.pop(), made, task)
    ran = {"executor": opened.name, **opened.provenance}
    tables = {
        one.name: _table(made, extra, found, one, provenance(model, task, made, one, prompts) | ran)
        for one, found in zip(wanted, effects, strict=True)
    }
    return PatchingTable.of_metrics(tables, made.title) if is_several(metric) else next(iter(tables.values()))


def _table(
    made: Plan, extra: tuple[CellPlan, ...], effects: Effects, metric: Metric, provenance: dict[str, Any]
) -> PatchingTable:
    """The effects by one metric as a table, those of the random nodes beside them."""
    found, by_chance = effects.split(len(made.cells))
    cells = [dict(cell.values) for cell in made.cells]
    table = PatchingTable.of(cells, found.effect, found.base, found.source, unit_of(made, metric), provenance)
    return replace(table, random=random_frame(extra, by_chance) if extra else None)


def _random(made: Plan, prompts: Prompts, baseline: int | RandomNodes) -> tuple[CellPlan, ...]:
    drawn = baseline if isinstance(baseline, RandomNodes) else random_nodes(baseline)
    return random_cells(made, prompts, drawn.count, drawn.seed)


def explain(
    model: Model,
    task: Task,
    path: Paths,
    *,
    axes: AxisValues | None = None,
    metric: MetricLike | Sequence[MetricLike] | None = None,
    intervention: Intervention | str = "resample",
    direction: Direction = "noising",
    baseline: int | RandomNodes = RANDOM_NODES,
    executor: ExecutorLike = DEFAULT,
    lint: Lint = True,
) -> str:
    """What ``patch`` would run, in words; it takes the same. Runs nothing.

    ``cost`` is what the executor expects of all cells, random nodes among them. ``live``, where the executor is one that computes only a
    part of a patched run, says of each pass which blocks give something new, and for how many tokens of the first prompt; everything else
    is what the run has that it is patched into.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> print(ct.explain(model, task, "conv_in[1] @ B -> ssm_in[1] @ B+1").splitlines()[1])
      table      1 cell
    """
    made, prompts = compile_path(model, task, path, axes=axes, intervention=intervention, direction=direction, lint=lint)
    opened, extra = open_executor(executor, model), _random(made, prompts, baseline)
    cost = opened.cost(replace(made, cells=made.cells + extra), prompts, metrics(metric, task, model, made), extra=len(extra))
    more = {**opened.described(made, prompts), "cost": f"{opened.name}, {len(prompts)} examples: {cost}"}
    return explain_plan(made, more)
