"""The parts that all figures share: a style, a colour map for effects with zero in its middle, and ``save``."""

from __future__ import annotations

import io
from pathlib import Path as FilePath
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib import figure as figures
from matplotlib.colors import TwoSlopeNorm

from ..errors import CircuitryError, expected
from ..store.files import write_whole

_DPI, _SHOWN = 200, 110
"""Dots of a figure to an inch, in a file and on a notebook's screen."""
COLOURS = "RdBu"
STYLE: Any = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "svg.hashsalt": "circuitry", "svg.fonttype": "none"}

Floats: TypeAlias = np.ndarray[Any, np.dtype[Any]]


class Figure(figures.Figure):
    """A matplotlib Figure that a notebook shows although no pyplot made it.

    >>> Figure()._repr_png_()[0][:4]
    b'\\x89PNG'
    """

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture, and its width and height on the screen, in pixels."""
        file = io.BytesIO()
        with matplotlib.rc_context(STYLE):
            self.savefig(file, format="png", dpi=_DPI, bbox_inches="tight", metadata={"Software": None})
        data = file.getvalue()
        wide, high = (int.from_bytes(data[start : start + 4]) for start in (16, 20))  # where a PNG says its size
        return data, {"width": round(wide * _SHOWN / _DPI), "height": round(high * _SHOWN / _DPI)}


def save(figure: figures.Figure, path: str | FilePath) -> None:
    """Write a figure as PNG, SVG or PDF by its suffix; the same figure gives the same file.

    Raises CircuitryError for another suffix.

    >>> save(Figure(), "figure.doc")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: expected a figure file that ends in .png, .svg or .pdf, got 'figure.doc'
    """
    target = FilePath(path)
    if target.suffix not in (".png", ".svg", ".pdf"):
        raise CircuitryError(expected("a figure file that ends in .png, .svg or .pdf", target.name))
    # By default matplotlib writes its version or the time into these fields, and the files would differ.
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}[target.suffix]
    options: Any = {"format": target.suffix[1:], "dpi": _DPI, "bbox_inches": "tight", "metadata": undated}
    with matplotlib.rc_context(STYLE):
        write_whole(target, lambda new: figure.savefig(new, **options))


def centred(values: Floats) -> TwoSlopeNorm:
    """A colour scale with zero in the middle.

    >>> centred(np.array([-1.0, 4.0])).vmin
    -4.0
    """
    finite = np.abs(values[np.isfinite(values)])
    most = float(finite.max(initial=0.0)) or 1.0
    return TwoSlopeNorm(0.0, -most, most)
