"""The paper's figure 5: MPPC by the complexity and the monosemanticity of features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ...colours import CATEGORIES, FAINT, INK, LINE, PALE, fill
from ...drawing.figures import Figure, look, panels
from ...errors import CircuitryError
from .score import with_scores

COLOURS = {"SAE seed": CATEGORIES[0], "model seed": CATEGORIES[2], "architecture": CATEGORIES[1]}
"""The same in all figures about features: ColorBrewer's Dark2."""
_REST = (fill(-0.45, 1), LINE, PALE)


def figure5(
    variants: Mapping[str, pd.DataFrame],
    scores: pd.DataFrame,
    *,
    colours: Mapping[str, str] | None = None,
    main: str = "architecture",
) -> Figure:
    """(a) MPPC by complexity, a box for each variant and score; (b) MPPC by monosemanticity, for the variant ``main``.

    ``variants`` are tables of matches (``layer_a``, ``feature_a``, ``mppc``) of the same model's features, by name: "SAE seed",
    "model seed", "architecture"; ``scores`` is the result of ``score_layers``. Boxes span the middle half, the line is the median,
    whiskers reach the last value within 1.5 times the box; the numbers below are counts of features. Features without a score are
    left out. Labels mark scores of a proxy. Raises CircuitryError if there is nothing to draw.

    >>> matches = pd.DataFrame({"layer_a": 0, "feature_a": range(4), "mppc": [0.9, 0.8, 0.3, 0.1]})
    >>> scores = {"layer": 0, "feature": range(4), "complexity": [1, 1, 4, 5], "monosemanticity": [5, 5, 3, 1]}
    >>> figure = figure5({"architecture": matches}, pd.DataFrame(scores).assign(scorer="me", proxy=True))
    >>> figure.axes[0].get_xlabel()
    'complexity (proxy)'
    """
    if not variants or not len(scores):
        raise CircuitryError("figure 5 needs at least one table of matches, and scores of their features")
    joined = {name: with_scores(frame, scores).dropna(subset=["mppc"]) for name, frame in variants.items()}
    shown = COLOURS if colours is None else colours
    monosemanticity = next((column for column in ("monosemanticity", "monosemantic") if column in scores), "monosemanticity")
    proxy = " (proxy)" if bool(scores["proxy"].any()) else ""
    with look():
        figure, (left, right) = panels(2, 7.2, 3.1, width_ratios=[1.5, 1])
        _boxes(left, joined, "complexity", shown)
        name = main if main in joined else next(iter(joined))
        _boxes(right, {name: joined[name]}, monosemanticity, shown)
        for ax, letter, score in ((left, "a", "complexity"), (right, "b", monosemanticity)):
            ax.set(title=f"({letter}) MPPC by {score}{proxy}", xlabel=f"{score}{proxy}")
        left.legend(*left.get_legend_handles_labels(), frameon=False, fontsize=7, loc="upper right")
        figure.supxlabel(_source(scores), fontsize=6, color="0.3", parse_math=False)
    return figure


def _source(scores: pd.DataFrame) -> str:
    scorers = ", ".join(sorted(set(scores["scorer"].astype(str))))
    source = (
        "no scorer read the text: a proxy computed from activations" if bool(scores["proxy"].any()) else f"scores by {scorers}"
    )
    return f"{source}; numbers below the boxes: features"


def _boxes(ax: Any, tables: Mapping[str, pd.DataFrame], score: str, colours: Mapping[str, str]) -> None:
    """Groups of boxes, one group for each score that occurs."""
    levels = sorted(
        {level for frame in tables.values() for level in frame.get(score, pd.Series(dtype=float)).dropna().astype(int)}
    )
    width, rest = 0.8 / len(tables), iter(_REST)
    for number, (name, frame) in enumerate(tables.items()):
        colour = colours.get(name) or next(rest, FAINT)
        ax.bar(0, 0, color=colour, label=name)  # for the legend
        for group, level in enumerate(levels):
            values = frame.loc[frame[score] == level, "mppc"].to_numpy(float)
            if len(values):
                at = group + (number - (len(tables) - 1) / 2) * width
                _box(ax, values, at, width, colour)
    if not levels:
        ax.text(0.5, 0.5, "no feature was scored", ha="center", va="center", transform=ax.transAxes)
    ax.set_xticks(range(len(levels)), [str(level) for level in levels])
    ax.set(ylabel="MPPC", ylim=(-0.09, 1.02), yticks=np.linspace(0, 1, 6), xlim=(-0.6, max(1, len(levels)) - 0.4))
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def _box(ax: Any, values: Any, at: float, width: float, colour: str) -> None:
    drawn = ax.boxplot(
        [np.clip(values, 0, 1)],
        positions=[at],
        widths=[0.85 * width],
        patch_artist=True,
        manage_ticks=False,
        flierprops={"markersize": 2, "markeredgecolor": "0.5", "markeredgewidth": 0.5},
        medianprops={"color": INK, "linewidth": 1.4},
    )
    drawn["boxes"][0].set(facecolor=colour, edgecolor="0.25", linewidth=0.6)
    ax.text(at, -0.035, str(len(values)), ha="center", va="top", fontsize=5.5, color="0.35")
