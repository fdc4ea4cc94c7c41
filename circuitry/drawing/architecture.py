"""Draws one layer of an architecture: families and ports as boxes, the residual stream at the left, inputs at the bottom.

An arrow without a label stays at the same token. Any other label is the graph's rule for the move between tokens.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..architecture.graph import Graph
from ..colours import DARK, FAINT_ON_PALE, FAMILIES, GREY, INK, MOVES, ON_PALE, STREAM, STREAM_FILL
from .architecture_layer import Key, Layer, collapse
from .geometry import Box, Points, fan, sampled
from .layered import layered
from .paper import Page, text_size
from .routing import place_label, through

_NAME_SIZE, _SHAPE_SIZE, _RULE_SIZE, _TITLE_SIZE = 7.0, 5.6, 6.5, 8.5  # points
_ROW, _HEIGHT, _GAP, _MARGIN, _FOOT, _HEAD = 0.5, 0.29, 0.14, 0.14, 0.46, 0.5  # inches
_LOOP, _APART = 0.24, 0.05  # inches: how far a backward arrow bends outwards; stream arrows from the middle of their box
NOTE = "Arrows without a label stay at the same token."


@dataclass(frozen=True)
class Plan:
    """Boxes, the lanes of arrows that span several rows, and the size of the page. All are in inches."""

    boxes: dict[Key, Box]
    lanes: dict[tuple[Key, Key], list[Box]]
    width: float
    height: float


def draw_layer(graph: Graph, layer: int = 0, ax: Axes | None = None) -> Figure:
    """A diagram of one layer of a model, on a new figure of its natural size or shrunk onto given axes.

    Raises CircuitryError for a layer the model does not have.

    >>> import circuitry as ct
    >>> texts = [text.get_text() for text in draw_layer(ct.graph("gpt_neox")).get_axes()[0].texts]
    >>> "head[l,0..11].q" in texts, "causal" in texts
    (True, True)
    """
    collapsed = collapse(graph, layer)
    plan = _plan(collapsed)
    page = Page(plan.width, plan.height, ax)
    title = f"{graph.name}: one of {graph.sizes['layer']} layers"
    page.text(_MARGIN, plan.height - 0.17, title, _TITLE_SIZE, bold=True, ha="left")
    page.text(_MARGIN, 0.12, NOTE, _SHAPE_SIZE, color=GREY, ha="left")
    _draw_arrows(page, collapsed, plan)
    _draw_boxes(page, collapsed, plan)
    return page.figure


def _plan(layer: Layer) -> Plan:
    """The stream in a column at the left, everything else in rows by the longest path from the stream."""
    widths = {key: _width(layer, key) for key in layer.nodes}
    stream = max((width for key, width in widths.items() if layer.in_stream(key)), default=0.0)
    links = [edge for edge in layer.edges if not layer.backward(edge) and not all(map(layer.in_stream, edge))]
    spaces = {key: width + _loop_space(layer, key) for key, width in widths.items() if not layer.in_stream(key)}
    placed = layered(layer.rows, spaces, links, _GAP)
    left = _MARGIN + stream + 0.25
    xs = {key: _MARGIN + stream / 2 if layer.in_stream(key) else left + placed.x[key] for key in widths}
    boxes = {key: Box(x, _level(layer.rows[key]), widths[key], _HEIGHT) for key, x in xs.items()}
    lanes = {
        edge: [Box(left + x, _level(row), 0.0, _HEIGHT) for row, x in enumerate(lane_xs, layer.rows[edge[0]] + 1)]
        for edge, lane_xs in placed.lanes.items()
    }
    ends = [left + placed.x[key] + space / 2 for key, space in spaces.items()]
    right = max([*ends, *(lane.x for row in lanes.values() for lane in row), _MARGIN + stream])
    return Plan(boxes, lanes, right + _MARGIN, _level(max(layer.rows.values())) + _HEIGHT / 2 + _HEAD)


def _width(layer: Layer, key: Key) -> float:
    return max(text_size(layer.label(key), _NAME_SIZE)[0], text_size(layer.shape(key), _SHAPE_SIZE)[0]) + 0.16


def _level(row: int) -> float:
    return _FOOT + _HEIGHT / 2 + row * _ROW


def _loop_space(layer: Layer, key: Key) -> float:
    """Room on both sides of a box for a backward arrow and half of its label."""
    rules = [layer.rule(edge) for edge in layer.edges if layer.backward(edge) and key in edge]
    return 2 * max((_LOOP + text_size(rule, _RULE_SIZE)[0] / 2 for rule in rules), default=0.0)


def _curves(layer: Layer, plan: Plan) -> dict[tuple[Key, Key], Points]:
    """The curve of each arrow: up along its lanes, level where it leaves or enters the stream, a loop if it runs backwards."""
    starts, ends = _fans(layer, plan)
    curves = {}
    for edge in layer.edges:
        source, target = (plan.boxes[key] for key in edge)
        if layer.backward(edge):
            curves[edge] = _loop(source, target)
        elif all(map(layer.in_stream, edge)):
            curves[edge] = through(np.array([source.x, source.top]), np.array([target.x, target.bottom]), [])
        else:
            sides = tuple(map(layer.in_stream, edge))
            curves[edge] = _upwards(source, target, plan.lanes.get(edge, []), (starts[edge], ends[edge]), sides)
    return curves


def _upwards(source: Box, target: Box, lanes: list[Box], x: tuple[float, float], in_stream: tuple[bool, ...]) -> Points:
    """A curve between the given x of both boxes; an end in the stream is reached from the right instead."""
    lane_xs = [lane.x for lane in lanes]
    if in_stream[0]:
        up = through(np.array([[*lane_xs, x[1]][0], source.top]), np.array([x[1], target.bottom]), lanes)
        return _elbow(np.array([source.right, source.y + _APART]), up)
    if in_stream[1]:
        up = through(np.array([x[0], source.top]), np.array([[x[0], *lane_xs][-1], target.bottom]), lanes)
        return _elbow(np.array([target.right, target.y - _APART]), up[::-1])[::-1]
    return through(np.array([x[0], source.top]), np.array([x[1], target.bottom]), lanes)


def _fans(layer: Layer, plan: Plan) -> tuple[dict[tuple[Key, Key], float], dict[tuple[Key, Key], float]]:
    """The x at which each arrow leaves its source and the x at which it enters its target."""
    out: dict[Key, list[tuple[Key, Key]]] = defaultdict(list)
    into: dict[Key, list[tuple[Key, Key]]] = defaultdict(list)
    for edge in (edge for edge in layer.edges if not layer.backward(edge)):
        out[edge[0]].append(edge)
        into[edge[1]].append(edge)
    starts: dict[tuple[Key, Key], float] = {}
    ends: dict[tuple[Key, Key], float] = {}
    for key, edges in out.items():
        after = [[*plan.lanes.get(edge, []), plan.boxes[edge[1]]][0] for edge in edges]
        starts |= dict(zip(edges, fan(plan.boxes[key], after), strict=True))
    for key, edges in into.items():
        before = [[plan.boxes[edge[0]], *plan.lanes.get(edge, [])][-1] for edge in edges]
        ends |= dict(zip(edges, fan(plan.boxes[key], before), strict=True))
    return starts, ends


def _loop(source: Box, target: Box) -> Points:
    side = 1 if source.x >= target.x else -1
    start, end = (np.array([box.x + side * box.width / 2, box.y]) for box in (source, target))
    far = side * (max(side * start[0], side * end[0]) + 1.3 * _LOOP)
    return np.array([start, [far, start[1]], [far, end[1]], end])


def _elbow(start: Points, curve: Points) -> Points:
    """A level line from ``start`` that turns into a vertical curve."""
    x, y = curve[0]
    bend = min(0.12, abs(x - start[0]), abs(y - start[1]))
    turn = np.array([x - np.sign(x - start[0]) * bend, start[1]])
    corner, up = np.array([x, start[1]]), np.array([x, start[1] + np.sign(y - start[1]) * bend])
    return np.concatenate([[start, start, turn, turn, corner, corner, up, up, curve[0]], curve])


def _draw_arrows(page: Page, layer: Layer, plan: Plan) -> None:
    curves, labels = _curves(layer, plan), list[Box]()
    for edge, curve in curves.items():
        rule, stream = layer.rule(edge), all(map(layer.in_stream, edge))
        colour, width = (MOVES, 1.1) if rule else (STREAM, 2.2) if stream else (INK, 0.8)
        page.arrow(curve, colour, width, " -> ".join(map(layer.label, edge)), zorder=2.5 if rule else 2)
        if rule:
            others = [sampled(curve) for other, curve in curves.items() if other != edge]
            labels.append(place_label(curve, text_size(rule, _RULE_SIZE), plan.boxes.values(), labels, others))
            halo = {"facecolor": "white", "edgecolor": "none", "boxstyle": "square,pad=0.08"}
            page.text(labels[-1].x, labels[-1].y, rule, _RULE_SIZE, color=MOVES, bbox=halo, zorder=5, style="italic")
    for box in (box for key, box in plan.boxes.items() if layer.in_stream(key)):
        if box.top + _ROW > plan.height - _HEAD:
            page.line((box.x, box.x), (box.top, box.top + 0.14), STREAM, 2.2)
        if box.bottom <= _FOOT:
            page.line((box.x, box.x), (box.bottom - 0.14, box.bottom), STREAM, 2.2)


def _draw_boxes(page: Page, layer: Layer, plan: Plan) -> None:
    families = list(dict.fromkeys(key.family for key in layer.nodes if not layer.in_stream(key)))
    for key, nodes in layer.nodes.items():
        box, shape, name = plan.boxes[key], layer.shape(key), layer.label(key)
        fill = STREAM_FILL if layer.in_stream(key) else FAMILIES[families.index(key.family) % len(FAMILIES)]
        for behind in (2, 1) if len(nodes) > 1 else ():
            page.box(Box(box.x + 0.022 * behind, box.y + 0.022 * behind, box.width, box.height), fill, GREY, 0.5)
        page.box(box, fill, GREY if key.port else DARK, 0.5 if key.port else 0.9, name)
        page.text(box.x, box.y + (0.055 if shape else 0), name, _NAME_SIZE, zorder=4, color=ON_PALE)
        if shape:
            page.text(box.x, box.y - 0.07, shape, _SHAPE_SIZE, zorder=4, color=FAINT_ON_PALE)
