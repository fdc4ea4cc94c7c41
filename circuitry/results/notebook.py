"""What tables and comparisons show in a notebook: the heat map or the bars of the reports, and their numbers, which can be sorted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..colours import number
from ..html.formats import interval, percent, small
from ..html.output import Format, caption, details, heading, part, table
from .cells import CellView
from .view import TableView

if TYPE_CHECKING:
    from .compare import Comparison
    from .table import PatchingTable

MOST_CELLS = 1200
"""A heat map of more cells than this is not drawn in a notebook; the numbers of the strongest are listed."""
_MEASURES = ["effect", "95 % interval", "normalized", "q", "prompts"]


def of_table(one: PatchingTable) -> Iterator[Markup]:
    """The parts of a table's output.

    >>> import numpy as np
    >>> from circuitry.results.table import PatchingTable
    >>> table = PatchingTable.of([{"layer": 0}], np.ones((1, 4)), np.zeros(4), np.full(4, 2.0), "logit", {"path": "a -> b"})
    >>> [name in "".join(of_table(table)) for name in ("a -&gt; b", "50 %", "mean logit")]
    [True, True, True]
    """
    view = TableView.of(0, "patching table", one, [])
    path = str(one.provenance.get("path", ""))
    yield heading(one.provenance.get("title") or path or view.name, path if one.provenance.get("title") else "")
    drawn = len(view.cells) <= MOST_CELLS
    if drawn:
        yield part("heat_map", view, False) if view.rows else part("bars", view)
    yield caption(one.caption())
    if view.rows:
        numbers = _cells(one, view.cells)
        yield details(f"the numbers of {len(view.cells)} cells, strongest first", numbers) if drawn else numbers


def _cells(one: PatchingTable, cells: list[CellView]) -> Markup:
    """A row for each cell, the strongest first."""
    strongest = sorted(cells, key=lambda cell: -abs(cell.mean) if cell.mean == cell.mean else 0.0)
    rows = [
        [
            *(cell.named(axis) for axis in one.axes),
            cell.mean,
            interval(cell.low, cell.high),
            cell.normalized,
            cell.q,
            cell.prompts,
        ]
        for cell in strongest
    ]
    formats: dict[str, Format] = {"effect": number, "normalized": percent, "q": small}
    return table([*one.axes, *_MEASURES], rows, formats)


def of_comparison(two: Comparison) -> Iterator[Markup]:
    """The parts of a comparison's output: a row for each cell, those that differ most first.

    >>> import numpy as np
    >>> from circuitry.results.table import PatchingTable
    >>> one = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
    >>> "first" in "".join(of_comparison(one.compare(one)))
    True
    """
    first, second = two.names
    yield heading(f"{first} and {second}", two.unit)
    order = two.frame["difference"].abs().sort_values(ascending=False, kind="stable", na_position="last").index
    rows = []
    for index in order:
        row = two.frame.loc[index]
        values = (index if isinstance(index, tuple) else (index,)) if two.axes else ()
        rows.append(
            [*map(str, values), row["first"], row["second"], row["difference"], interval(row["low"], row["high"]), row["q"]]
        )
    columns = [*two.axes, "first", "second", "difference", f"{two.level:.0%} interval", "q"]
    formats: dict[str, Format] = {"first": number, "second": number, "difference": number, "q": small}
    yield table(columns, rows, formats)
    yield caption(f"first: {first}; second: {second}; {two.caption()}")
