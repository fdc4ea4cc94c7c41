"""A plan: plain data that says, for every cell of the table, which passes run, what they write, hold and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ..architecture import Graph
from ..errors import CircuitryError, PathError
from ..paths import Node, Path, Position, Site, parse
from .cells import Cell, Value, cells
from .effects import Changed, Where, check_effects
from .frozen import check_useful, ends, frozen_nodes, nodes_of
from .names import axis_kinds, check_names

Intervention = Literal["resample", "zero", "mean", "given"]
INTERVENTIONS: tuple[Intervention, ...] = ("resample", "zero", "mean", "given")


@dataclass(frozen=True)
class Write:
    """Put a value into a node at a position (None: all): ``value`` is "other", "zero", "mean", "given" or a pass number."""

    node: Node
    at: Position | None
    value: str | int


@dataclass(frozen=True)
class Pass:
    """One leg's forward pass on the base input: writes first, everything in ``holds`` at its base value, then reads."""

    writes: tuple[Write, ...]
    holds: frozenset[Node]
    reads: tuple[Site, ...]


@dataclass(frozen=True)
class CellPlan:
    """One cell of the table: its axis values, its path without open axes, and its passes; the last one's reading is the result."""

    values: tuple[tuple[str, Value], ...]
    path: Path
    passes: tuple[Pass, ...]


@dataclass(frozen=True)
class Plan:
    """What will run. ``base`` is the input that is patched and ``other`` the one its values come from.

    Noising has base "clean"; denoising swaps the two. ``skipped`` are cells whose effect is exactly zero by the graph, with
    the reason; they are not run. ``named`` holds the paths of a plan made of several (``join``), by the label of each.
    """

    path: Path
    graph: Graph
    axes: dict[str, str]
    cells: tuple[CellPlan, ...]
    skipped: tuple[tuple[Cell, str], ...]
    intervention: Intervention = "resample"
    base: Literal["clean", "corrupted"] = "clean"
    named: Mapping[str, Path] = field(default_factory=dict)

    @property
    def other(self) -> str:
        """The input whose values are patched in.

        >>> import circuitry as ct
        >>> plan("mlp[0] -> logits", ct.graph("gpt2")).other
        'corrupted'
        """
        return "corrupted" if self.base == "clean" else "clean"


def plan(
    path: Path | str,
    graph: Graph,
    *,
    where: Where | None = None,
    length: int | None = None,
    changed: Changed | None = None,
    sweep: Sequence[str] | None = None,
    axes: Mapping[str, Sequence[Value]] | None = None,
    intervention: Intervention = "resample",
    direction: Literal["noising", "denoising"] = "noising",
) -> Plan:
    """Compile a path for a graph; ``where``, ``length`` and ``changed`` describe a task's prompts, None where there is no task.

    Where the source takes its value on the other prompt, a source that no token in ``changed`` (the positions at which the two
    prompts of each example differ) can have reached has the same value on both, and so no effect.

    Raises PathError for a path that cannot be read, names what is not there, or can have no effect in any cell.

    >>> import circuitry as ct
    >>> made = plan("ssm_state[{layer}] @ 4 -> logits freezing ssm_state", ct.graph("mamba", layer=3))
    >>> len(made.cells), sorted(map(str, made.cells[1].passes[0].holds))
    (3, ['ssm_state[0]', 'ssm_state[2]'])
    """
    if intervention not in INTERVENTIONS:
        raise CircuitryError(f"no intervention {intervention!r}; known: {', '.join(INTERVENTIONS)}")
    if direction not in ("noising", "denoising"):
        raise CircuitryError(f"no direction {direction!r}; known: noising, denoising")
    parsed = parse(path) if isinstance(path, str) else path
    check_names(parsed, graph, None if where is None else where.keys())
    good, skipped, first = [], [], None
    every = cells(parsed, graph, sweep, axes)
    for cell in every:
        check_names(cell.path, graph, None if where is None else where.keys())
    check_useful(parsed, graph, [cell.path for cell in every])
    for cell in every:
        try:
            check_effects(cell.path, graph, where, length, changed if intervention == "resample" else None)
            good.append(cell_plan(cell, graph, intervention))
        except PathError as error:
            first = first or error
            skipped.append((cell, error.problem))
    if not good and first:
        raise first
    base: Literal["clean", "corrupted"] = "clean" if direction == "noising" else "corrupted"
    return Plan(parsed, graph, axis_kinds(parsed, graph), tuple(good), tuple(skipped), intervention, base)


def cell_plan(cell: Cell, graph: Graph, intervention: Intervention) -> CellPlan:
    """What runs for one cell.

    >>> import circuitry as ct
    >>> len(cell_plan(Cell((), ct.parse("mlp[0] -> mlp[1] -> logits")), ct.graph("gpt2"), "resample").passes)
    2
    """
    return CellPlan(cell.values, cell.path, _passes(cell.path, graph, intervention))


def join(plans: Mapping[str, Plan], axis: str) -> Plan:
    """Several plans of one graph as one, their labels as its first axis. Raises CircuitryError where they cannot share a table.

    >>> import circuitry as ct
    >>> made = join({"one": plan("mlp[0] -> logits", ct.graph("gpt2")), "other": plan("mlp[1] -> logits", ct.graph("gpt2"))}, "which")
    >>> [cell.values for cell in made.cells]
    [(('which', 'one'),), (('which', 'other'),)]
    """
    if not plans:
        raise CircuitryError("no path to patch; name at least one")
    first = next(iter(plans.values()))
    for label, one in plans.items():
        if one.path.axes != first.path.axes:
            raise CircuitryError(
                f"the paths of one table must have the same open axes; {label!r} has {one.path.axes}, not {first.path.axes}"
            )
        if _end(one) != _end(first):
            raise CircuitryError(f"the paths of one table must end alike; {label!r} ends at {_end(one)}, not {_end(first)}")
    if axis in first.path.axes:
        raise CircuitryError(f"{{{axis}}} is an open axis of the paths already; name the axis of their labels differently")
    cells = tuple(replace(c, values=((axis, label), *c.values)) for label, one in plans.items() for c in one.cells)
    skipped = tuple(
        (replace(c, values=((axis, label), *c.values)), why) for label, one in plans.items() for c, why in one.skipped
    )
    named = {label: one.path for label, one in plans.items()}
    return replace(first, axes={axis: "label", **first.axes}, cells=cells, skipped=skipped, named=named)


def _end(plan: Plan) -> str:
    return ", ".join(dict.fromkeys(plan.graph.family(site.node.family).name for site in plan.path.legs[-1].targets))


def _passes(path: Path, graph: Graph, intervention: Intervention) -> tuple[Pass, ...]:
    """One pass a leg: the first takes the other input's values, each later one what the leg before it read."""
    made, sources = [], path.sources
    for number, leg in enumerate(path.legs):
        value: str | int = number - 1 if number else {"resample": "other"}.get(intervention, intervention)
        writes = tuple(Write(node, s.at, value) for s in sources for node in nodes_of(s, graph))
        holds = frozen_nodes(graph, ends(sources, graph), ends(leg.targets, graph), leg)
        reads = tuple(Site(node, t.at) for t in leg.targets for node in nodes_of(t, graph))
        made.append(Pass(writes, frozenset(holds), reads))
        sources = leg.targets
    return tuple(made)
