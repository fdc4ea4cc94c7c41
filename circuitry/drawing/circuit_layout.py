"""Places the boxes of a circuit: columns are token positions, rows are depths, and no two boxes overlap. Units are inches.

Positions without nodes are only as wide as their names, and depths without nodes have no row. So a circuit in layers 17 and 20
of 24 is as tall as one in layers 0 and 1.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ..colours import number
from .circuit import Circuit, CircuitNode
from .geometry import Box
from .paper import text_size

NAME_SIZE, NUMBER_SIZE, LABEL_SIZE, HEADING_SIZE = 7.0, 6.5, 6.2, 8.0  # points
PAGE = 7.0  # the text width of a two-column page; boxes side by side wrap so as not to exceed it
_MARGIN, _BESIDE, _STACKED, _COLUMN_GAP, _ROW_GAP, _LABELLED_GAP = 0.1, 0.12, 0.22, 0.26, 0.34, 0.4
_FOOT = 0.62  # position names and colour bar
_LEAST_WIDTH = 3.2

Slot: TypeAlias = tuple[str, float]


@dataclass(frozen=True)
class Layout:
    """Boxes by node name, columns as (position, left, right), ``bands`` of layers as (name, bottom, top), and the page's size."""

    boxes: dict[str, Box]
    columns: tuple[tuple[str, float, float], ...]
    bands: tuple[tuple[str, float, float], ...]
    width: float
    height: float


def lay_out(circuit: Circuit, page: float = PAGE) -> Layout:
    """Place every node of a circuit, on a page of this width in inches if there is any way.

    >>> a, b = CircuitNode("a", "A", 0, 1.0), CircuitNode("b", "B", 2, 1.0)
    >>> boxes = lay_out(Circuit("t", ("A", "B"), (a, b), ())).boxes
    >>> bool(boxes["a"].x < boxes["b"].x and boxes["a"].y < boxes["b"].y)
    True
    """
    cells: dict[Slot, list[CircuitNode]] = defaultdict(list)
    for node in circuit.nodes:
        cells[node.position, node.depth].append(node)
    most = max(map(len, cells.values()), default=1)
    left = _MARGIN + max((text_size(name, LABEL_SIZE)[0] for name, _ in _bands(circuit)), default=0.0) + _MARGIN
    # As many boxes on each line as the page is wide enough for; one in any case.
    per_line = next((k for k in range(most, 1, -1) if left + sum(_column_widths(circuit, cells, k)) <= page), 1)
    columns = _columns(circuit, _column_widths(circuit, cells, per_line), left)
    lines = {cell: _broken(nodes, per_line) for cell, nodes in cells.items()}
    boxes, rows = _boxes(circuit, lines, {name: (a + b) / 2 for name, a, b in columns})
    top = max((high for _, high in rows.values()), default=_FOOT + 0.4) + 0.5 * _ROW_GAP
    return Layout(boxes, columns, tuple(_spans(circuit, rows)), columns[-1][2] + _MARGIN if columns else _LEAST_WIDTH, top)


def _broken(nodes: list[CircuitNode], per_line: int) -> list[list[CircuitNode]]:
    """Nodes in lines of about the same length, the first line lowest."""
    count = math.ceil(len(nodes) / per_line)
    size = math.ceil(len(nodes) / count)
    return [nodes[i : i + size] for i in range(0, len(nodes), size)]


def _box_size(node: CircuitNode) -> tuple[float, float]:
    wide, high = text_size(node.text, NAME_SIZE)
    below, more = text_size(number(node.effect), NUMBER_SIZE) if number(node.effect) else (0.0, 0.0)
    return max(wide, below, 0.3) + 0.14, high + more + 0.1


def _line_width(line: list[CircuitNode]) -> float:
    return sum(_box_size(node)[0] for node in line) + _BESIDE * (len(line) - 1)


def _column_widths(circuit: Circuit, cells: dict[Slot, list[CircuitNode]], per_line: int) -> list[float]:
    widths = []
    for position in circuit.positions:
        lines = [line for (name, _), nodes in cells.items() if name == position for line in _broken(nodes, per_line)]
        widths.append(max([text_size(position, HEADING_SIZE, True)[0], *map(_line_width, lines)]) + _COLUMN_GAP)
    return widths


def _columns(circuit: Circuit, widths: list[float], left: float) -> tuple[tuple[str, float, float], ...]:
    spare = max(0.0, _LEAST_WIDTH - _MARGIN - left - sum(widths)) / max(len(widths), 1)
    columns = []
    for position, width in zip(circuit.positions, widths, strict=True):
        columns.append((position, left, left + width + spare))
        left += width + spare
    return tuple(columns)


def _boxes(
    circuit: Circuit, lines: dict[Slot, list[list[CircuitNode]]], centres: dict[str, float]
) -> tuple[dict[str, Box], dict[float, tuple[float, float]]]:
    """Boxes by name, and the bottom and top of the row of each depth."""
    boxes: dict[str, Box] = {}
    rows: dict[float, tuple[float, float]] = {}
    gaps = _gaps(circuit)
    high = max((_box_size(node)[1] for node in circuit.nodes), default=0.0)
    bottom = _FOOT + 0.5 * _ROW_GAP
    for depth in sorted({node.depth for node in circuit.nodes}):
        stacks = {position: stack for (position, d), stack in lines.items() if d == depth}
        count = max(map(len, stacks.values()))
        top = bottom + count * high + (count - 1) * _STACKED
        for position, stack in stacks.items():
            # Lines start at the bottom of their row in every column, so that arrows pass all of a line at the same height.
            for count, line in enumerate(stack):
                boxes |= _line_boxes(line, centres[position], bottom + count * (high + _STACKED) + high / 2, high)
        rows[depth], bottom = (bottom, top), top + gaps[depth]
    return boxes, rows


def _gaps(circuit: Circuit) -> dict[float, float]:
    """The gap above the row of each depth, larger if many arrows from other columns enter the next row."""
    gap = _LABELLED_GAP if any(edge.label for edge in circuit.edges) else _ROW_GAP
    nodes = {node.name: node for node in circuit.nodes}
    depths = sorted({node.depth for node in circuit.nodes})
    ends = [(nodes[edge.source], nodes[edge.target]) for edge in circuit.edges]
    crossing = Counter(target.depth for source, target in ends if source.position != target.position)
    above = dict(itertools.pairwise([*depths, math.inf]))
    return {depth: gap + min(0.4, 0.08 * max(0, crossing[above[depth]] - 1)) for depth in depths}


def _line_boxes(line: list[CircuitNode], centre: float, y: float, height: float) -> dict[str, Box]:
    boxes, left = {}, centre - _line_width(line) / 2
    for node in line:
        width = _box_size(node)[0]
        boxes[node.name] = Box(left + width / 2, y, width, height)
        left += width + _BESIDE
    return boxes


def _bands(circuit: Circuit) -> Iterator[tuple[str, list[float]]]:
    """The name and the depths of each layer; the embedding and the logits have their role as a name."""
    layers: dict[int, list[CircuitNode]] = defaultdict(list)
    for node in circuit.nodes:
        layers[math.floor(node.depth)].append(node)
    for layer, nodes in sorted(layers.items()):
        roles = {node.role for node in nodes}
        name = roles.pop() if len(roles) == 1 and roles <= {"embed", "logits"} else f"layer {layer}"
        yield name, sorted({node.depth for node in nodes})


def _spans(circuit: Circuit, rows: dict[float, tuple[float, float]]) -> Iterator[tuple[str, float, float]]:
    for name, depths in _bands(circuit):
        yield name, rows[depths[0]][0], rows[depths[-1]][1]
