"""The cells of a table with their statistics, as a page shows them: text, colours and tooltips."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..colours import number
from ..html.formats import interval, percent, small
from ..thresholds import SIGNIFICANT
from .measurements import merged
from .strips import said
from .table import PatchingTable

_SHOWN = ("mean", "se", "low", "high", "normalized", "q", "random_quantile")


@dataclass(frozen=True)
class CellView:
    """One cell: its axis values by name, and the columns of ``PatchingTable.statistics``.

    ``anchor`` is its id in the page. ``band``: the |mean| that 95 % of random nodes do not exceed. ``prompts``: how many were
    measured. ``signed``: whether the effect can be negative; only such an effect is tested against zero. ``labels``: the values of
    axes that run over latents, with the labels of these. ``disagreeing``: the examples that disagree most with the mean.
    """

    anchor: str
    values: dict[str, Any]
    mean: float
    se: float
    low: float
    high: float
    normalized: float
    q: float
    beyond: float
    prompts: int
    band: float = math.nan
    signed: bool = True
    labels: Mapping[str, str] = field(default_factory=dict)
    disagreeing: str = ""

    def named(self, axis: str) -> str:
        """The value of an axis, with its label if it has one.

        >>> CellView("c", {"k": 3}, 1.0, 0.1, 0.8, 1.2, 0.5, 0.01, 1.0, 16, labels={"k": "3 brackets"}).named("k")
        '3 brackets'
        """
        return self.labels.get(axis, str(self.values[axis]))

    @property
    def place(self) -> str:
        """Its axis values as text.

        >>> CellView("c", {"layer": 3, "position": "B"}, 1.0, 0.1, 0.8, 1.2, 0.5, 0.01, 1.0, 16).place
        'layer 3, position B'
        """
        return ", ".join(f"{axis} {self.named(axis)}" for axis in self.values) or "the one cell"

    @property
    def label(self) -> str:
        """Its axis values alone.

        >>> CellView("c", {"layer": 3}, 1.0, 0.1, 0.8, 1.2, 0.5, 0.01, 1.0, 16).label
        '3'
        """
        return ", ".join(map(self.named, self.values)) or "all"

    @property
    def carried(self) -> float:
        """The mean as it is coloured: above zero if it carries the behaviour, that is, has the sign of the whole input's effect.

        >>> CellView("c", {}, -1.0, 0.1, -1.2, -0.8, 0.5, 0.01, 1.0, 16).carried
        1.0
        """
        return math.copysign(self.mean, self.normalized) if math.isfinite(self.normalized) else self.mean

    @property
    def found(self) -> bool:
        """Whether the effect differs from zero at a false discovery rate of 5 % over the table.

        >>> CellView("c", {}, 1.0, 0.1, 0.8, 1.2, 0.5, 0.01, 1.0, 16).found
        True
        """
        return bool(self.q < SIGNIFICANT)

    @property
    def unsure(self) -> bool:
        """Whether the effect was tested against zero and is not significant.

        >>> [CellView("c", {}, 1.0, 0.1, 0.8, 1.2, 0.5, math.nan, 1.0, 16, signed=kind).unsure for kind in (True, False)]
        [True, False]
        """
        return self.signed and not self.found

    @property
    def tip(self) -> str:
        """Everything about the cell, one ``name: value`` on each line.

        >>> CellView("c", {"layer": 3}, -1.0, 0.1, -1.2, -0.8, 0.5, 0.01, 1.0, 16).tip.splitlines()[:2]
        ['layer: 3', 'mean effect: −1.00']
        """
        lines = [f"{axis}: {self.named(axis)}" for axis in self.values]
        lines += [f"mean effect: {number(self.mean) or 'not measured'}"]
        if math.isfinite(self.low):
            lines += [f"95 % interval: {interval(self.low, self.high)}"]
        facts = {
            "standard error": number(self.se).lstrip("+"),
            "normalized effect": percent(self.normalized),
            "q": small(self.q),
            "prompts": str(self.prompts),
            "stronger than": f"{percent(self.beyond)} of random nodes" if math.isfinite(self.beyond) else "",
            "examples that disagree most": self.disagreeing,
        }
        return "\n".join([*lines, *(f"{name}: {text}" for name, text in facts.items() if text)])


@dataclass(frozen=True)
class Row:
    """A row of a heat map: its axis values, each with the number of rows that it spans (0 if an earlier row spans this one)."""

    heads: list[tuple[str, int]]
    cells: list[CellView | None]


def cells_of(table: PatchingTable, number_of_table: int = 1) -> list[CellView]:
    """All cells in the table's order; ``number_of_table`` makes their anchors unique in a page.

    >>> import numpy as np
    >>> table = PatchingTable.of([{"layer": 0}], np.ones((1, 4)), np.zeros(4), np.full(4, 2.0), "logit")
    >>> [(cell.anchor, cell.mean, cell.normalized) for cell in cells_of(table, 2)]
    [('cell-2-0', 1.0, 0.5)]
    """
    statistics, bands, signed = table.statistics(), table.random_band(), table.signed()
    axes = list(table.axes)
    counted = table.frame.groupby(axes, sort=False)["effect"].count() if axes else pd.Series([table.frame["effect"].count()])
    columns = [statistics[column].tolist() for column in _SHOWN]
    views, disagreeing = [], said(table)
    for i, (index, prompts) in enumerate(zip(statistics.index, counted, strict=True)):
        values = index if isinstance(index, tuple) else (index,)
        mean, se, low, high, normalized, q, beyond = (float(column[i]) for column in columns)
        named = dict(zip(axes, values, strict=True)) if axes else {}
        labels = {axis: table.named(axis, named[axis]) for axis in table.labels}
        rest = int(prompts), float(bands.iloc[i]), bool(signed.iloc[i]), labels, disagreeing[i]
        views.append(CellView(f"cell-{number_of_table}-{i}", named, mean, se, low, high, normalized, q, beyond, *rest))
    return views


def heat_map(cells: Sequence[CellView], axes: Sequence[str]) -> tuple[list[str], list[Row]]:
    """Column heads and rows: the last axis across, the others down; None for a cell that the table does not have.

    >>> cells = [CellView("c", {"layer": n, "at": "B"}, 1.0, 0, 0, 0, 0, 0, 0, 1) for n in (0, 1)]
    >>> columns, rows = heat_map(cells, ["layer", "at"])
    >>> columns, [row.heads for row in rows]
    (['B'], [[('0', 1)], [('1', 1)]])
    """
    by_place = {tuple(cell.values[axis] for axis in axes): cell for cell in cells}
    places = list(dict.fromkeys(place[:-1] for place in by_place))
    columns = merged([[last for *place, last in by_place if tuple(place) == row] for row in places])
    texts = {(axis, cell.values[axis]): cell.named(axis) for cell in cells for axis in axes}
    heads = _spans([tuple(texts[each] for each in zip(axes, place, strict=False)) for place in places])
    rows = [Row(head, [by_place.get((*place, c)) for c in columns]) for head, place in zip(heads, places, strict=True)]
    return [texts[axes[-1], column] for column in columns], rows


def _spans(places: list[tuple[str, ...]]) -> list[list[tuple[str, int]]]:
    """For each row and axis, its value and the number of rows from this one on that share it and all values before it."""

    def span(row: int, axis: int) -> int:
        start = places[row][: axis + 1]
        if row and places[row - 1][: axis + 1] == start:
            return 0
        return next((n for n, place in enumerate(places[row:]) if place[: axis + 1] != start), len(places) - row)

    return [[(value, span(row, axis)) for axis, value in enumerate(place)] for row, place in enumerate(places)]


def limit(values: Iterator[float] | Sequence[float]) -> float:
    """The end of a colour scale: the largest absolute value, or 1 if there is none.

    >>> limit([-3.0, float("nan"), 2.0]), limit([])
    (3.0, 1.0)
    """
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
