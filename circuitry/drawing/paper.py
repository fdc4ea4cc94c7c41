"""The parts that the diagrams share: a page measured in inches, text whose size is known before it is drawn, boxes and arrows.

Only matplotlib's object interface is used: no pyplot, no global state, no backend. Text is never parsed as mathematics, because
a token may contain any character, such as a dollar sign.
"""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve
from matplotlib.textpath import text_to_path

from ..colours import FAINT, INK
from ..errors import CircuitryError
from .dark import BOXES
from .figures import SCREEN, Figure, current
from .geometry import Box, Points, shortened

Span: TypeAlias = tuple[float, float]


def text_size(text: str, points: float, bold: bool = False) -> tuple[float, float]:
    """Width and height in inches of a text of one or several lines.

    >>> line, lines = text_size("head[0,1]", 7), text_size("head[0,1]\\n+1.00", 7)
    >>> line[0] == lines[0], line[1] < lines[1]
    (True, True)
    """
    return _text_size(text, points, bold, current().font)


@functools.cache
def _text_size(text: str, points: float, bold: bool, family: str) -> tuple[float, float]:
    font = FontProperties(family=family, weight="bold" if bold else "normal", size=points)
    lines = text.split("\n")
    widths = [text_to_path.get_text_width_height_descent(line, font, False)[0] for line in lines if line.strip()]
    return float(max(widths, default=0.0)) / 72, len(lines) * points * 1.2 / 72


class Page:
    """A drawing area measured in inches, with the origin at the lower left; it is scaled to fit given axes.

    >>> page = Page(4, 3)
    >>> page.figure.get_size_inches().tolist()
    [4.0, 3.0]
    """

    def __init__(self, width: float, height: float, ax: Axes | None = None, below: float = 0.0) -> None:
        """``below``: inches under the origin."""
        height += below
        if ax is None:
            # A diagram that is wider than the style's column is shrunk to it.
            shrunk = min(1.0, (current().width or width) / width)
            figure = Figure(figsize=(width * shrunk, height * shrunk))
            figure.set_label(current().name)
            ax = figure.add_axes((0, 0, 1, 1))
        if ax.figure is None:
            raise CircuitryError("these axes have been removed from their figure; draw() without axes makes a new one")
        self.ax, self.figure = ax, ax.figure.figure  # of axes in a subfigure, the figure around it
        area = ax.get_window_extent()
        self.scale = float(min(area.width / width, area.height / height) / self.figure.dpi)
        ax.set(xlim=(0, width), ylim=(-below, height - below), aspect="equal")
        ax.set_axis_off()
        ax.set_gid(BOXES)

    def text(self, x: float, y: float, text: str, points: float, bold: bool = False, **style: Any) -> None:
        """Write text, centred on (x, y) unless ``style`` aligns it otherwise."""
        font = FontProperties(family=[current().font, SCREEN.font], weight="bold" if bold else "normal", size=points * self.scale)
        placed = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.15, "parse_math": False, **style}
        self.ax.text(x, y, text, fontproperties=font, **placed)

    def box(self, box: Box, fill: str, edge: str = INK, width: float = 0.7, name: str = "", **style: Any) -> None:
        """Draw a rounded box; ``name`` becomes its id in an SVG file."""
        shape = f"round,pad=0,rounding_size={min(0.06, box.height / 3)}"
        look = {"facecolor": fill, "edgecolor": edge, "linewidth": width * self.scale, "gid": name or None, "zorder": 3}
        self.ax.add_patch(FancyBboxPatch((box.left, box.bottom), box.width, box.height, **{"boxstyle": shape, **look, **style}))

    def arrow(self, curve: Points, colour: str, width: float = 0.8, name: str = "", **style: Any) -> None:
        """Draw an arrow along a cubic Bezier curve; ``width`` is in points."""
        length, half = 0.055 + 0.02 * width, 0.022 + 0.0125 * width
        stem = shortened(curve, length)
        look = {"zorder": 2, "capstyle": "butt", **style}
        path = Curve(stem, [Curve.MOVETO, *[Curve.CURVE4] * (len(stem) - 1)])
        line = PathPatch(path, fill=False, edgecolor=colour, linewidth=width * self.scale, gid=name or None, **look)
        along = (curve[-1] - stem[-1]) / np.hypot(*(curve[-1] - stem[-1]))
        side = half * np.array([-along[1], along[0]])
        head = Polygon([curve[-1], stem[-1] + side, stem[-1] - side], facecolor=colour, linewidth=0, **look)
        for patch in (line, head):
            self.ax.add_patch(patch)

    def line(self, xs: Span, ys: Span, colour: str = FAINT, width: float = 0.6, **style: Any) -> None:
        """Draw a straight line behind everything else."""
        self.ax.plot(xs, ys, color=colour, linewidth=width * self.scale, **{"zorder": 1, **style})
