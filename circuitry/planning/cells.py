"""Open axes to cells: every combination of values gives one concrete path."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

from ..architecture.graph import Graph
from ..errors import CircuitryError
from ..paths.parse import parse_position
from ..paths.positions import Axis, Index, Position
from ..paths.values import Leg, Node, Path, Site
from .names import POSITION, axis_choices, axis_kinds, ranges
from .values import Cell, Value


def cells(
    path: Path, graph: Graph, sweep: Sequence[str] | None = None, chosen: Mapping[str, Sequence[Value]] | None = None
) -> list[Cell]:
    """Every cell of a path. ``sweep``: the positions an open position runs over; ``chosen``: values for named axes.

    Open indices of a latent or an error run over the nodes that have an autoencoder.

    Raises CircuitryError for an axis the path does not have or a value out of range.

    >>> import circuitry as ct
    >>> [c.values for c in cells(ct.parse("mlp[{layer}] -> logits"), ct.graph("gpt2", layer=2))]
    [(('layer', 0),), (('layer', 1),)]
    """
    chosen = dict(chosen or {})
    if unknown := [name for name in chosen if name not in path.axes]:
        raise CircuitryError(f"the path has no open axis {unknown[0]!r}; it has: {', '.join(path.axes) or 'none'}")
    domains = _domains(path, graph, sweep, chosen)
    combinations = itertools.product(*domains.values())
    every = [Cell(tuple(zip(domains, c, strict=True)), _filled(path, dict(zip(domains, c, strict=True)))) for c in combinations]
    return every if domains.keys() <= chosen.keys() else [cell for cell in every if not _lacks(cell.path, graph)] or every


def _lacks(path: Path, graph: Graph) -> bool:
    """Whether an end of the path is a term of a node without an autoencoder, or of all nodes of a layer."""
    return any(node.term and graph.canonical(node.host) not in graph.terms.latents for node in _ends(path))


def _ends(path: Path) -> list[Node]:
    return [site.node for site in (*path.sources, *(target for leg in path.legs for target in leg.targets))]


def _domains(
    path: Path, graph: Graph, sweep: Sequence[str] | None, chosen: Mapping[str, Sequence[Value]]
) -> dict[str, list[Value]]:
    """An index axis runs over what every family that uses it has, a position axis over the task's sweep, or as chosen."""
    kinds, domains = axis_kinds(path, graph), dict[str, list[Value]]()
    for name in path.axes:
        if kinds[name] != POSITION:
            indices = axis_choices(name, path, graph)
            domains[name] = _indices(name, chosen[name], indices, _why(name, path, graph)) if name in chosen else list(indices)
        elif name in chosen:
            domains[name] = _positions(name, chosen[name])
        elif sweep is None:
            raise CircuitryError(f"{{{name}}} is an open position, and without a task there is none to fill it with")
        else:
            domains[name] = list(dict.fromkeys(sweep))
    return domains


def _listed(name: str, values: Sequence[Value] | Value) -> list[Value]:
    """The values as a list; a single value counts as a list of one."""
    listed: list[Value] = [values] if isinstance(values, str | int) else list(values)
    if not listed:
        raise CircuitryError(f"no values for {{{name}}}; name at least one, or leave it out of axes for all")
    return listed


def _why(axis: str, path: Path, graph: Graph) -> str:
    """The nodes with autoencoders, if an open index is of a term: it has no other values than theirs."""
    terms = [node for node in _ends(path) if node.term and Axis(axis) in node.indices]
    return f"; {graph.terms.attached}" if terms else ""


def _indices(name: str, values: Sequence[Value], allowed: Sequence[int], why: str) -> list[Value]:
    listed = _listed(name, values)
    if wrong := [v for v in listed if isinstance(v, bool) or not isinstance(v, Integral) or v not in allowed]:
        raise CircuitryError(f"{name}={wrong[0]!r} is out of range; {{{name}}} has values {ranges(allowed)}{why}")
    return _once(name, listed, [int(v) for v in listed])


def _positions(name: str, values: Sequence[Value]) -> list[Value]:
    listed = _listed(name, values)
    return _once(name, listed, [str(parse_position(str(v))) for v in listed])


def _once(name: str, written: Sequence[Value], chosen: list[Any]) -> list[Value]:
    """The chosen values. Refuses two written values that mean the same, since their examples would count twice."""
    for number, value in enumerate(chosen):
        if value in chosen[:number]:
            first, second = written[chosen.index(value)], written[number]
            repeated = f"{first!r} twice" if first == second else f"{first!r} and {second!r}, which are the same"
            raise CircuitryError(
                f"{{{name}}} has {repeated}; name each value once, since a cell that comes twice counts its examples twice"
            )
    return chosen


def _filled(path: Path, values: Mapping[str, Value]) -> Path:
    """The path with its axes filled in."""

    def node(n: Node) -> Node:
        def index(i: Index) -> Index:
            return int(values[i.name]) if isinstance(i, Axis) else i

        term = replace(n.term, index=index(n.term.index)) if n.term and n.term.index is not None else n.term
        return replace(n, indices=tuple(map(index, n.indices)), term=term)

    def place(at: Position | None) -> Position | None:
        if at is None or not isinstance(at.base, Axis):
            return at
        return parse_position(str(values[at.base.name])) + at.offset

    def fill(members: tuple[Site, ...]) -> tuple[Site, ...]:
        return tuple(Site(node(s.node), place(s.at)) for s in members)

    def leg(open_leg: Leg) -> Leg:
        return Leg(
            fill(open_leg.targets), tuple(map(node, open_leg.frozen)), tuple(map(node, open_leg.exempt)), open_leg.directly
        )

    return Path(fill(path.sources), tuple(map(leg, path.legs)))
