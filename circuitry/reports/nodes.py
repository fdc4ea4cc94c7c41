"""The panel of a circuit's node: the cells of all tables whose path names it, and its edges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..drawing.circuit import Circuit, CircuitEdge, CircuitNode
from ..errors import CircuitryError
from ..paths.parse import parse
from ..paths.values import Path, Site
from ..results.cells import CellView
from ..results.recorded import path_among, paths_of
from ..results.table import PatchingTable

MOST = 24
"""A node's panel shows this many cells, first those that patch it; nearly every path reads the logits."""


@dataclass(frozen=True)
class Panel:
    """What a click on a node shows: its strongest cells by number of the experiment, their total number, and its edges."""

    node: CircuitNode
    groups: dict[int, list[CellView]]
    total: int
    edges: list[CircuitEdge]

    @property
    def shown(self) -> int:
        """The number of cells that the panel shows."""
        return sum(map(len, self.groups.values()))


def panels(circuit: Circuit, experiments: Sequence[tuple[PatchingTable, Sequence[CellView]]]) -> list[Panel]:
    """A panel for each node of the circuit, in its order; experiments are numbered from 1.

    >>> panels(Circuit("c", ("A",), (CircuitNode("mlp[0]", "A", 0, 1.0),), ()), [])[0].total
    0
    """
    paths = [paths_of(table.provenance) for table, _ in experiments]
    named = [
        (number, cell, *_ends(paths[number - 1], cell.values))
        for number, (_, cells) in enumerate(experiments, 1)
        for cell in cells
        if math.isfinite(cell.mean)
    ]
    results = []
    for node in circuit.nodes:
        wanted = site_of(node.name)
        patched = [(number, cell) for number, cell, sources, _ in named if _any(sources, wanted)]
        read = [(number, cell) for number, cell, sources, rest in named if _any(rest, wanted) and not _any(sources, wanted)]
        rows = sorted(patched, key=_weakness) + sorted(read, key=_weakness)
        groups: dict[int, list[CellView]] = {}
        for number, cell in rows[:MOST]:
            groups.setdefault(number, []).append(cell)
        edges = [edge for edge in circuit.edges if node.name in (edge.source, edge.target)]
        results.append(Panel(node, groups, len(rows), edges))
    return results


def _weakness(row: tuple[int, CellView]) -> float:
    """A sort key, strongest first: the normalized effect, which can be compared between tables of different units."""
    return -abs(row[1].normalized) if math.isfinite(row[1].normalized) else 0.0


def site_of(name: str) -> Site | None:
    """The site of a circuit's node; None for a name that is not a node of the model, such as "keys of these heads @ B".

    >>> site_of("head[1,0] @ B"), site_of("keys of these heads")
    (head[1,0] @ B, None)
    """
    try:
        return parse(f"{name} -> x").sources[0]  # a site can only be parsed as a part of a path
    except CircuitryError:
        return None


def is_at(site: Site, wanted: Site) -> bool:
    """Whether a site belongs to the ``wanted`` one: a port or a position that ``wanted`` leaves open matches any.

    >>> key = parse("head[1,0].k @ B -> logits").sources[0]
    >>> [is_at(key, parse(f"{name} -> x").sources[0]) for name in ("head[1,0]", "head[1,0] @ B", "head[1,0] @ A", "head[1,1]")]
    [True, True, False, False]
    """
    same = (site.node.family, site.node.indices) == (wanted.node.family, wanted.node.indices)
    return same and wanted.node.port in (None, site.node.port) and wanted.at in (None, site.at)


def _any(sites: Sequence[Site], wanted: Site | None) -> bool:
    return wanted is not None and any(is_at(site, wanted) for site in sites)


def _ends(paths: Mapping[str, Path], values: Mapping[str, Any]) -> tuple[list[Site], list[Site]]:
    """The sites that a cell's path patches and those that it reads, with axes filled in; frozen nodes are neither."""
    path = path_among(paths, values)
    if path is None:
        return [], []  # a table made by other means has a description instead of a path
    return list(path.sources), [target for leg in path.legs for target in leg.targets]
