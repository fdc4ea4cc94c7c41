"""The one call most users need: a model, a task and a path to a patching table."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import CircuitryError
from ..executing.answers import top_1
from ..executing.effects import Effects, ends_at_logits, unit_of
from ..executing.executor import Executor
from ..executing.inputs import check_prompts
from ..executing.open import DEFAULT, ExecutorLike, choice, open_executor
from ..models.model import Model
from ..paths.labelled import Labelled, labelled
from ..paths.parse import parse
from ..paths.values import Path, Site
from ..planning.explain import Explanation
from ..planning.explain import explain as explain_plan
from ..planning.interventions import Intervention
from ..planning.metrics import METRICS, Metric
from ..planning.plan import join, plan
from ..planning.values import CellPlan, Plan
from ..progress import slow
from ..prompting.prompts import Prompts
from ..prompting.task import Task
from ..prompting.texts import PromptTexts
from ..results.measurements import COLUMNS
from ..results.table import PatchingTable
from .baseline import DRAWN, Once, once, random_cells, random_frame
from .cautions import check_baseline, check_distinct, check_finite, check_preference
from .measured import MetricLike, is_several, metrics
from .options import RANDOM_NODES, RandomNodes, check_given, random_nodes
from .provenance import provenance

Direction = Literal["noising", "denoising"]
Paths = Path | str | Mapping[Any, Path | str] | Labelled
AxisValues = Mapping[str, Sequence[int | str]]
Lint = bool | Literal["prompts"]


@dataclass(frozen=True)
class Settings:
    """The options of ``patch`` and ``explain``, which are documented there."""

    axes: AxisValues | None = None
    metric: MetricLike | Sequence[MetricLike] | None = None
    intervention: Intervention | str = "resample"
    direction: Direction = "noising"
    baseline: int | RandomNodes = RANDOM_NODES
    executor: ExecutorLike = DEFAULT
    lint: Lint = True


@dataclass(frozen=True)
class Prepared:
    """An experiment before it runs. ``preference``: whether it also measures if the model prefers the answer to the foil."""

    plan: Plan
    prompts: Prompts
    metrics: list[Metric]
    executor: Executor
    random: tuple[CellPlan, ...]
    preference: bool

    @functools.cached_property
    def distinct(self) -> Once:
        """The plan's cells and then the random nodes, each experiment once: what runs."""
        return once(self.plan, self.random, self.prompts)

    @property
    def measured(self) -> list[Metric]:
        """The metrics asked for, and that of the preference."""
        return [*self.metrics, METRICS["logit_difference"]] if self.preference else self.metrics


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
    >>> plan, prompts = compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> len(plan.cells), len(prompts)
    (4, 2)
    """
    check_given(model, task)
    prompts = task.prompts(model.vocabulary, lint=bool(lint))
    check_prompts(model, prompts)

    def compile_one(single: Path | str) -> Plan:
        return plan(
            parse(single) if isinstance(single, str) else single, model.graph, where=prompts.where, length=prompts.stops.tolist(),
            changed=prompts.differing, sweep=task.definition.sweep, axes=axes, intervention=intervention, direction=direction,
        )  # fmt: skip

    several = labelled("path", path) if isinstance(path, Mapping) else path
    if isinstance(several, Labelled):
        compiled = join({label: compile_one(single) for label, single in several.paths.items()}, several.axis, prompts.where)
    else:
        compiled = compile_one(several)
    if clashing := [name for name in compiled.axes if name in (*COLUMNS, *DRAWN)]:
        raise CircuitryError(f"every table has a column {clashing[0]!r}, so no axis can be called that; try {{{clashing[0]}s}}")
    return compiled, prompts


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
        metric: "logit" (of the answer, as in the paper; the default), "logit_difference", "foil_logit",
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
        lint: refuse prompts that would make the experiment meaningless, and warn if the model does not do the task;
            "prompts" only refuses, False does neither. Unless it is False, and if the task's answer is in the prompt, the clean
            prompts run once more, and the caption says "below threshold" if too few have the answer on top.

    Raises PathError for a path that cannot be read or can have no effect, TaskError for a task whose prompts do not fit the model,
    CircuitryError for an option that would have no effect, GuardError if a check of the run itself fails.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> table = ct.patch(model, task, "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state")
    >>> table.axes, len(table.frame)
    (('layer',), 16)
    """
    settings = Settings(axes, metric, intervention, direction, baseline, executor, lint)
    ready = _prepared(model, task, path, settings)
    compiled, prompts, measures, extra = ready.plan, ready.prompts, ready.metrics, ready.random
    ran_once = ready.executor.run(ready.distinct.plan, prompts, ready.measured, extra=ready.distinct.extra)
    effects = [ready.distinct.every(one) for one in ran_once]
    for measure, result in zip(ready.measured, effects, strict=True):
        check_finite(result, unit_of(compiled, measure), model.dtype)
    if lint is True:
        check_distinct(prompts, task)
        check_baseline(effects[0], measures[0], compiled, task)
        if ready.preference:
            check_preference(effects.pop(), compiled, task)  # measured last, for this check only
    ran: dict[str, Any] = {"executor": ready.executor.name, **ready.executor.provenance}
    if lint and task.definition.copied:
        ran["top_1"] = round(top_1(model, prompts), 6)
    texts = PromptTexts.of(prompts, model.vocabulary)
    tables = {
        measure.name: _table(compiled, extra, result, measure, provenance(model, task, compiled, measure, prompts) | ran, texts)
        for measure, result in zip(measures, effects, strict=True)
    }
    return PatchingTable.of_metrics(tables, compiled.title) if is_several(metric) else next(iter(tables.values()))


def _table(
    compiled: Plan,
    extra: tuple[CellPlan, ...],
    effects: Effects,
    metric: Metric,
    provenance: dict[str, Any],
    prompts: PromptTexts,
) -> PatchingTable:
    """The effects by one metric as a table, with those of the random nodes."""
    measured, by_chance = effects.split(len(compiled.cells))
    cells = [dict(cell.values) for cell in compiled.cells]
    random, unit = random_frame(extra, by_chance) if extra else None, unit_of(compiled, metric)
    return PatchingTable.of(cells, measured.effect, measured.base, measured.source, unit, provenance, random, prompts)


def _prepared(model: Model, task: Task, path: Paths, settings: Settings) -> Prepared:
    """What both ``patch`` and ``explain`` begin with, so that one takes, refuses and counts what the other does."""
    with slow("planning the patches and drawing random nodes", show=choice(settings.executor).progress):
        compiled, prompts = compile_path(
            model,
            task,
            path,
            axes=settings.axes,
            intervention=settings.intervention,
            direction=settings.direction,
            lint=settings.lint,
        )
        measures, opened = metrics(settings.metric, task, model, compiled), open_executor(settings.executor, model)
        preference = settings.lint is True and not task.definition.copied and ends_at_logits(compiled)
        extra = _random(model, compiled, prompts, settings.baseline)
    return Prepared(compiled, prompts, measures, opened, extra, preference)


def _random(model: Model, compiled: Plan, prompts: Prompts, baseline: int | RandomNodes) -> tuple[CellPlan, ...]:
    drawn = baseline if isinstance(baseline, RandomNodes) else random_nodes(baseline)

    @functools.cache
    def live(site: Site) -> list[int]:
        """The latents that fire in some example there, or differ between its prompts if values come from the source prompt."""
        change, fires = model.changing(site.node.host, prompts, site.at)
        chosen = change > 0 if compiled.intervention.from_source else fires > 0
        return [int(latent) for latent in chosen.nonzero().flatten()]

    return random_cells(compiled, prompts, drawn.count, drawn.seed, live)


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
) -> Explanation:
    """What ``patch`` would run, in words, for the same arguments. Runs nothing.

    ``patches`` counts what the progress bar counts: every cell and every random node on every example. ``cost`` is what the executor
    expects for all of them. ``live`` is there if the executor computes only a part
    of a patched run. It lists for each pass the blocks that are computed, with the number of tokens of the first prompt; everything
    else equals the base run.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> print(ct.explain(model, task, "conv_in[1] @ B -> ssm_in[1] @ B+1").splitlines()[1])
      table      1 cell
    """
    ready = _prepared(model, task, path, Settings(axes, metric, intervention, direction, baseline, executor, lint))
    opened, prompts, distinct = ready.executor, ready.prompts, ready.distinct
    cost = opened.cost(distinct.plan, prompts, ready.measured, extra=distinct.extra)
    more = {
        **opened.described(ready.plan, prompts),
        "patches": _counted(len(ready.plan.cells), len(ready.random), distinct.extra, len(prompts)),
        "cost": f"{opened.name}, {len(prompts)} examples: {cost}",
    }
    return explain_plan(ready.plan, more)


def _counted(cells: int, random: int, extra: int, examples: int) -> str:
    """How many patched runs there are, as the progress bar counts them; random nodes that are cells already run once."""
    rows = f"{cells} cell{'s' * (cells != 1)}" + (f" and {random} random node{'s' * (random != 1)}" if random else "")
    again = f" ({random - extra} of these run already)" if extra < random else ""
    return f"{(cells + extra) * examples:,}: {rows}{again}, each on {examples} example{'s' * (examples != 1)}"
