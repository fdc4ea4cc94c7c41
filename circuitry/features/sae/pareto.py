"""The figure of a sweep: how much SAEs reconstruct for how many features at a token."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.ticker import NullFormatter, ScalarFormatter

from ...colours import CATEGORIES
from ...drawing.figures import Figure, look, sheet

MEASURES = {"explained_variance": "explained variance", "recovered": "cross-entropy recovered"}
ALONG = ("l1", "l0_penalty", "k")
"""Settings that move an SAE along its curve."""
_MEASURED = ("node", "l0", "dead", "kl", "ce_clean", "ce_spliced", "ce_zero", *MEASURES)


def pareto(frame: pd.DataFrame) -> Figure:
    """A panel for every node and measure, a curve for every setting but the penalty, a point for every SAE.

    ``frame`` is that of a ``Sweep``. Curves go through the means over seeds.

    >>> frame = pd.DataFrame({"l1": [1.0, 2.0], "node": "resid[0]", "l0": [40.0, 20.0], "explained_variance": [0.9, 0.8]})
    >>> [ax.get_xlabel() for ax in pareto(frame).axes]
    ['L0: features per token']
    """
    measures, nodes = [name for name in MEASURES if name in frame], list(dict.fromkeys(frame["node"]))
    others = [str(name) for name in frame if name not in (*_MEASURED, *ALONG, "seed")]
    with look():
        figure = sheet(3.4 * len(nodes), 2.7 * len(measures))
        axes = figure.subplots(len(measures), len(nodes), squeeze=False)
        for row, measure in enumerate(measures):
            for column, node in enumerate(nodes):
                _panel(axes[row, column], frame[frame["node"] == node], measure, others)
                axes[row, column].set_title(node)
    return figure


def _panel(ax: Any, frame: pd.DataFrame, measure: str, others: list[str]) -> None:
    groups: Any = frame.groupby(others, dropna=False, sort=False) if others else [((), frame)]
    for number, (values, group) in enumerate(groups):
        pairs = zip(others, values, strict=True)
        label = ", ".join(str(value) if name == "kind" else f"{name} {value}" for name, value in pairs if not pd.isna(value))
        colour = CATEGORIES[number % len(CATEGORIES)]
        along = [name for name in ALONG if name in group and group[name].notna().any()]
        means = group.groupby(along)[["l0", measure]].mean() if along else group[["l0", measure]]
        means = means.sort_values("l0")
        ax.plot(means["l0"], means[measure], color=colour, linewidth=1.2)
        ax.plot(group["l0"], group[measure], "o", color=colour, markersize=3, label=label)
    ax.set(xscale="log", xlabel="L0: features per token", ylabel=MEASURES[measure])
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    if others:
        ax.legend(frameon=False, fontsize=6.5, loc="best")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
