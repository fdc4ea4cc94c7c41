"""The parts that all figures share: two styles, a new figure in the current one, a colour map for effects, and ``save``."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, TypeAlias, TypeVar

import matplotlib
import numpy as np
from matplotlib import figure as figures
from matplotlib.colors import TwoSlopeNorm

from ..errors import CircuitryError, expected, suggest
from ..store.files import write_whole
from .dark import adapted

_DPI, _SHOWN = 200, 110
"""Dots of a figure to an inch, in a file and on a notebook's screen."""
COLOURS = "RdBu"
_COMMON: Mapping[str, Any] = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "svg.hashsalt": "circuitry", "svg.fonttype": "none", "pdf.fonttype": 42,
}  # fmt: skip

Floats: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Drawn = TypeVar("Drawn")


class Figure(figures.Figure):
    """A matplotlib Figure that a notebook shows although no pyplot made it.

    >>> Figure()._repr_png_()[0][:4]
    b'\\x89PNG'
    """

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture, and its width and height on the screen, in pixels."""
        file = io.BytesIO()
        _written(self, file, format="png", metadata={"Software": None})
        data = file.getvalue()
        wide, high = (int.from_bytes(data[start : start + 4]) for start in (16, 20))  # where a PNG says its size
        return data, {"width": round(wide * _SHOWN / _DPI), "height": round(high * _SHOWN / _DPI)}


@dataclass(frozen=True)
class Style:
    """How figures look: matplotlib's settings, the font of diagrams, and the width in inches (None: each figure's own)."""

    name: str
    font: str
    rc: Any  # a mapping; matplotlib's types know only its own names
    width: float | None = None


# Both fonts come with matplotlib, so a picture is the same on every machine. STIX has no crosses or arrows that DejaVu has.
SCREEN = Style("screen", "DejaVu Sans", _COMMON)
_SERIF = {"font.family": ["STIXGeneral", "DejaVu Sans"], "mathtext.fontset": "stix", "legend.fontsize": 8, "figure.titlesize": 8}
PAPER = Style("paper", "STIXGeneral", {**_COMMON, **_SERIF, "xtick.labelsize": 8, "ytick.labelsize": 8}, 3.25)
STYLES = {style.name: style for style in (SCREEN, PAPER)}
"""By name: what ``style=`` takes. ``paper``: a column of 3.25 inches, 8-point serif type, text that can be edited."""
_CURRENT: ContextVar[Style] = ContextVar("style", default=SCREEN)


def current() -> Style:
    """The style in which figures are drawn now.

    >>> current().name
    'screen'
    """
    return _CURRENT.get()


@contextmanager
def styled(style: str | None) -> Iterator[None]:
    """Draw every figure of this block in a style; None leaves the current one. Raises CircuitryError for an unknown style.

    >>> with styled("paper"):
    ...     float(sheet(7.0, 3.0).get_figwidth())
    3.25
    """
    style = current().name if style is None else style
    if style not in STYLES:
        raise CircuitryError(f"no style {style!r} of figures; {suggest(style, STYLES)}")
    token = _CURRENT.set(STYLES[style])
    try:
        with look():
            yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def look() -> Iterator[None]:
    """Matplotlib's settings for the current style.

    >>> with look():
    ...     matplotlib.rcParams["font.size"]
    8.0
    """
    with matplotlib.rc_context(current().rc):
        yield


def sheet(width: float, height: float) -> Figure:
    """A new figure of this size in inches, in the current style; for a paper it is as wide as the column.

    >>> sheet(5.0, 2.0).get_size_inches().tolist()
    [5.0, 2.0]
    """
    figure = Figure(figsize=(current().width or width, height), layout="constrained")
    figure.set_label(current().name)
    return figure


def panels(count: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Any]]:
    """A new figure with panels side by side, or, if the style's width has no room for them, below each other.

    >>> len(panels(3, 7.0, 2.5)[1])
    3
    """
    narrow = current().width is not None
    if narrow:
        options.pop("width_ratios", None)
    figure = sheet(width, height * count if narrow else height)
    axes = figure.subplots(*((count, 1) if narrow else (1, count)), squeeze=False, **options)
    return figure, list(axes.ravel())


def plotted(draw: Callable[[Drawn], Figure], value: Drawn, path: str | FilePath | None, style: str | None) -> Figure:
    """Draw a value in a style, and save the figure if a file is named: what every ``plot`` does.

    >>> plotted(lambda text: sheet(1.0, 1.0), "nothing", None, "paper").get_label()
    'paper'
    """
    with styled(style):
        figure = draw(value)
    if path is not None:
        save(figure, path)
    return figure


def save(figure: figures.Figure, path: str | FilePath) -> None:
    """Write a figure as PNG, SVG or PDF by its suffix; the same figure gives the same file.

    A picture as SVG has dark colours on a dark page; PNG and PDF are white. Raises CircuitryError for another suffix.

    >>> save(Figure(), "figure.doc")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: expected a figure file that ends in .png, .svg or .pdf, got 'figure.doc'
    """
    target = FilePath(path)
    if target.suffix not in (".png", ".svg", ".pdf"):
        raise CircuitryError(expected("a figure file that ends in .png, .svg or .pdf", target.name))
    if target.suffix == ".svg":
        write_whole(target, as_svg(figure))
    else:
        # By default matplotlib writes its version or the time into these fields, and the files would differ.
        undated = {".pdf": {"CreationDate": None}, ".png": {"Software": None}}[target.suffix]
        # In memory first: matplotlib does not survive a disk that fills up in the middle of a PDF.
        file = io.BytesIO()
        _written(figure, file, format=target.suffix[1:], metadata=undated)
        write_whole(target, lambda new: new.write_bytes(file.getvalue()))


def as_svg(figure: figures.Figure) -> str:
    """A figure as an SVG document whose colours adapt to a dark page.

    >>> "light-dark" in as_svg(Figure())
    True
    """
    file = io.StringIO()
    _written(figure, file, format="svg", metadata={"Date": None}, transparent=True)
    # A viewer may lack the font, and matplotlib may not look for others where none is missing.
    return adapted(file.getvalue().replace("'STIXGeneral'", "'STIXGeneral', 'Times New Roman', serif"))


def _written(figure: figures.Figure, file: Any, **options: Any) -> None:
    style = STYLES.get(str(figure.get_label()), SCREEN)
    # A figure for a paper keeps its width to the point; others are cut to what is drawn.
    box: Any = {} if style.width else {"bbox_inches": "tight"}
    with matplotlib.rc_context(style.rc):
        figure.savefig(file, dpi=_DPI, **box, **options)


def centred(values: Floats) -> TwoSlopeNorm:
    """A colour scale with zero in the middle.

    >>> centred(np.array([-1.0, 4.0])).vmin
    -4.0
    """
    finite = np.abs(values[np.isfinite(values)])
    most = float(finite.max(initial=0.0)) or 1.0
    return TwoSlopeNorm(0.0, -most, most)
