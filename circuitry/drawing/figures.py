"""The parts that all figures share: a style, a colour map for effects with zero in its middle, and ``save``."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any, TypeAlias

import matplotlib
import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from ..errors import CircuitryError, expected
from ..store.files import write_whole

COLOURS = "RdBu"
STYLE: Any = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "svg.hashsalt": "circuitry", "svg.fonttype": "none"}

Floats: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def save(figure: Figure, path: str | FilePath) -> None:
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
    options: Any = {"format": target.suffix[1:], "dpi": 200, "bbox_inches": "tight", "metadata": undated}
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
