"""Pictures of patching tables and comparisons: names, units, intervals, and a diverging colour map centred at zero."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import matplotlib
import numpy as np
import pandas as pd

from ..colours import FAINT_ON_DARK, FAINT_ON_PALE, MEANING, ON_DARK, ON_PALE, PAIR
from ..drawing.figures import COLOURS, Figure, centred, look, panels, sheet
from ..drawing.scales import Scale

if TYPE_CHECKING:
    from .compare import Comparison
    from .table import PatchingTable

_SMALL_GRID = 160
_MOST_ROWS = 40
_ROOM = 15  # points that a number of 6 points needs
_LONG_LABEL = 14
_LABELLED = 1.5  # inches for labels of latents
_BAND, _BRACKET = "0.4", 0.4
"""Random nodes are outlined, not filled: in a small model they reach as far as the effects. The bracket's width, in colour bars."""
_CHARACTERS = 22  # that fit an inch at 6 points

Floats: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


def plot_table(table: PatchingTable) -> Figure:
    """A heat map if two axes or more are open, else bars with bootstrap intervals.

    Blue carries the behaviour. What is not significant is pale: hatched bars, numbers in grey italics, or no dot if a grid is too
    large for numbers. 95% of the random nodes are between the dashed lines, or the ends of a bracket beside the colour bar.

    >>> import numpy as np
    >>> from circuitry.results import PatchingTable
    >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
    >>> plot_table(t).axes[0].get_xlabel()
    'layer'
    """
    with look():
        return _heat_map(table) if len(table.axes) >= 2 else _bars(table)


def _heat_map(table: PatchingTable) -> Figure:
    grid = table.pivot()
    values = grid.to_numpy(dtype=float)
    rows, columns = values.shape
    # Numbers in the cells have one place: more do not fit, and effects below 1 get two.
    scale = _digits(Scale.of(values.ravel()), values)
    turned = table.axes[-1] in table.labels
    beside, below = _LABELLED * any(axis in table.labels for axis in table.axes[:-1]), _LABELLED * turned
    size = (min(7.0, 1.8 + beside + 0.42 * columns), max(2.8, min(9.0, 1.5 + 0.24 * rows)) + below)
    figure = sheet(*size)
    room = 72 * (figure.get_figwidth() - 1.2 - beside) / columns  # points for each column
    numbered = values.size <= _SMALL_GRID and room >= _ROOM
    ax = figure.add_subplot()
    image = ax.imshow(table.pivot(table.carried()).to_numpy(float), cmap=COLOURS, norm=centred(values), aspect="auto")
    names = [_named(table, table.axes[-1], c) for c in grid.columns]
    every = 1 if turned else _every(names, 24)  # a label needs as much room as the text is high
    style: Any = {"parse_math": False, "rotation": 90 if turned else 0}
    ax.set_xticks(range(0, columns, every), names[::every], **style)
    every = max(1, -(-rows // 40))
    ax.set_yticks(range(0, rows, every), [_row_name(table, i) for i in grid.index][::every], parse_math=False)
    ax.set_xlabel(table.axes[-1])
    ax.set_ylabel(", ".join(table.axes[:-1]))
    tested, significant = (table.pivot(seen).to_numpy() == 1 for seen in (table.statistics()["p"].notna(), table.significant()))
    if numbered:
        _write_numbers(ax, values, image, tested & ~significant, scale)
    else:
        row, column = np.nonzero(significant)
        inks = np.where(_dark(image, values[row, column]), ON_DARK, ON_PALE)
        ax.scatter(column, row, s=3, c=inks.tolist(), linewidths=0)
    bar = colour_bar(figure, ax, image, table, scale)
    band = float(table.random_band().max())
    if band > 0:
        shown = min(band, bar.ax.get_ylim()[1])
        across = [0, -_BRACKET, -_BRACKET, 0]
        style = {"color": _BAND, "linewidth": 1, "clip_on": False, "transform": bar.ax.get_yaxis_transform()}
        bar.ax.plot(across, [-shown, -shown, shown, shown], **style)
    _finish(
        figure,
        ax,
        table,
        ["bracket beside the colour bar: 95% of random nodes"] * (band > 0),
        "upright numbers:" if numbered else "dots:",
    )
    return figure


def colour_bar(figure: Figure, ax: Any, image: Any, table: PatchingTable, scale: Scale) -> Any:
    """The scale of a picture of carried effects, with the numbers that the metric has for them; blue is at the top.

    >>> import numpy as np
    >>> from circuitry.results import PatchingTable
    >>> falls = PatchingTable.of([{"layer": 0, "at": "B"}], np.full((1, 2), -3.0), np.full(2, 4.0), np.zeros(2), "logit")
    >>> [text.get_text() for text in plot_table(falls).axes[1].get_yticklabels()][1::2]
    ['2', '0', '-2']
    """
    sign = 1 if table.carrying is None else table.carrying

    def text(value: float, _: Any) -> str:
        return f"{scale.scaled(sign * value if sign else abs(value)) + 0.0:g}"

    return figure.colorbar(image, ax=ax, label=scale.unit(f"mean {table.unit}"), format=text)


def meaning(table: PatchingTable) -> list[str]:
    """What the colours of a table mean, for its notes; nothing if the effect of the whole input is not known.

    >>> import numpy as np
    >>> from circuitry.results import PatchingTable
    >>> meaning(PatchingTable.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit"))
    ['blue carries the behaviour, red works against it']
    """
    return [MEANING] * (table.carrying is not None)


def _digits(scale: Scale, values: Floats) -> Scale:
    most = float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    return replace(scale, digits=1 if not most or round(abs(scale.scaled(most)), 1) >= 1 else 2)


def _write_numbers(ax: Any, values: Floats, image: Any, pale: Flags, scale: Scale) -> None:
    """Each cell's value, in the colour that can be read on it; what is not significant in grey italics."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = bool(_dark(image, value))
            colour = (FAINT_ON_DARK if dark else FAINT_ON_PALE) if pale[row, column] else (ON_DARK if dark else ON_PALE)
            style = "italic" if pale[row, column] else "normal"
            ax.text(column, row, scale.text(value), ha="center", va="center", fontsize=6, color=colour, fontstyle=style)


def _dark(image: Any, value: Any) -> Any:
    """Whether text on a value's colour must be white."""
    return np.abs(image.norm(value) - 0.5) > 0.3


def _bars(table: PatchingTable) -> Figure:
    """Bars with their intervals: vertical, or horizontal if the labels are too long to fit side by side."""
    every_cell = table.statistics()
    labels = [_row_name(table, i) for i in every_cell.index] if table.axes else [""]
    lying = max(map(len, labels)) > _LONG_LABEL
    # Cells with long names have no order in which one would miss the middle: of many, those with the largest effects are shown.
    largest = every_cell["mean"].abs().fillna(0).to_numpy().argsort(kind="stable")[::-1]
    most = np.sort(largest[:_MOST_ROWS]) if lying else np.arange(len(every_cell))
    seen, labels, scale = every_cell.iloc[most], [labels[i] for i in most], Scale.of(every_cell["mean"])
    means, places = seen["mean"].to_numpy(), np.arange(len(seen))
    size = (6.0, 1.2 + 0.15 * len(means)) if lying else (max(3.0, min(7.0, 1.6 + 0.3 * len(means))), 2.7)
    figure = sheet(*size)
    ax = figure.add_subplot()
    draw, across, along = (ax.barh, "y", "x") if lying else (ax.bar, "x", "y")
    carried = table.carried().to_numpy()[most]
    colours = matplotlib.colormaps[COLOURS](centred(1.4 * means)(carried))  # no darker than the whiskers upon it
    bars = draw(places, means, color=colours, edgecolor="0.3", linewidth=0.5)
    pale = seen["p"].notna() & ~table.significant().iloc[most]
    for bar in np.array(bars.patches)[pale.to_numpy()]:
        bar.set(hatch="//////", edgecolor="0.6", hatch_linewidth=0.5, facecolor=(*bar.get_facecolor()[:3], 0.4))
    _whiskers(ax, places, means, seen, along)
    band = _outline_random(ax, places, table.random_band().to_numpy()[most], along, scale)
    ax.set(**{f"{along}label": scale.unit(f"mean {table.unit}"), f"{across}label": table.axes[0] if table.axes else ""})
    (ax.xaxis if lying else ax.yaxis).set_major_formatter(lambda value, _: f"{scale.scaled(value):g}")
    (ax.axvline if lying else ax.axhline)(0, color="0.3", linewidth=0.6)
    every = 1 if lying else _every(labels, 24)
    getattr(ax, f"set_{across}ticks")(range(0, len(labels), every), labels[::every], parse_math=False)
    if lying:
        ax.invert_yaxis()
        ax.tick_params(axis="y", labelsize=6)
    ax.margins(y=0.01) if lying else ax.margins(x=0.02)
    notes = [f"the {len(seen)} largest of {len(every_cell)} cells"] * (len(seen) < len(every_cell))
    notes += ["whiskers: 95% bootstrap interval"] * bool(seen["low"].notna().any())
    _finish(figure, ax, table, [*notes, *band], "bars without hatching:")
    return figure


def _outline_random(ax: Any, places: Floats, band: Floats, along: str, scale: Scale) -> list[str]:
    """Draw where the random nodes end, beside each bar, and return the note that says so.

    The axis keeps its limits: random nodes may reach far beyond the bars, and then the note says how far.
    """
    least, most = shown = getattr(ax, f"get_{along}lim")()
    if not (band > 0).any():
        return []
    lines = ax.hlines if along == "y" else ax.vlines
    lines([*-band, *band], *np.tile([places - 0.5, places + 0.5], 2), colors=_BAND, linewidth=1, linestyle=(0, (3, 1.5)))
    ax.set(**{f"{along}lim": shown})
    if ((-band >= least) | (band <= most)).any():
        return ["dashed: 95% of random nodes are nearer to zero"]
    return [f"95% of random nodes: within ±{scale.text(np.nanmax(band))}, beyond this axis"]


def _whiskers(ax: Any, places: Floats, centres: Floats, seen: pd.DataFrame, way: str, **style: Any) -> None:
    """Intervals from ``low`` to ``high`` around centres; a cell without an interval has none."""
    lengths = np.stack([centres - seen["low"], seen["high"] - centres])
    lengths = np.nan_to_num(lengths.clip(0))
    at = (places, centres) if way == "y" else (centres, places)
    ax.errorbar(*at, **{f"{way}err": lengths}, **{"fmt": "none", "ecolor": "0.15", "elinewidth": 0.8, "capsize": 1.5, **style})


def _finish(figure: Figure, ax: Any, table: PatchingTable, notes: list[str], mark: str) -> None:
    """The title, and a note below the figure that explains the marks."""
    ax.set_title(_title(table), wrap=True)
    explain(figure, [*meaning(table), *notes, *table.notes(mark)])


def explain(figure: Figure, notes: Sequence[str]) -> None:
    """Write notes below a figure, in lines that fit its width.

    >>> figure = sheet(5.0, 2.0)
    >>> explain(figure, ["a", "b"])
    >>> figure.get_supxlabel()
    'a; b'
    """
    if notes:
        width = int(figure.get_figwidth() * _CHARACTERS)
        figure.supxlabel(textwrap.fill("; ".join(notes), width), fontsize=6, color="0.3", parse_math=False)


def plot_comparison(comparison: Comparison) -> Figure:
    """Both numbers of each cell joined by a line, at the left; at the right their difference with its bootstrap interval.

    If there are many cells, those whose numbers are largest are shown. A difference that is not significant is hollow.

    >>> import numpy as np
    >>> from circuitry.results import PatchingTable
    >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
    >>> plot_comparison(t.compare(t)).axes[0].get_xlabel()
    'normalized effect'
    """
    frame = comparison.frame
    most = np.sort(frame[["first", "second"]].abs().max(axis=1).fillna(0).to_numpy().argsort(kind="stable")[::-1][:_MOST_ROWS])
    shown, significant = frame.iloc[most], comparison.significant().to_numpy()[most]
    with look():
        figure, (left, right) = panels(2, 5.0, 1.5 + 0.17 * len(shown), sharey=True)
        places = np.arange(len(shown))
        left.hlines(places, shown["first"], shown["second"], color="0.7", linewidth=1.5, zorder=1)
        for column, name, colour, marker in zip(("first", "second"), comparison.names, PAIR, "os", strict=True):
            left.scatter(shown[column], places, s=14, color=colour, marker=marker, label=_short(name), zorder=2)
        right.scatter(shown["difference"], places, s=14, c=np.where(significant, "0.15", "white"), edgecolors="0.15", zorder=3)
        _whiskers(right, places, shown["difference"].to_numpy(), shown, "x", zorder=2)
        for ax, label in ((left, comparison.unit), (right, "difference")):
            ax.axvline(0, color="0.3", linewidth=0.6, zorder=0)
            ax.set_xlabel(label)
        left.set_yticks(places, [_tick(i) for i in shown.index] if comparison.axes else [""])
        left.set(ylabel=", ".join(comparison.axes), ylim=(len(shown) - 0.5, -0.5))
        figure.legend(loc="outside upper center", ncols=2, frameon=False)
        largest = [f"the {len(shown)} largest of {len(frame)} cells"] * (len(shown) < len(frame))
        explain(figure, [*largest, comparison.caption().partition("; ")[2].replace("* q", "filled: q")])
    return figure


def _every(labels: Sequence[str], most: int) -> int:
    """The step between labels along the bottom, so that they have room."""
    room = min(most, 100 // (2 + max(map(len, labels), default=0)))
    return max(1, -(-len(labels) // max(1, room)))


def _short(name: str) -> str:
    return textwrap.shorten(name, 48, placeholder=" ...")


def _row_name(table: PatchingTable, index: Any) -> str:
    """The values of a row's axes, those that are latents with their labels."""
    if len(table.axes) <= 2:
        return _named(table, table.axes[0], index)
    return ",".join(_named(table, axis, value) for axis, value in zip(table.axes, index, strict=False))


def _named(table: PatchingTable, axis: str, value: Any) -> str:
    return table.named(axis, value) if axis in table.labels else _tick(value)


def _tick(index: Any) -> str:
    return ",".join(map(str, index)) if isinstance(index, tuple) else str(index)


def _title(table: PatchingTable) -> str:
    return str(table.provenance.get("title", table.provenance.get("path", "")))
