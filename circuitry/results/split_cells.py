"""A heat map whose cells are cut in two: one half for each of two things measured at the same place (the paper's Figure 13)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.patches import Rectangle

from ..drawing.figures import COLOURS, Figure, centred, look, sheet
from ..drawing.scales import PLAIN
from ..errors import CircuitryError, several
from .figures import colour_bar, explain, meaning
from .table import PatchingTable


def split_cells(table: PatchingTable, axis: str, labels: Sequence[str] | None = None) -> Figure:
    """Cells of two axes, cut in two along a third axis of two values: the first to the left, the second to the right.

    ``labels`` replace the last axis's values below the columns, such as tokens. Raises CircuitryError if the table does not have
    three axes, ``axis`` does not have two values, or there is not one label for each column.

    >>> cells = [{"metric": m, "layer": n, "position": p} for m in ("IO", "S") for n in (0, 1) for p in ("1", "2")]
    >>> table = PatchingTable.of(cells, np.arange(8.0)[:, None], np.zeros(1), np.ones(1), "logit")
    >>> split_cells(table, "metric", ["When", "Mary"]).axes[0].get_xticklabels()[1].get_text()
    'Mary'
    """
    values = list(dict.fromkeys(table.frame[axis])) if axis in table.axes else []
    if len(table.axes) != 3 or len(values) != 2:
        raise CircuitryError(
            f"expected an axis of two values, and two more axes; got {axis!r} with {len(values)} values, of the axes {table.axes}"
        )
    parts = [table.select(axis, value) for value in values]
    halves = [part.pivot(part.carried()) for part in parts]
    grids = np.stack([half.to_numpy(dtype=float) for half in halves])
    rows, columns = grids.shape[1:]
    names = [str(c) for c in halves[0].columns] if labels is None else list(several("labels", labels))
    if len(names) != columns:
        raise CircuitryError(f"expected {columns} labels, one for each column, got {len(names)}")
    with look():
        figure = sheet(min(9.0, 1.6 + 0.36 * columns), 1.6 + 0.3 * rows)
        ax = figure.add_subplot()
        boxes = [
            Rectangle((column - 0.5 + 0.5 * half, row - 0.5), 0.5, 1)
            for half in (0, 1) for row in range(rows) for column in range(columns)
        ]  # fmt: skip
        patches = PatchCollection(boxes, cmap=COLOURS, norm=centred(grids), edgecolor="white", linewidth=0.2)
        patches.set_array(grids.ravel())
        ax.add_collection(patches)
        ax.set(xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), ylabel=halves[0].index.name or table.axes[-2])
        for edge in range(1, columns):
            ax.axvline(edge - 0.5, color="0.5", linewidth=0.5)
        ax.set_xticks(range(columns), names, rotation=60, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(rows), [str(i) for i in halves[0].index])
        colour_bar(figure, ax, patches, table, PLAIN)
        explain(figure, meaning(table))
        ax.set_title(f"{table.provenance.get('title', '')}\nleft half {values[0]}, right half {values[1]}".strip(), wrap=True)
    return figure
