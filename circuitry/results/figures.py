"""Pictures of patching tables: axis names, units, and a diverging colour map centred at zero."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from ..errors import CircuitryError

if TYPE_CHECKING:
    from .table import PatchingTable

COLOURS = "RdBu"
_STYLE: Any = {"font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "svg.hashsalt": "circuitry", "svg.fonttype": "none"}
_SMALL_GRID = 160


def save(figure: Figure, path: str | FilePath) -> None:
    """Write a figure as PNG, SVG or PDF by its suffix; the same figure gives the same file.

    Raises CircuitryError for another suffix.

    >>> save(Figure(), "figure.doc")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: a figure cannot be written as '.doc'; .png, .svg or .pdf would do
    """
    target = FilePath(path)
    if target.suffix not in (".png", ".svg", ".pdf"):
        raise CircuitryError(f"a figure cannot be written as {target.suffix!r}; .png, .svg or .pdf would do")
    target.parent.mkdir(parents=True, exist_ok=True)
    undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {"Software": None}}[target.suffix]
    with matplotlib.rc_context(_STYLE):
        figure.savefig(target, dpi=200, bbox_inches="tight", metadata=undated)


def plot_table(table: PatchingTable) -> Figure:
    """A heat map where two axes or more are open, bars with standard errors where one or none is.

    >>> import numpy as np
    >>> from circuitry.results import PatchingTable
    >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
    >>> plot_table(t).axes[0].get_xlabel()
    'layer'
    """
    with matplotlib.rc_context(_STYLE):
        return _heat_map(table) if len(table.axes) >= 2 else _bars(table)


def _centred(values: np.ndarray[Any, Any]) -> TwoSlopeNorm:
    """A colour scale with zero in the middle."""
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    most = most or 1.0
    return TwoSlopeNorm(0.0, -most, most)


def _heat_map(table: PatchingTable) -> Figure:
    grid = table.pivot()
    values = grid.to_numpy(dtype=float)
    rows, columns = values.shape
    figure = Figure(figsize=(min(7.0, 1.8 + 0.42 * columns), min(9.0, 1.3 + 0.24 * rows)), layout="constrained")
    ax = figure.add_subplot()
    image = ax.imshow(values, cmap=COLOURS, norm=_centred(values), aspect="auto")
    every = max(1, -(-columns // 24))
    ax.set_xticks(range(0, columns, every), [str(c) for c in grid.columns][::every])
    every = max(1, -(-rows // 40))
    ax.set_yticks(range(0, rows, every), [_tick(i) for i in grid.index][::every])
    ax.set_xlabel(table.axes[-1])
    ax.set_ylabel(", ".join(table.axes[:-1]))
    if values.size <= _SMALL_GRID:
        _write_numbers(ax, values, image)
    figure.colorbar(image, ax=ax, label=f"mean {table.unit}")
    ax.set_title(_title(table), wrap=True)
    return figure


def _write_numbers(ax: Any, values: np.ndarray[Any, Any], image: Any) -> None:
    """Each cell's value, in the colour that can be read on it."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = abs(image.norm(value) - 0.5) > 0.3
            ax.text(
                column,
                row,
                f"{round(value, 1) + 0.0:.1f}",
                ha="center",
                va="center",
                fontsize=6,
                color="white" if dark else "black",
            )


def _bars(table: PatchingTable) -> Figure:
    means, errors = table.mean(), table.sem().fillna(0)
    labels = [_tick(i) for i in means.index] if table.axes else [""]
    figure = Figure(figsize=(min(7.0, 1.6 + 0.3 * len(means)), 2.4), layout="constrained")
    ax = figure.add_subplot()
    colours = matplotlib.colormaps[COLOURS](_centred(means.to_numpy())(means.to_numpy()))
    ax.bar(range(len(means)), means, yerr=errors, color=colours, edgecolor="0.3", linewidth=0.5, error_kw={"linewidth": 0.8})
    ax.axhline(0, color="0.3", linewidth=0.6)
    every = max(1, -(-len(labels) // 24))
    ax.set_xticks(range(0, len(labels), every), labels[::every])
    ax.set_xlabel(table.axes[0] if table.axes else "")
    ax.set_ylabel(f"mean {table.unit}", wrap=True)
    ax.set_title(_title(table), wrap=True)
    return figure


def _tick(index: Any) -> str:
    return ",".join(map(str, index)) if isinstance(index, tuple) else str(index)


def _title(table: PatchingTable) -> str:
    return str(table.about.get("title", table.about.get("path", "")))
