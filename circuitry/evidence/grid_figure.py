"""The sensitivity grid as a picture: a row for each ablation, direction and frozen set, a column for each metric."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from ..colours import ON_PALE
from ..drawing.figures import COLOURS, Figure, centred, look, sheet
from ..drawing.scales import Scale
from .grid import AS_WRITTEN, Sensitivity

_WAYS = ["ablation", "direction", "frozen"]


def draw(sensitivity: Sensitivity) -> Figure:
    """The normalized effect of the finding's cell in every setting, with a cross where the finding does not hold.

    >>> frame = pd.DataFrame({"ablation": ["zero"], "direction": ["noising"], "frozen": ["as written"], "metric": ["logit"],
    ...                       "normalized": [0.5], "holds": [False]})
    >>> draw(Sensitivity("h[3] -> logits", 3, frame)).axes[0].get_yticklabels()[0].get_text()
    'zero, noising, as written'
    """
    effects, holds = _grid(sensitivity.frame, "normalized"), _grid(sensitivity.frame, "holds").to_numpy(float)
    values = effects.to_numpy(float)
    dark = 0.6 * float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
    scale = Scale.of(values.ravel())
    with look():
        figure = sheet(3.6 + 0.9 * values.shape[1], 1.7 + 0.22 * len(values))
        ax = figure.add_subplot()
        image = ax.imshow(values, cmap=COLOURS, norm=centred(values), aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            mark = "" if holds[row, column] else " ✗"
            colour = "white" if abs(value) > dark else ON_PALE
            ax.text(column, row, f"{scale.text(value)}{mark}", ha="center", va="center", fontsize=7, color=colour)
        ax.set_yticks(range(len(values)), [_way(*index) for index in effects.index])
        ax.set_xticks(range(values.shape[1]), [str(name).replace("_", "\n") for name in effects.columns])
        ax.set_ylabel("ablation, direction, frozen set")
        figure.colorbar(image, ax=ax, label=scale.unit("normalized effect"))
        claim = f"{sensitivity.claim}: in {sensitivity.held} of {len(sensitivity.frame)} settings (✗: not)"
        width = int(12 * figure.get_figwidth())
        figure.suptitle("\n".join(textwrap.fill(line, width) for line in (sensitivity.path, claim)), fontsize=8)
    return figure


def _grid(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of the frame by setting and metric, in the order of measurement, which ``unstack`` alone would sort."""
    grid = frame.set_index([*_WAYS, "metric"])[column].unstack()
    return grid.reindex(index=pd.MultiIndex.from_frame(frame[_WAYS].drop_duplicates()), columns=frame["metric"].unique())


def _way(ablation: str, direction: str, frozen: str) -> str:
    """The label of a row; a set that adds nodes to those of the path reads "as written and ..."."""
    return (
        f"{ablation}, {direction}, {AS_WRITTEN} {frozen}" if frozen.startswith("and ") else f"{ablation}, {direction}, {frozen}"
    )
