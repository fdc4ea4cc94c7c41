"""The one call most users need: a model, a task and a path to a patching table."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

import numpy as np
import torch

from ..errors import CircuitryError, GuardError
from ..models import Model
from ..paths import Node, Path, parse
from ..planning import Intervention, Plan, plan
from ..planning import explain as explain_plan
from ..prompting import Prompts, Task
from ..results import PatchingTable
from ..results.table import COLUMNS
from . import guards
from .chunks import parse_memory
from .engine import Effects, ends_at_logits, run_plan, unit_of
from .metrics import Metric, evaluate, metric
from .reference import follow

Engine = Literal["nnsight", "reference"]
Direction = Literal["noising", "denoising"]
AxisValues = Mapping[str, Sequence[int | str]]


def compile_path(
    model: Model,
    task: Task,
    path: Path | str,
    freezing: Node | Sequence[Node] = (),
    axes: AxisValues | None = None,
    intervention: Intervention = "resample",
    direction: Direction = "noising",
) -> tuple[Plan, Prompts]:
    """The plan and the prompts of an experiment; what ``patch`` runs and ``explain`` prints.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = compile_path(model, task, "h[{layer}] @ B+1 -> logits")
    >>> len(made.cells), len(prompts)
    (4, 2)
    """
    prompts = task.prompts(model.vocabulary)
    parsed = parse(path) if isinstance(path, str) else path
    held = (freezing,) if isinstance(freezing, Node) else tuple(freezing)
    parsed = parsed.freezing(*held) if held else parsed
    if taken := [axis for axis in parsed.axes if axis in COLUMNS]:
        raise CircuitryError(f"every table has a column {taken[0]!r}, so no axis can be called that; {{{taken[0]}s}} would do")
    made = plan(
        parsed, model.graph, where=prompts.where, length=prompts.length, sweep=task.definition.sweep, axes=axes,
        intervention=intervention, direction=direction,
    )  # fmt: skip
    return made, prompts


def patch(
    model: Model,
    task: Task,
    path: Path | str,
    *,
    freezing: Node | Sequence[Node] = (),
    axes: AxisValues | None = None,
    metric: str | Callable[..., torch.Tensor] = "logit",
    intervention: Intervention = "resample",
    direction: Direction = "noising",
    value: Any = None,
    engine: Engine = "nnsight",
    verify: int = 0,
    memory: int | str = "512MiB",
    progress: bool = True,
    lint: bool = True,
) -> PatchingTable:
    """Patch a path and measure its effect: the table has one row per cell and example.

    Args:
        path: text, or a value made with operators; axes left open become axes of the table.
        freezing: nodes to freeze on the last leg, added to those the path names.
        axes: values for open axes; by default every layer, head ..., and the task's sweep for positions.
        metric: "logit" (of the answer, the paper's), "logit_difference", "probability", "log_probability", "kl", or a
            function (logits [row, vocab], answer [row], foil [row]) -> [row]. A path that ends at another node gives the
            L2 distance from the base run.
        intervention: what the source becomes: "resample" (its value on the other prompt), "zero", "mean" (over the
            corrupted prompts) or "given" (``value``).
        direction: "noising" patches corrupted values into the clean run; "denoising" swaps the two.
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
    made, prompts = compile_path(model, task, path, freezing, axes, intervention, direction)
    chosen, unit = resolve_metric(metric)
    if verify or engine == "reference":
        _check_comparable(made)
    if intervention == "given" and value is None:
        raise CircuitryError("intervention 'given' needs value=, a number or a tensor of the node's shape")
    if engine == "reference":
        effects = _by_reference(model, made, prompts, chosen, range(len(made.cells)))
    elif engine == "nnsight":
        guards.check(model, made, prompts)
        effects = run_plan(model, made, prompts, chosen, memory=parse_memory(memory), value=value, progress=progress)
        if verify:
            _verify(model, made, prompts, chosen, effects, verify)
    else:
        raise CircuitryError(f"no engine {engine!r}; known: nnsight, reference")
    if lint:
        check_baseline(effects, metric, made, task)
    cells = [dict(cell.values) for cell in made.cells]
    unit = unit_of(made, unit)
    return PatchingTable.of(cells, effects.effect, effects.base, effects.other, unit, provenance(model, task, made, unit))


resolve_metric = metric


def explain(model: Model, task: Task, path: Path | str, **options: Any) -> str:
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


def _by_reference(model: Model, made: Plan, prompts: Prompts, chosen: Metric, cells: Sequence[int]) -> Effects:
    """Effects of some cells by the reference engine, all examples at once, one cell after the other."""
    from ..planning import cells as make_cells

    wanted = {c.values: c.path for c in make_cells(made.path, made.graph, [str(p) for p in _used(made)], _values(made))}
    clean, corrupted = (torch.from_numpy(t).to(model.device) for t in (prompts.clean, prompts.corrupted))
    base, other = (clean, corrupted) if made.base == "clean" else (corrupted, clean)
    where = {name: at.tolist() for name, at in prompts.where.items()}
    answer, foil = (torch.from_numpy(t).to(model.device) for t in (prompts.answer, prompts.foil))
    found = []
    for number in cells:
        logits = follow(model.hf, wanted[made.cells[number].values], base, other, where)
        found.append([evaluate(chosen, one, logits[0], answer, foil).double().cpu().numpy() for one in logits])
    on_base, on_other, on_patched = np.array(found).swapaxes(0, 1)
    return Effects(on_patched - on_base, on_base, on_other)


def _check_comparable(made: Plan) -> None:
    """Refuse what the reference engine does not do, before anything runs."""
    if made.intervention != "resample":
        raise CircuitryError(f"the reference engine only resamples, it has no {made.intervention!r}")
    if not ends_at_logits(made):
        raise CircuitryError("the reference engine reports effects on the logits; use circuitry.running.reference.follow")


def _used(made: Plan) -> list[Any]:
    """Positions that stand in the plan's cells, where the path leaves a position open."""
    names = [a for a, kind in made.axes.items() if kind == "position"]
    return list(dict.fromkeys(dict(c.values)[n] for c in made.cells for n in names))


def _values(made: Plan) -> dict[str, list[Any]]:
    return {a: list(dict.fromkeys(dict(c.values)[a] for c in made.cells)) for a in made.path.axes}


def _verify(model: Model, made: Plan, prompts: Prompts, chosen: Metric, effects: Effects, count: int) -> None:
    """Compare cells spread over the table with the reference. Raises GuardError where they differ."""
    few = prompts.take(slice(2))
    picked = np.unique(np.linspace(0, len(made.cells) - 1, count).astype(int))
    wanted = _by_reference(model, made, few, chosen, picked.tolist()).effect
    found = effects.effect[picked, : len(few)]
    error = np.abs(found - wanted).max() / max(1.0, np.abs(effects.base).max())
    if not error <= (1e-8 if model.dtype == torch.float64 else 5e-3):
        raise GuardError(f"the nnsight engine and the reference differ by {error:.2g} (relative); no result is reported")


def provenance(model: Model, task: Task, made: Plan, unit: str) -> dict[str, Any]:
    """What a reader needs to get the same numbers again.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> provenance(model, task, made, "logits")["path"]
    'h[2] @ B+1 -> logits'
    """
    return {
        "path": str(made.path),
        "model": model.name,
        "task": repr(task),
        "intervention": made.intervention,
        "base": made.base,
        "unit": unit,
        "seed": task.seed,
        "skipped": [f"{dict(cell.values)}: {reason}" for cell, reason in made.skipped],
        "versions": {name: _version(name) for name in ("circuitry-lm", "torch", "transformers", "nnsight")},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
