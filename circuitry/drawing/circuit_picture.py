"""Draws a circuit: token positions across, depth upwards, boxes coloured by effect, arrows wider for larger effects."""

from __future__ import annotations

import functools
import math
import textwrap
from collections import defaultdict
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..colours import DARK, EDGE, GREY, LINE, arrow_colour, box_ink, fill, number
from .circuit import Circuit, CircuitEdge
from .circuit_layout import HEADING_SIZE, LABEL_SIZE, NAME_SIZE, NUMBER_SIZE, PAGE, Layout, lay_out
from .circuit_legend import LINE as LEGEND_LINE
from .circuit_legend import SIZE, WIDE, Entry, height, legend
from .figures import current
from .geometry import Box, Points, fan, sampled
from .paper import Page, text_size
from .routing import place_label, route

EMPTY = "no node above the threshold"
_TITLE_SIZE, _LINE, _MARGIN = 8.5, 0.17, 0.1
_BAR_WIDTH, _BAR_HEIGHT, _SHADES = 1.1, 0.07, 41
_BASE_WITHOUT_BAR = 0.35


class Arrow(NamedTuple):
    """An edge with its curve, and its text with the place for it."""

    edge: CircuitEdge
    curve: Points
    text: str
    label: Box | None


def draw(circuit: Circuit, ax: Axes | None = None, width: float | None = None) -> Figure:
    """The picture of a circuit, at its natural size in inches or shrunk onto ``ax``.

    >>> from circuitry.drawing.circuit import CircuitNode
    >>> figure = draw(Circuit("t", ("A",), (CircuitNode("mlp[0]@A", "A", 0, -1.5),), ()))
    >>> [text.get_text() for text in figure.get_axes()[0].texts][:4]
    ['t', 'A', 'layer 0', 'mlp[0]']
    """
    layout, arrows = _placed(circuit, width or current().width or PAGE, current().font)
    entries = legend(circuit, layout.width - 2 * _MARGIN) if circuit.nodes else []
    title = textwrap.fill(circuit.title, max(12, int(layout.width * 12.5))).split("\n") if circuit.title else []
    page = Page(layout.width, layout.height + _LINE * len(title) + 0.08, ax, below=height(entries))
    for line, text in enumerate(reversed(title)):
        page.text(0.1, layout.height + _LINE * (line + 0.5), text, _TITLE_SIZE, bold=True, ha="left")
    _draw_frame(page, layout)
    if circuit.nodes:
        _draw_arrows(page, circuit, arrows)
        _draw_nodes(page, circuit, layout.boxes)
        _draw_bar(page, circuit, layout)
        _draw_legend(page, entries)
    else:
        halo = {"facecolor": "white", "edgecolor": "none"}
        page.text(layout.width / 2, layout.height - 0.45, EMPTY, NAME_SIZE, style="italic", color=GREY, bbox=halo)
    return page.figure


def _draw_frame(page: Page, layout: Layout) -> None:
    """Token names below the columns, layer names left of the rows, and thin lines between them."""
    if not layout.columns:
        return
    start, end = layout.columns[0][1], layout.columns[-1][2]
    base = layout.bands[0][1] - 0.18 if layout.bands else _BASE_WITHOUT_BAR
    page.line((start, end), (base, base), LINE, 0.8)
    for position, left, right in layout.columns:
        page.text((left + right) / 2, base - 0.12, position, HEADING_SIZE, bold=True)
        if right < end:
            page.line((right, right), (base, layout.height - 0.04), width=0.5, linestyle=(0, (1, 2)))
    for name, bottom, top in layout.bands:
        page.text(start - 0.08, (bottom + top) / 2, name, LABEL_SIZE, ha="right", color=GREY)
    for (_, _, below), (_, above, _) in zip(layout.bands, layout.bands[1:], strict=False):
        page.line((start, end), ((below + above) / 2,) * 2, width=0.5)


def _draw_nodes(page: Page, circuit: Circuit, boxes: dict[str, Box]) -> None:
    for node in circuit.nodes:
        effect = circuit.carried(node.effect)
        box, colour = boxes[node.name], box_ink(effect, circuit.limit)
        page.box(box, fill(effect, circuit.limit), EDGE, name=f"node {node.name}")
        shown = number(node.effect)
        page.text(box.x, box.y + (0.06 if shown else 0), node.text, NAME_SIZE, color=colour, zorder=4)
        if shown:
            below = 0.065 + (text_size(node.text, NAME_SIZE)[1] - text_size("", NAME_SIZE)[1]) / 2
            page.text(box.x, box.y - below, shown, NUMBER_SIZE, color=colour, zorder=4)


def _draw_arrows(page: Page, circuit: Circuit, arrows: list[Arrow]) -> None:
    """Draw strong arrows over weak ones."""
    most = max((abs(arrow.edge.effect) for arrow in arrows if np.isfinite(arrow.edge.effect)), default=0.0) or 1.0
    for edge, curve, text, label in arrows:
        share = min(1.0, abs(edge.effect) / most) if np.isfinite(edge.effect) else 0.0
        colour, strength = arrow_colour(circuit.carried(edge.effect)), 0.4 + 0.6 * share
        page.arrow(curve, colour, 0.6 + 1.9 * share, f"edge {edge.source} -> {edge.target}", alpha=strength, zorder=2 + share / 2)
        if label:
            halo = {"facecolor": "white", "edgecolor": "none", "boxstyle": "square,pad=0.08"}
            page.text(label.x, label.y, text, LABEL_SIZE, color=colour, bbox=halo, zorder=3.5)


@functools.lru_cache(maxsize=8)
def _placed(circuit: Circuit, width: float, font: str) -> tuple[Layout, list[Arrow]]:
    """Where everything is, for a page of this width; a run draws its circuit several times, and placing it takes longest.

    ``font``: what the size of a text depends on.
    """
    layout = lay_out(circuit, width)
    curves = _routes(circuit, layout) if circuit.edges else {}
    lines = {edge: sampled(curve) for edge, curve in curves.items()}
    # Two boxes outside the page count as labels, so that no label leaves the page.
    labels, arrows = [Box(x, 0.0, 20.0, 1000.0) for x in (-10.0, layout.width + 10.0)], list[Arrow]()
    for edge, curve in curves.items():
        text = ("\n" if len(edge.label) > 8 else " ").join(part for part in (edge.label, number(edge.effect)) if part)
        if text:
            others = [line for other, line in lines.items() if other is not edge]
            labels.append(place_label(curve, text_size(text, LABEL_SIZE), layout.boxes.values(), labels, others))
        arrows.append(Arrow(edge, curve, text, labels[-1] if text else None))
    return layout, arrows


def _routes(circuit: Circuit, layout: Layout) -> dict[CircuitEdge, Points]:
    """A curve for each edge, within the columns. Strong edges choose their curves first, and weaker ones avoid these."""
    boxes, ends = layout.boxes, _ends(circuit.edges, layout.boxes)
    within = layout.columns[0][1], layout.columns[-1][2]
    curves: dict[CircuitEdge, Points] = {}
    for edge in sorted(circuit.edges, key=lambda e: -abs(np.nan_to_num(e.effect))):
        obstacles = [box for name, box in boxes.items() if name not in (edge.source, edge.target)]
        curves[edge] = route(*ends[edge], obstacles, [sampled(curve) for curve in curves.values()], within)
    return curves


def _ends(edges: tuple[CircuitEdge, ...], boxes: dict[str, Box]) -> dict[CircuitEdge, tuple[Points, Points]]:
    """The start and end of each arrow, spread along the sides of the boxes so that arrows do not cross there."""
    sides: dict[tuple[str, bool], list[tuple[CircuitEdge, str]]] = defaultdict(list)
    for edge in edges:
        rise = boxes[edge.target].y - boxes[edge.source].y
        # Upwards from top to bottom, downwards the other way, and between boxes of one row from top to top.
        sides[edge.source, rise >= 0].append((edge, edge.target))
        sides[edge.target, rise <= 0].append((edge, edge.source))
    points: dict[tuple[CircuitEdge, str], Points] = {}
    for (name, top), arrows in sides.items():
        box = boxes[name]
        for (edge, _), x in zip(arrows, fan(box, [boxes[other] for _, other in arrows]), strict=True):
            points[edge, name] = np.array([x, box.top if top else box.bottom])
    return {edge: (points[edge, edge.source], points[edge, edge.target]) for edge in edges}


def _draw_legend(page: Page, entries: list[Entry]) -> None:
    """Below the colours, each mark beside what it means."""
    y = -0.02
    for entry in entries:
        y -= LEGEND_LINE
        grey, left = entry.mark.startswith("grey"), _MARGIN + (WIDE if entry.mark else 0.0)
        if "box" in entry.mark:
            page.box(Box(_MARGIN + 0.11, y, 0.22, 0.085), fill(math.nan if grey else 0.35, 1.0), EDGE, 0.5)
        elif "arrow" in entry.mark:
            line = np.linspace([_MARGIN, y], [_MARGIN + 0.24, y], 4)
            page.arrow(line, arrow_colour(math.nan if grey else 1.0), 0.6 if grey else 1.2)
        for number_of_line, text in enumerate(entry.lines):
            y -= LEGEND_LINE if number_of_line else 0.0
            page.text(left, y, text, SIZE, ha="left", color=DARK)


def _draw_bar(page: Page, circuit: Circuit, layout: Layout) -> None:
    """The scale of the colours up to the largest effect, from what works against the behaviour to what carries it, with the unit."""
    left, y = layout.width - _BAR_WIDTH - 0.3, 0.26
    middle, wide = y + _BAR_HEIGHT / 2, _BAR_WIDTH / _SHADES
    # Boxes, not an image, whose colours would not turn on a dark page; each reaches below the next, so that no gap is seen.
    for step, effect in enumerate(np.linspace(-1, 1, _SHADES)):
        shade, right = fill(float(effect), 1.0), left + _BAR_WIDTH
        start = left + step * wide
        page.box(
            Box((start + right) / 2, middle, right - start, _BAR_HEIGHT), shade, "none", 0, boxstyle="square,pad=0", zorder=2
        )
    frame = Box(left + _BAR_WIDTH / 2, middle, _BAR_WIDTH, _BAR_HEIGHT)
    page.box(frame, "none", LINE, 0.5, boxstyle="square,pad=0")
    for share, value in ((0.0, -circuit.limit), (0.5, 0.0), (1.0, circuit.limit)):
        page.text(left + share * _BAR_WIDTH, y - 0.09, number(circuit.carried(value)), LABEL_SIZE)
    page.text(left - 0.1, middle, circuit.unit, LABEL_SIZE, ha="right", color=DARK)
