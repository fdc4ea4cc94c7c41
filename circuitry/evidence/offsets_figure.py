"""The picture of the off-by-one detector: a row for each model, shares with intervals beside effects by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import TwoSlopeNorm

from ..colours import FOUND, ON_PALE, OTHERS, PERHAPS
from ..drawing.figures import Figure, look, sheet
from ..thresholds import CARRIES
from .write_profile import position_name

if TYPE_CHECKING:
    from .offsets_result import Offsets, Verdict

CARRYING, OPEN, OTHER = FOUND, PERHAPS, OTHERS
MOST_LAYERS = 12
"""Layers in the heat map: those with the largest effects, in order."""


def draw(offsets: Offsets) -> Figure:
    """Bars are the model's shares at each offset: dark if the offset carries the token, light if the data do not decide.

    Whiskers are bootstrap intervals, which must lie above the dashed line for an offset to count. The heat map has each
    layer's effects as percentages of the whole effect.

    >>> import circuitry as ct
    >>> from circuitry.evidence import off_by_one
    >>> task = ct.task("induction", distance=8, examples=12)
    >>> [ax.get_xlabel() for ax in draw(off_by_one(ct.load("bundled:gpt_neox"), task)).axes]
    ['position', 'position']
    """
    models = offsets.models
    layers = [min(MOST_LAYERS, len(_of(offsets, model)[1])) for model in models]
    heights = [max(1.5, 0.5 + 0.19 * count) for count in layers]
    with look():
        figure = sheet(6.4, sum(heights) + 0.3)
        grid = figure.subplots(len(models), 2, squeeze=False, height_ratios=heights)
        for (left, right), model in zip(grid, models, strict=True):
            _bars(left, offsets, model)
            _heat_map(right, offsets, model)
        for ax in grid[-1]:
            ax.set_xlabel("position")
    return figure


def _of(offsets: Offsets, model: Verdict) -> tuple[Any, Any]:
    """The rows of a model as a whole, and its effects as a grid of layers and offsets."""
    rows = offsets.frame[offsets.frame["model"] == model.model]
    grid = rows[rows["layer"] != "all"].pivot(index="layer", columns="offset", values="effect")
    return rows[rows["layer"] == "all"].sort_values("offset"), grid.sort_index()


def _bars(ax: Any, offsets: Offsets, model: Verdict) -> None:
    shares, _ = _of(offsets, model)
    share, low, high = (100 * shares[k].fillna(0).to_numpy(float) for k in ("share", "low", "high"))
    colours = [CARRYING if n in model.at else OPEN if n in model.open else OTHER for n in shares["offset"]]
    reach = np.maximum(0, [share - low, high - share])
    ax.bar(range(len(share)), share, yerr=reach, color=colours, width=0.7, error_kw={"linewidth": 0.9, "capsize": 2})
    ax.axhline(100 * CARRIES, color="0.4", linewidth=0.7, linestyle="--")
    ax.text(len(share) - 0.5, 100 * CARRIES, f"{CARRIES:.0%}", ha="right", va="bottom", fontsize=6, color="0.4")
    ax.set_ylim(min(0, 1.1 * low.min()), max(105, 1.05 * high.max()))
    ax.set_xticks(range(len(share)), [position_name(offsets.token, n) for n in shares["offset"]])
    ax.set_ylabel("share, %")
    ax.set_title(f"{model.model} ({model.architecture}): {model.kind}", loc="left", wrap=True)
    ax.spines[["top", "right"]].set_visible(False)


def _heat_map(ax: Any, offsets: Offsets, model: Verdict) -> None:
    _, grid = _of(offsets, model)
    strongest = grid.loc[sorted(grid.abs().max(axis=1).nlargest(MOST_LAYERS).index)]
    values = 100 * strongest.to_numpy(float)
    most = max(1.0, float(np.abs(values).max()))
    image = ax.imshow(values, cmap="RdBu", norm=TwoSlopeNorm(0, -most, most), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if abs(image.norm(value) - 0.5) > 0.3 else ON_PALE
        ax.text(column, row, str(round(value)), ha="center", va="center", fontsize=7, color=colour)
    ax.set_xticks(range(values.shape[1]), [position_name(offsets.token, n) for n in grid.columns])
    ax.set_yticks(range(len(strongest)), [str(n) for n in strongest.index])
    ax.set_ylabel("layer")
    ax.set_title("effect by layer, % of the whole effect", loc="left")
