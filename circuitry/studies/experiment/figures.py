"""The paper's figures 3, 8, 9, 10 and 11, from tables of matched features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from ...colours import CATEGORIES, DARK, INK, LINE
from ...drawing.figures import Figure, look, panels, sheet
from ...features.dashboard.figure import COLOURS as FEATURES
from ...thresholds import FEATURES_INSIDE, NEAR_ZERO
from .measures import Floats, interval, layer_groups, near_zero

COLOURS = {"neurons": LINE, **FEATURES}
"""Colours of the four comparisons in every figure."""
_BINS = np.linspace(0, 1, 51)
_REST = CATEGORIES[3:7]


def figure3(tables: Mapping[str, pd.DataFrame], difference: pd.DataFrame | None, depth: Floats, names: tuple[str, str]) -> Figure:
    """(a) Distributions of MPPC, one for each table; (b) of the difference to the seed variant; (c) the depth of matches.

    ``depth`` is the result of ``depth_map``; ``names`` are those of the model whose features are matched and of the other model.
    Figure 11 is the same for a third model. Without ``difference`` (no seed variant) panel (b) says so.

    >>> table = pd.DataFrame({"layer_a": [0, 1], "layer_b": [0, 1], "mppc": [0.9, 0.8]})
    >>> figure = figure3({"architecture": table}, None, np.eye(2), ("A", "B"))
    >>> [ax.get_title()[:3] for ax in figure.axes][:3]
    ['(a)', '(b)', '(c)']
    """
    with look():
        figure, (left, middle, right) = panels(3, 9.6, 2.9, width_ratios=[1.25, 1, 1])
        distributions(left, tables, "(a) MPPC")
        _difference(middle, difference)
        heat(right, depth, names, "(c) layer of the best match")
    return figure


def figure8(frame: pd.DataFrame, layers: int, name: str) -> Figure:
    """MPPC by groups of neighbouring layers (appendix B).

    >>> table = pd.DataFrame({"layer_a": [0, 1], "mppc": [0.9, 0.8]})
    >>> figure8(table, 2, "A").axes[0].get_xlabel()
    'MPPC'
    """
    with look():
        figure = sheet(4.6, 3.0)
        ax = figure.subplots()
        shades = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.85, len(layer_groups(layers))))
        for group, shade in zip(layer_groups(layers), shades, strict=True):
            mppc = frame[frame["layer_a"].isin(group)]["mppc"].dropna()
            ends = f"{group[0] + 1}" if len(group) == 1 else f"{group[0] + 1} to {group[-1] + 1}"
            _outline(ax, mppc, f"after block {ends}: mean {mppc.mean():.2f}", shade)
        _finish(ax, f"MPPC of features of {name}, by layer")
    return figure


def figure9(pairs: Sequence[tuple[str, str, pd.DataFrame, pd.DataFrame]]) -> Figure:
    """MPPC in both directions, a panel for each pair: (model A, model B, forward, reverse) (appendix C).

    >>> table = pd.DataFrame({"mppc": [0.9, 0.8]})
    >>> len(figure9([("A", "B", table, table)]).axes)
    1
    """
    with look():
        figure, axes = panels(max(1, len(pairs)), 4.4 * max(1, len(pairs)), 3.0)
        for ax, letter, (a, b, forward, reverse) in zip(axes, "abcdef", pairs, strict=False):
            for frame, text, colour in ((forward, f"{a} in {b}", CATEGORIES[1]), (reverse, f"{b} in {a}", CATEGORIES[2])):
                _outline(ax, frame["mppc"].dropna(), f"{text}: mean {frame['mppc'].mean():.2f}", colour)
            _finish(ax, f"({letter}) MPPC in both directions")
    return figure


def figure10(depth: Floats, names: tuple[str, str]) -> Figure:
    """The depth of matches in the reverse direction (appendix C).

    >>> figure10(np.eye(2), ("B", "A")).axes[0].get_ylabel()
    'layer of A'
    """
    with look():
        figure = sheet(3.6, 3.0)
        heat(figure.subplots(), depth, names, "layer of the best match, reverse")
    return figure


def distributions(ax: Any, tables: Mapping[str, pd.DataFrame], title: str) -> None:
    """One outline for each table, all with area 1."""
    rest = iter(_REST)
    for label, frame in tables.items():
        mppc = frame["mppc"].dropna()
        _outline(ax, mppc, f"{label}: mean {mppc.mean():.2f}", COLOURS.get(label) or next(rest, INK))
    _finish(ax, title)


def _outline(ax: Any, values: pd.Series[float], label: str, colour: Any) -> None:
    """A histogram as a line with a pale area; negative correlations are drawn as zero."""
    if len(values):
        inside = np.clip(values, 0, 1)
        ax.hist(inside, _BINS, density=True, histtype="stepfilled", color=colour, alpha=0.12)
        ax.hist(inside, _BINS, density=True, histtype="step", color=colour, linewidth=1.3, label=label)


def _finish(ax: Any, title: str) -> None:
    ax.set(title=title, xlabel="MPPC", ylabel="density", xlim=(0, 1))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=6.5, loc="best")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _difference(ax: Any, difference: pd.DataFrame | None) -> None:
    ax.set_title("(b) MPPC minus that in the seed variant")
    if difference is None or not len(difference):
        ax.text(0.5, 0.5, "no seed variant\nwas compared", ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
        return
    values = difference["difference"].to_numpy()
    most = max(0.25, float(np.quantile(np.abs(values), 0.995)))
    ax.hist(np.clip(values, -most, most), np.linspace(-most, most, 61), density=True, color=CATEGORIES[1], alpha=0.75)
    low, high = interval(values)
    ax.axvspan(low, high, color=LINE, alpha=0.18, linewidth=0)
    ax.axvline(0, color=DARK, linewidth=0.8)
    text = f"{FEATURES_INSIDE:.0%} of features: {low:.2f} to {high:.2f}\n{near_zero(values):.0%} within ±{NEAR_ZERO}"
    ax.text(0.03, 0.97, text, va="top", fontsize=6.5, transform=ax.transAxes)
    ax.set(xlabel="difference", ylabel="density", xlim=(-most, most), ylim=(0, 1.2 * ax.get_ylim()[1]))  # room for the words
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def heat(ax: Any, depth: Floats, names: tuple[str, str], title: str) -> None:
    """A map of layers against layers, with numbers if there is room for them; empty where NaN."""
    a, b = names
    most = float(np.nanmax(depth))
    shown = ax.imshow(depth, origin="lower", aspect="auto", cmap="Blues", vmin=0, vmax=max(0.01, most))
    ax.set(title=title, xlabel=f"layer of {a}", ylabel=f"layer of {b}")
    for axis, count in ((ax.xaxis, depth.shape[1]), (ax.yaxis, depth.shape[0])):
        step = max(1, -(-count // 12))
        axis.set_ticks(range(0, count, step), [str(k + 1) for k in range(0, count, step)])
    if depth.size <= 64:
        for (row, column), value in np.ndenumerate(depth):
            text = f"{value:.2f}" if value == value else ""
            ax.text(column, row, text, ha="center", va="center", fontsize=6, color="white" if value > 0.6 * most else INK)
    ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.04)
