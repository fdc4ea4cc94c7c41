"""One table as a page or a notebook shows it: its cells, its heat map if it has two axes or more, and its scales."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..drawing.scales import Scale
from ..prompting import record
from .cells import CellView, Row, cells_of, heat_map, limit
from .recorded import way
from .strips import Strip, Token, strips, worst
from .table import PatchingTable


@dataclass(frozen=True)
class TableView:
    """One table as a page shows it. Its ``number`` makes ids unique in the page; 0 gives none.

    ``columns`` and ``rows`` are its heat map, empty if it is drawn as bars. Colours end at the effect ``most`` and at the
    normalized effect ``most_normalized``.
    """

    number: int
    name: str
    table: PatchingTable
    cells: list[CellView]
    columns: list[str]
    rows: list[Row]
    most: float
    most_normalized: float
    files: list[tuple[str, str]]

    @classmethod
    def of(cls, number: int, name: str, table: PatchingTable, files: list[tuple[str, str]]) -> TableView:
        """Compute what the page shows of a table.

        >>> import numpy as np
        >>> table = PatchingTable.of([{"layer": 0}], np.ones((1, 4)), np.zeros(4), np.ones(4), "logit", {"title": "T"})
        >>> TableView.of(1, "table1", table, []).title
        'T'
        """
        cells = cells_of(table, number)
        columns, rows = heat_map(cells, table.axes) if len(table.axes) > 1 else ([], [])
        most, most_normalized = limit([cell.mean for cell in cells]), limit([cell.normalized for cell in cells])
        return cls(number, name, table, cells, columns, rows, most, most_normalized, files)

    @property
    def title(self) -> str:
        """Its heading: the table's title, or else its file name."""
        return str(self.table.provenance.get("title") or self.name)

    @property
    def caption(self) -> str:
        """The number of examples, the task and the table's notes, except those that the page's legends repeat."""
        # An option that is an axis differs between cells.
        task = record.words(self.table.provenance.get("task"), without=["examples", *self.table.axes])
        notes = [note for note in self.table.notes() if not note.startswith("*")]
        examples = f"means over {self.table.frame['example'].nunique()} examples"
        return "; ".join(filter(None, [examples, way(self.table.provenance), task, *notes]))

    @cached_property
    def strips(self) -> list[Strip]:
        """All examples by their mean deviation over the cells, for each set of prompts."""
        return strips(self.table)

    @cached_property
    def worst(self) -> list[tuple[Strip, dict[str, Any], list[Token]]]:
        """The examples that disagree most with the means of all cells."""
        return worst(self.strips)

    @property
    def band(self) -> float:
        """The largest |mean| that 95 % of random nodes do not exceed; NaN without random nodes."""
        return max((cell.band for cell in self.cells if not math.isnan(cell.band)), default=math.nan)

    @property
    def has_normalized(self) -> bool:
        """Whether any cell's normalized effect is known."""
        return any(not math.isnan(cell.normalized) for cell in self.cells)

    @property
    def tested(self) -> bool:
        """Whether any cell was tested against zero, which needs effects that can be negative."""
        return any(cell.signed for cell in self.cells)

    @cached_property
    def numbers(self) -> Scale:
        """The scale in which means are written; the unit says it."""
        return self.table.scale()

    @property
    def ends(self) -> tuple[float, float]:
        """The effects at the red and at the blue end of the colours. Both are ``most`` if the sign that carries differs between cells.

        >>> import numpy as np
        >>> falls = PatchingTable.of([{"layer": 0}], np.full((1, 4), -1.0), np.full(4, 2.0), np.zeros(4), "logit")
        >>> TableView.of(1, "t", falls, []).ends
        (1.0, -1.0)
        """
        sign = self.table.carrying
        return (self.most, self.most) if sign == 0 else (-(sign or 1) * self.most, (sign or 1) * self.most)

    @property
    def scale(self) -> tuple[float, float]:
        """The least and the greatest value on the axis of the bars, which includes zero."""
        ends = [value for cell in self.cells for value in (cell.mean, cell.low, cell.high, cell.band, -cell.band)]
        ends = [end for end in ends if math.isfinite(end)]
        low, high = min([0.0, *ends]), max([0.0, *ends])
        return (low, high) if high > low else (0.0, 1.0)
