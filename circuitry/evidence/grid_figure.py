"""The methodology grid as a picture: one row a way of measuring, one column a metric."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ..results.figures import COLOURS, STYLE, centred
from .grid import Sensitivity


def draw(found: Sensitivity) -> Figure:
    """The share of the finding's cell in every setting, with a cross where the finding does not hold.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"ablation": ["zero"], "direction": ["noising"], "frozen": ["as written"], "metric": ["logit"],
    ...                       "share": [0.5], "holds": [False]})
    >>> draw(Sensitivity("h[3] -> logits", 3, frame)).axes[0].get_yticklabels()[0].get_text()
    'zero, noising, frozen as written'
    """
    ways = ["ablation", "direction", "frozen"]
    shares = found.frame.pivot_table(index=ways, columns="metric", values="share", sort=False)
    held = found.frame.pivot_table(index=ways, columns="metric", values="holds", sort=False).to_numpy(float)
    values = shares.to_numpy(float)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.2 + 0.9 * values.shape[1], 1.2 + 0.22 * len(values)), layout="constrained")
        ax = figure.add_subplot()
        image = ax.imshow(values, cmap=COLOURS, norm=centred(values), aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            mark = "" if held[row, column] else " ✗"
            dark = abs(value) > 0.6 * np.nanmax(np.abs(values))
            ax.text(column, row, f"{value:.2f}{mark}", ha="center", va="center", fontsize=7, color="white" if dark else "black")
        ax.set_yticks(range(len(values)), [f"{a}, {d}, frozen {f}" for a, d, f in shares.index])
        ax.set_xticks(range(values.shape[1]), [str(name).replace("_", " ") for name in shares.columns])
        figure.colorbar(image, ax=ax, label="share of the whole effect")
        ax.set_title(f"{found.path}\n{found.claim}: in {found.held} of {len(found.frame)} settings (✗: not)", wrap=True)
    return figure
