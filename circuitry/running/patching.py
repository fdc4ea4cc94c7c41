"""The one call most users need: a model, a task and a path to a patching table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from ..errors import CircuitryError, GuardError
from ..models import Model
from ..paths import Node, Path, parse
from ..planning import CellPlan, Intervention, Plan, join, plan
from ..planning import explain as explain_plan
from ..prompting import Prompts, Task
from ..results import PatchingTable
from ..results.table import COLUMNS
from . import guards
from .baseline import DRAWN, random_cells, random_frame
from .chunks import parse_memory
from .engine import Effects, ends_at_logits, run_plan, unit_of
from .metrics import Metric, evaluate, metric
from .provenance import provenance
from .reference import follow

Engine = Literal["nnsight", "reference"]
Direction = Literal["noising", "denoising"]
Paths = Path | str | Mapping[Any, Path | str]
MetricLike = str | Callable[..., torch.Tensor]
AxisValues = Mapping[str, Sequence[int | str]]

RANDOM_NODES = 16
"""Random nodes that every table is compared with."""


def compile_path(
    model: Model,
    task: Task,
    path: Paths,
    freezing: Node | Sequence[Node] = (),
    axes: AxisValues | None = None,
    intervention: Intervention = "resample",
    direction: Direction = "noising",
    axis: str = "path",
) -> tuple[Plan, Prompts]:
    """The plan and the prompts of an experiment; what ``patch`` runs and ``explain`` prints.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> len(made.cells), len(prompts)
    (4, 2)
    """
    prompts = task.prompts(model.vocabulary)
    held = (freezing,) if isinstance(freezing, Node) else tuple(freezing)

    def compiled(one: Path | str) -> Plan:
        parsed = parse(one) if isinstance(one, str) else one
        return plan(
            parsed.freezing(*held) if held else parsed, model.graph, where=prompts.where, length=prompts.length,
            changed=prompts.differing, sweep=task.definition.sweep, axes=axes, intervention=intervention, direction=direction,
        )  # fmt: skip

    made = join({label: compiled(one) for label, one in path.items()}, axis) if isinstance(path, Mapping) else compiled(path)
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
    metric: MetricLike | Sequence[MetricLike] = "logit",
    intervention: Intervention = "resample",
    direction: Direction = "noising",
    value: Any = None,
    baseline: int = RANDOM_NODES,
    seed: int = 0,
    engine: Engine = "nnsight",
    verify: int = 0,
    memory: int | str = "512MiB",
    progress: bool = True,
    lint: bool = True,
) -> PatchingTable:
    """Patch a path and measure its effect: the table has one row per cell and example.

    Args:
        path: text, or a value made with operators; axes left open become axes of the table. Several paths with labels, as
            a mapping, make one table whose first axis, called ``axis``, has the labels.
        freezing: nodes to freeze on the last leg, added to those the path names.
        axes: values for open axes; by default every layer, head ..., and the task's sweep for positions.
        metric: "logit" (of the answer, the paper's), "logit_difference", "foil_logit", "probability",
            "log_probability", "kl", or a function (logits [row, vocab], answer [row], foil [row]) -> [row]. A path that ends at another node gives the
            L2 distance from the base run. Several metrics, as a list, are measured in one run and are the table's first axis.
        intervention: what the source becomes: "resample" (its value on the other prompt), "zero", "mean" (over the
            corrupted prompts) or "given" (``value``).
        direction: "noising" patches corrupted values into the clean run; "denoising" swaps the two.
        baseline: how many random nodes to patch in the same way, for comparison (``table.random``), drawn with ``seed``.
        engine: "nnsight", or "reference": plain PyTorch hooks, one cell at a time, slow.
        verify: check this many cells against the reference engine, on two examples each.
        memory: bound for one batch, bytes or text such as "2GiB".

    Raises PathError for a path that cannot be read or can have no effect, TaskError for a task the model cannot do,
    GuardError where a check of the run itself fails.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> table = ct.patch(model, task, "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state", progress=False)
    >>> table.axes, len(table.frame)
    (('layer',), 16)
    """
    made, prompts = compile_path(model, task, path, freezing, axes, intervention, direction, axis)
    several = _named(metric, made) if isinstance(metric, Sequence) and not isinstance(metric, str) else None
    wanted = [resolve_metric(one) for one in (_one(metric) if several is None else several.values())]
    chosen = [function for function, _ in wanted]
    if verify or engine == "reference":
        _check_comparable(made)
    if intervention == "given" and value is None:
        raise CircuitryError("intervention 'given' needs value=, a number or a tensor of the node's shape")
    extra: tuple[CellPlan, ...] = ()
    checked: dict[str, str] = {}
    if engine == "reference":
        effects = _by_reference(model, made, prompts, chosen, range(len(made.cells)))
    elif engine == "nnsight":
        guards.check(model, made, prompts)
        extra = random_cells(made, prompts, baseline, seed)
        every = replace(made, cells=made.cells + extra)
        effects = run_plan(model, every, prompts, chosen, memory=parse_memory(memory), value=value, progress=progress)
        if verify:
            checked = {"verified": _verify(model, made, prompts, chosen, effects, verify)}
    else:
        raise CircuitryError(f"no engine {engine!r}; known: nnsight, reference")
    if lint:
        check_baseline(effects[0], metric if several is None else next(iter(several.values())), made, task)
    tables = [
        _table(made, extra, one, unit, provenance(model, task, made, unit_of(made, unit), len(prompts)) | checked)
        for one, (_, unit) in zip(effects, wanted, strict=True)
    ]
    if several is None:
        return tables[0]
    alike = [replace(table, unit="change of the metric, each in its own unit") for table in tables]
    return PatchingTable.stack(dict(zip(several, alike, strict=True)), "metric", str(made.path))


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


def check_baseline(effects: Effects, metric: Any, made: Plan, task: Task) -> None:
    """Warn where there is nothing to explain: the two inputs do not differ in the metric.

    A path's effect is a part of the difference between the clean and the corrupted run; where that is within its own
    standard error of zero, no part of it means anything.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> one = np.ones((1, 2))
    >>> check_baseline(Effects(one, 5 + one, one), "logit", made, task)
    """
    if metric == "kl" or not ends_at_logits(made):
        return
    gap = (effects.base - effects.other).mean(0)
    spread = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else 0.0
    sign = 1 if made.base == "clean" else -1
    if sign * gap.mean() <= 2 * spread:
        warnings.warn(
            f"{task!r}: the model does no better on clean than on corrupted prompts ({gap.mean():.3g} +- {spread:.2g}), "
            "so there is no behaviour here to explain; try another distance or model, or lint=False",
            stacklevel=3,
        )


def _by_reference(model: Model, made: Plan, prompts: Prompts, metrics: Sequence[Metric], cells: Sequence[int]) -> list[Effects]:
    """Effects of some cells by the reference engine, all examples at once, one cell after the other; by each metric."""
    clean, corrupted = (torch.from_numpy(t).to(model.device) for t in (prompts.clean, prompts.corrupted))
    base, other = (clean, corrupted) if made.base == "clean" else (corrupted, clean)
    where = {name: at.tolist() for name, at in prompts.where.items()}
    answer, foil = (torch.from_numpy(t).to(model.device) for t in (prompts.answer, prompts.foil))
    found = []
    for number in cells:
        logits = follow(model.hf, made.cells[number].path, base, other, where)
        found.append([[evaluate(m, one, logits[0], answer, foil).double().cpu().numpy() for one in logits] for m in metrics])
    by_metric = np.array(found).transpose(1, 2, 0, 3)
    return [Effects(patched - on_base, on_base, on_other) for on_base, on_other, patched in by_metric]


def _check_comparable(made: Plan) -> None:
    """Refuse what the reference engine does not do, before anything runs."""
    if made.intervention != "resample":
        raise CircuitryError(f"the reference engine only resamples, it has no {made.intervention!r}")
    if not ends_at_logits(made):
        raise CircuitryError("the reference engine reports effects on the logits; use circuitry.running.reference.follow")


def _verify(model: Model, made: Plan, prompts: Prompts, metrics: Sequence[Metric], effects: Sequence[Effects], count: int) -> str:
    """Compare cells spread over the table with the reference, and say so. Raises GuardError where they differ."""
    few = prompts.take(slice(2))
    picked = np.unique(np.linspace(0, len(made.cells) - 1, count).astype(int))
    most = 0.0
    for found, wanted in zip(effects, _by_reference(model, made, few, metrics, picked.tolist()), strict=True):
        error = np.abs(found.effect[picked, : len(few)] - wanted.effect).max() / max(1.0, np.abs(found.base).max())
        if not error <= (1e-8 if model.dtype == torch.float64 else 5e-3):
            raise GuardError(f"the nnsight engine and the reference differ by {error:.2g} (relative); no result is reported")
        most = max(most, float(error))
    closely = f"within {most:.0e} (relative)" if most else "exactly"
    return f"{len(picked)} of {len(made.cells)} cells agree {closely} with the reference engine on {len(few)} examples"
