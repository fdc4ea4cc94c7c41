"""A plan: plain data that says, for every cell of the table, which passes run, what they write, freeze and read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from ..architecture.graph import Graph
from ..errors import CircuitryError, PathError
from ..paths.parse import parse
from ..paths.values import Path, Site
from .arrivals import Changed
from .cells import cells
from .effects import check_effects
from .frozen import check_useful, ends, frozen_nodes, nodes_of
from .interventions import RESAMPLE, Intervention
from .interventions import intervention as resolve
from .names import POSITION, axis_kinds, check_names
from .positions import Lengths, Where
from .readings import read_at
from .twice import aliases, experiment
from .values import MADE, SOURCE, Cell, CellPlan, Pass, Plan, Sweep, Value, Write


def plan(
    path: Path | str,
    graph: Graph,
    *,
    where: Where | None = None,
    length: Lengths = None,
    changed: Changed | None = None,
    sweep: Sequence[str] | None = None,
    axes: Mapping[str, Sequence[Value]] | None = None,
    intervention: Intervention | str = RESAMPLE,
    direction: Literal["noising", "denoising"] = "noising",
) -> Plan:
    """Compile a path for a graph; ``where``, ``length`` and ``changed`` describe a task's prompts, None without a task.

    ``changed`` has the positions at which the two prompts of each example differ. A node that none of these can have reached has
    the same value on both prompts, so an intervention that puts in its value on the source prompt has no effect.

    ``length``: tokens of each prompt without its padding, or one number for all. Cells that can have no effect, lie outside of
    a prompt or repeat another one are left out, with the reason (``Plan.skipped``). Raises PathError for a path that cannot be
    read, that names what does not exist, or that can have no effect in any cell, CircuitryError for chosen
    values that name one thing twice.

    >>> import circuitry as ct
    >>> compiled = plan("ssm_state[{layer}] @ 4 -> logits freezing ssm_state", ct.graph("mamba", layer=3))
    >>> len(compiled.cells), sorted(map(str, compiled.cells[1].passes[0].frozen))
    (3, ['ssm_state[0]', 'ssm_state[2]'])
    """
    puts = resolve(intervention)
    if direction not in ("noising", "denoising"):
        raise CircuitryError(f"expected direction 'noising' or 'denoising', got {direction!r}")
    parsed = parse(path) if isinstance(path, str) else path
    check_names(parsed, graph, None if where is None else where.keys())
    good, skipped = dict[Hashable, CellPlan](), list[tuple[Cell, str]]()
    first: tuple[Cell, PathError] | None = None
    every = cells(parsed, graph, sweep, axes)
    repeated = _repeated(parsed, graph, where, Sweep(sweep or ()), axes or {})
    for cell in every:  # again, with axes filled in: a chosen position may be one that the task does not have
        check_names(cell.path, graph, None if where is None else where.keys())
    check_useful(parsed, graph, [cell.path for cell in every])
    for cell in every:
        if again := next((why for value in cell.values if (why := repeated.get(value))), None):
            skipped.append((cell, again))
            continue
        try:
            check_effects(cell.path, graph, where, length, changed if puts.from_source else None, hints=False)
            compiled = cell_plan(cell, graph, puts)
            if (twin := good.setdefault(experiment(cell.path, graph, where), compiled)) is not compiled:
                skipped.append((cell, f"the same experiment as {dict(twin.values)}"))
        except PathError as error:
            first = first or (cell, error)
            skipped.append((cell, error.problem))
    if not good and first:  # no cell is left, so the path itself is wrong
        check_effects(first[0].path, graph, where, length, changed if puts.from_source else None)
        raise first[1]
    base: Literal["clean", "corrupted"] = "clean" if direction == "noising" else "corrupted"
    return Plan(parsed, graph, axis_kinds(parsed, graph), tuple(good.values()), tuple(skipped), puts, base)


def _repeated(
    path: Path, graph: Graph, where: Where | None, sweep: Sweep, axes: Mapping[str, Sequence[Value]]
) -> dict[tuple[str, Value], str]:
    """Values of open positions that name the tokens of another one, with the reason to leave them out."""
    reasons: dict[tuple[str, Value], str] = {}
    for name, kind in axis_kinds(path, graph).items():
        values = axes.get(name, sweep)
        if kind == POSITION and not isinstance(values, str | int):
            same = aliases(name, values, where)
            reasons |= {(name, str(value)): f"{value} is {plain} in every example" for value, plain in same.items()}
    return reasons


def cell_plan(cell: Cell, graph: Graph, intervention: Intervention) -> CellPlan:
    """What runs for one cell.

    >>> import circuitry as ct
    >>> len(cell_plan(Cell((), ct.parse("mlp[0] -> mlp[1] -> logits")), ct.graph("gpt2"), RESAMPLE).passes)
    2
    """
    return CellPlan(cell.values, cell.path, _passes(cell.path, graph, intervention))


def join(plans: Mapping[str, Plan], axis: str, where: Where | None = None) -> Plan:
    """Several plans of one graph as one, their labels as its first axis. Raises CircuitryError if they cannot share a table.

    Two labels of one experiment cannot, since each of its examples would count twice.

    >>> import circuitry as ct
    >>> joined = join({"one": plan("mlp[0] -> logits", ct.graph("gpt2")), "other": plan("mlp[1] -> logits", ct.graph("gpt2"))}, "which")
    >>> [cell.values for cell in joined.cells]
    [(('which', 'one'),), (('which', 'other'),)]
    """
    if not plans:
        raise CircuitryError("no path to patch; name at least one")
    first = next(iter(plans.values()))
    for label, plan in plans.items():
        if plan.path.axes != first.path.axes:
            raise CircuitryError(
                f"the paths of one table must have the same open axes; {label!r} has {plan.path.axes}, not {first.path.axes}"
            )
        if _end(plan) != _end(first):
            raise CircuitryError(f"the paths of one table must end alike; {label!r} ends at {_end(plan)}, not {_end(first)}")
    if axis in first.path.axes:
        raise CircuitryError(f"{{{axis}}} is an open axis of the paths already; name the axis of their labels differently")
    _check_different(plans, where)
    cells = tuple(replace(c, values=((axis, label), *c.values)) for label, plan in plans.items() for c in plan.cells)
    skipped = tuple(
        (replace(c, values=((axis, label), *c.values)), why) for label, plan in plans.items() for c, why in plan.skipped
    )
    named = {label: plan.path for label, plan in plans.items()}
    return replace(first, axes={axis: "label", **first.axes}, cells=cells, skipped=skipped, named=named)


def _check_different(plans: Mapping[str, Plan], where: Where | None) -> None:
    labels: dict[Hashable, str] = {}
    for label, plan in plans.items():
        experiments = frozenset((cell.values, experiment(cell.path, plan.graph, where)) for cell in plan.cells)
        if (first := labels.setdefault(experiments, label)) != label:
            raise CircuitryError(
                f"the paths {first!r} and {label!r} are the same experiment; name it once, since each of its examples would count twice"
            )


def _end(plan: Plan) -> str:
    """What is read, in words. One reading of the logits has a metric and two of them have a distance, so both are named."""
    names = [plan.graph.family(site.node.family).name for site in plan.path.legs[-1].targets]
    return " and ".join(names if set(names) == {"logits"} else dict.fromkeys(names))


def _passes(path: Path, graph: Graph, intervention: Intervention) -> tuple[Pass, ...]:
    """One pass per leg: the first writes the source input's values, each later one what the leg before it read."""
    passes, sources = [], path.sources
    for number, leg in enumerate(path.legs):
        value: str | int = number - 1 if number else SOURCE if intervention.from_source else MADE
        writes = tuple(Write(node, s.at, value) for s in sources for node in nodes_of(s, graph))
        frozen = frozen_nodes(graph, ends(sources, graph), ends(leg.targets, graph), leg)
        reads = tuple(Site(node, read_at(t, graph)) for t in leg.targets for node in nodes_of(t, graph))
        passes.append(Pass(writes, frozenset(frozen), reads))
        sources = leg.targets
    return tuple(passes)
