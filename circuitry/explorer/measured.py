"""The circuit of a suite with the cells of its tables: which cell an effect is from, which cells name a node, and its profile by position."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..drawing.circuit import NORMALIZED, Circuit, CircuitEdge, CircuitNode
from ..paths.values import Node, Site
from ..prompting.record import words as task_in_words
from ..reports.nodes import is_at, panels, site_of
from ..reports.run import Run
from ..results.cells import CellView, cells_of
from ..results.recorded import path_among, paths_of
from ..results.table import PatchingTable
from ..thresholds import SIGNIFICANT
from .file import significant
from .whole import Whole, whole_effect

_MEASURED = ("effect", "low", "high", "q", "cell", "prompts")
_SAME = 1e-9
"""Two numbers that a run computed once and wrote twice agree this well."""


@dataclass(frozen=True)
class NamedCell:
    """A cell of a table (numbered from 1) with the sites that its path patches (``sources``) and reads (``rest``)."""

    table: int
    cell: CellView
    sources: Sequence[Site]
    rest: Sequence[Site]
    effects: Sequence[float] = field(repr=False)

    def names(self, site: Site | None, source: bool = False) -> bool:
        """Whether its path names a site, or patches it if ``source``.

        >>> cell = NamedCell(1, None, [site_of("head[1,0].k @ B")], [], [])
        >>> cell.names(site_of("head[1,0]")), cell.names(site_of("head[1,1]"))
        (True, False)
        """
        return site is not None and any(is_at(each, site) for each in (self.sources if source else [*self.sources, *self.rest]))


def measured(run: Run, circuit: Circuit | None) -> dict[str, Any]:
    """What the page of a suite's run shows: its circuit, and the rows of its tables.

    >>> measured(Run(None, {}, {}), None)["nodes"]
    []
    """
    tables = list(run.tables.values())
    views = [(table, cells_of(table, number)) for number, table in enumerate(tables, 1)]
    cells = [named for number, (table, found) in enumerate(views, 1) for named in _named(number, table, found)]
    rows, whole = Rows(cells), whole_effect(run.provenance.get("task"), views)
    circuit = circuit or Circuit("", (), (), ())
    shown = panels(circuit, views)
    edges = [_edge(edge, cells, rows, whole) for edge in circuit.edges]
    nodes = [{**_node(panel.node, cells, rows, whole, edges), "rows": [rows.of(c) for group in panel.groups.values() for c in group], "total": panel.total,
              "profile": _profile(panel.node.name, cells, rows)} for panel in shown]  # fmt: skip
    inside = [[edge.source, edge.target] for edge in circuit.edges if not math.isfinite(edge.effect)]
    return {
        "level": "node",
        "unit": circuit.unit,
        "whole": 1.0 if circuit.unit == NORMALIZED else whole.mean,
        "whole_by_prompt": whole.prompts,
        "no_effect": whole.none,
        "examples": list(range(max((len(named.effects) for named in cells), default=0))),
        "measure": circuit.unit,
        "threshold": SIGNIFICANT,
        "start": 0,
        "scored": None,
        "positions": list(circuit.positions),
        "nodes": nodes,
        "edges": [edge for edge in edges if edge["effect"] is not None],
        "inside": inside,
        "curve": None,
        "profiles": {},
        "contexts": [],
        "tables": [_table(name, table) for name, table in run.tables.items()],
        "rows": rows.written(),
    }


def _table(name: str, table: PatchingTable) -> dict[str, Any]:
    return {
        "name": name,
        "title": str(table.provenance.get("title") or name),
        "path": str(table.provenance.get("path", "")),
        "unit": table.unit,
        "task": task_in_words(table.provenance.get("task"), without=table.axes),
        "note": str(table.provenance.get("note", "")),
    }


def _named(number: int, table: PatchingTable, cells: Sequence[CellView]) -> list[NamedCell]:
    paths, values, found = paths_of(table.provenance), table.values(), []
    for cell, effects in zip(cells, values, strict=True):
        path = path_among(paths, cell.values)
        sources = list(path.sources) if path else []
        rest = [target for leg in path.legs for target in leg.targets] if path else []
        found.append(NamedCell(number, cell, sources, rest, effects.tolist()))
    return found


class Rows:
    """The cells that the page shows, each written once.

    >>> Rows([]).written()
    []
    """

    def __init__(self, cells: Sequence[NamedCell]) -> None:
        self._cells = {named.cell.anchor: named for named in cells}
        self._used: dict[str, int] = {}

    def of(self, cell: CellView) -> int:
        """The number of a cell's row."""
        return self._used.setdefault(cell.anchor, len(self._used))

    def written(self) -> list[dict[str, Any]]:
        """The rows as plain data."""
        return [_row(self._cells[anchor]) for anchor in self._used]


def _row(named: NamedCell) -> dict[str, Any]:
    cell = named.cell
    numbers = {name: significant(getattr(cell, name), 7) for name in ("mean", "low", "high", "normalized", "q", "beyond")}
    return {"table": named.table - 1, "place": cell.place, **numbers, "prompts": [significant(v) for v in named.effects]}


def _node(
    node: CircuitNode, cells: Sequence[NamedCell], rows: Rows, whole: Whole, edges: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    fields = {"name": node.name, "position": node.position, "depth": node.depth, "role": node.role, "note": node.note}
    if node.role == "logits":
        return {**fields, **whole.logits(node.effect)}
    site = site_of(node.name)
    if site is None and node.role != "embed":  # a port of several heads, patched at once: no path has its name
        among = list(cells)
    else:
        among = [c for c in cells if c.names(site, source=True)] or [c for c in cells if c.names(site)]
    told = _from_cell(node.effect, among, rows, whole)
    # A token is not patched itself: it has the number of the head that reads it, and that is its arrow's.
    own = [edge for edge in edges if "cell" in edge and edge["source"] == node.name and _same(edge["effect"], node.effect)]
    return {**fields, **({name: own[0][name] for name in (*told, *_MEASURED)} if own and "cell" not in told else told)}


def _edge(edge: CircuitEdge, cells: Sequence[NamedCell], rows: Rows, whole: Whole) -> dict[str, Any]:
    """An edge with the cell that patches what it names, or else one that names either end."""
    if edge.patched:
        among = [c for c in cells if c.names(site_of(edge.patched), source=True)]
    else:
        among = [c for c in cells if any(c.names(site_of(end)) for end in (edge.source, edge.target))]
    fields = {"source": edge.source, "target": edge.target, "kind": edge.label, "patched": edge.patched}
    return {**fields, **_from_cell(edge.effect, among, rows, whole)}


def _from_cell(effect: float, cells: Sequence[NamedCell], rows: Rows, whole: Whole) -> dict[str, Any]:
    """An effect with the interval, q and effects by prompt of the cell that it is from; without these if no cell has this effect.

    A circuit has the normalized effects of cells or their means, and shares of the whole effect where a table's own corruption is another.
    """
    if not math.isfinite(effect):
        return {"effect": None}
    for scale_of in (_normalizing, lambda _: 1.0, lambda _: 1 / whole.mean if whole.mean else math.nan):
        for named in cells:
            cell, scale = named.cell, scale_of(named.cell)
            if _same(cell.mean * scale, effect):
                low, high = sorted((cell.low * scale, cell.high * scale))
                by_prompt = [significant(v * scale) for v in named.effects]
                return dict(zip(_MEASURED, (effect, low, high, cell.q, rows.of(cell), by_prompt), strict=True))
    return {"effect": effect}


def _normalizing(cell: CellView) -> float:
    return cell.normalized / cell.mean if cell.mean else math.nan


def _same(one: float, other: float) -> bool:
    return math.isfinite(one) and abs(one - other) <= _SAME * max(1.0, abs(other))


def _profile(name: str, cells: Sequence[NamedCell], rows: Rows) -> list[dict[str, Any]]:
    """For every table and port in which a node was patched at several positions, the rows of these positions."""
    site = site_of(name)
    if site is None:
        return []
    wanted = Site(Node(site.node.family, site.node.indices, term=site.node.term), None)
    series: dict[tuple[Any, ...], dict[str, int]] = {}
    for named in cells:
        own = [each for each in named.sources if is_at(each, wanted) and each.at is not None]
        if len(own) == 1 and len(named.sources) == 1 and math.isfinite(named.cell.mean):
            other = {axis: value for axis, value in named.cell.values.items() if axis != "position"}
            key = named.table, str(own[0].node), tuple(sorted((axis, str(value)) for axis, value in other.items()))
            series.setdefault(key, {})[str(own[0].at)] = rows.of(named.cell)
    return [
        {"table": table - 1, "node": node, "place": ", ".join(f"{axis} {value}" for axis, value in other), "positions": list(at), "rows": list(at.values())}
        for (table, node, other), at in series.items()
        if len(at) > 1
    ]  # fmt: skip
