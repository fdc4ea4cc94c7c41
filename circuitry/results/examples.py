"""The examples behind the means of a table: which of them disagree, and on which prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import CircuitryError, expected
from ..thresholds import OUTLYING
from .statistics import Array

if TYPE_CHECKING:
    from ..prompting.texts import PromptTexts
    from .measurements import Measurements

_NORMAL = 1.4826
"""The standard deviation of a normal distribution, in units of its median absolute deviation ..."""
_NORMAL_MEAN = 1.2533
"""... and of its mean absolute deviation, which serves if more than half of the numbers are the same."""


def aligned(table: Measurements, column: str = "effect") -> tuple[list[int], Array]:
    """The examples' numbers, and a column as an array [cell, example] with NaN where a cell lacks an example; cells as in ``mean``.

    >>> from circuitry.results.measurements import Measurements
    >>> table = Measurements.of([{"k": 0}, {"k": 1}], np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2), np.ones(2), "logit")
    >>> aligned(table)[0], aligned(table)[1].tolist()
    ([0, 1], [[1.0, 2.0], [3.0, 4.0]])
    """
    numbers, place = np.unique(table.frame["example"].to_numpy(), return_inverse=True)
    values = np.full((len(table.mean()), len(numbers)), np.nan)
    values[table.cell_numbers(), place] = table.frame[column]
    return [int(number) for number in numbers], values


def robust_z(values: Array) -> Array:
    """The distance of each number from the median, in units of a standard deviation that outliers do not change; NaN stays NaN.

    >>> robust_z(np.array([1.0, 2.0, 3.0, 4.0, 100.0])).round(1).tolist()
    [-1.3, -0.7, 0.0, 0.7, 65.4]
    """
    if not np.isfinite(values).any():
        return np.full(len(values), np.nan)
    away = values - np.nanmedian(values)
    spread = _NORMAL * np.nanmedian(np.abs(away)) or _NORMAL_MEAN * np.nanmean(np.abs(away))
    with np.errstate(over="ignore"):  # a subnormal spread: as far as can be
        return np.asarray(np.nan_to_num(away / spread, nan=np.nan) if spread else away * 0)


def strays(table: Measurements) -> tuple[list[int], Array]:
    """For each example, by how much its effects are farther from zero than the cells' means, on average over the cells.

    Effects of a cell whose mean is negative count with the opposite sign, so that cells of both signs do not cancel.

    >>> from circuitry.results.measurements import Measurements
    >>> effects = np.array([[1.0, 3.0], [-1.0, -3.0]])
    >>> strays(Measurements.of([{"k": 0}, {"k": 1}], effects, np.zeros(2), np.ones(2), "logit"))[1].tolist()
    [-1.0, 1.0]
    """
    numbers, values = aligned(table)
    known = values[np.isfinite(values).any(1)]
    if not len(known):
        return numbers, np.full(len(numbers), np.nan)
    means = np.nanmean(known, axis=1, keepdims=True)
    away = (known - means) * np.where(means < 0, -1.0, 1.0)
    counted = np.isfinite(away)
    with np.errstate(invalid="ignore"):  # an example without any effect has no deviation
        return numbers, np.where(counted, away, 0).sum(0) / counted.sum(0)


def over_cells(table: Measurements) -> pd.DataFrame:
    """The examples over all cells: see ``PatchingTable.outlying``.

    >>> from circuitry.results.measurements import Measurements
    >>> over_cells(Measurements.of([{}], np.array([[1.0, 2.0, 9.0]]), np.zeros(3), np.ones(3), "logit"))["example"].tolist()
    [2, 0, 1]
    """
    frames = [_stray(part, prompts).assign(**values) for values, prompts, part in by_prompts(table)]
    frame = pd.concat(frames, ignore_index=True)
    return frame.sort_values("z", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def by_prompts(table: Measurements) -> list[tuple[dict[str, Any], PromptTexts | None, Measurements]]:
    """The parts of a table that were measured on the same prompts, with the axis values that they share.

    Example 3 of one distance and example 3 of another are different prompts.

    >>> from circuitry.results.measurements import Measurements
    >>> [(values, prompts) for values, prompts, _ in by_prompts(Measurements.of([{}], np.ones((1, 2)), np.ones(2), np.ones(2), "u"))]
    [({}, None)]
    """
    if not table.prompts:
        return [({}, None, table)]
    parts: list[tuple[dict[str, Any], PromptTexts | None, Measurements]] = []
    for values, prompts in table.prompts:
        part = table
        for axis, value in values.items():
            part = part.select(axis, value)
        parts.append((values, prompts, part))
    return parts


def _stray(table: Measurements, prompts: PromptTexts | None) -> pd.DataFrame:
    numbers, deviation = strays(table)
    z = robust_z(deviation)
    wholes = aligned(table, "source")[1] - aligned(table, "base")[1]
    whole = [np.nanmean(column) if np.isfinite(column).any() else np.nan for column in wholes.T]
    columns = {"example": numbers, "deviation": deviation, "z": z, "outlier": np.abs(z) >= OUTLYING, "whole": whole}
    return pd.DataFrame({**columns, **_texts(numbers, prompts)})


def of_cell(table: Measurements, cell: Mapping[str, Any]) -> pd.DataFrame:
    """The examples of one cell: see ``PatchingTable.examples``.

    >>> from circuitry.results.measurements import Measurements
    >>> of_cell(Measurements.of([{}], np.array([[1.0, 2.0, 9.0]]), np.zeros(3), np.ones(3), "logit"), {})["deviation"].tolist()
    [5.0, -3.0, -2.0]
    """
    if set(cell) != set(table.axes):
        first = table.frame[list(table.axes)].iloc[0].to_dict()
        example = ", ".join(f"{axis}={value!r}" for axis, value in first.items())
        got = ", ".join(f"{axis}={value!r}" for axis, value in cell.items()) or "none"
        wanted = f"a value for each axis ({', '.join(table.axes)})" if table.axes else "no axis, since the table has one cell"
        raise CircuitryError(expected(wanted, got, f"for example examples({example}); outlying() is about all cells together"))
    prompts, one = table.prompts_of(**cell), table
    for axis, value in cell.items():
        one = one.select(axis, value)
    effect = one.frame["effect"].to_numpy(float)
    numbers = [int(number) for number in one.frame["example"]]
    deviation = effect - np.nanmean(effect)
    whole = (one.frame["source"] - one.frame["base"]).to_numpy(float)
    columns = {"example": numbers, "effect": effect, "deviation": deviation, "z": robust_z(effect), "whole": whole}
    frame = pd.DataFrame({**columns, **_texts(numbers, prompts)})
    return frame.sort_values("deviation", key=np.abs, ascending=False, kind="stable", ignore_index=True)


def _texts(numbers: list[int], prompts: PromptTexts | None) -> dict[str, list[str]]:
    """The prompts' columns; none for a table without prompts, or whose cells were measured on several sets of them."""
    if prompts is None:
        return {}
    pairs = {part: [prompts.text(number, part) for number in numbers] for part in ("answer", "foil")}
    return {"prompt": [prompts.marked(number) for number in numbers], **pairs}
