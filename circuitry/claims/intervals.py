"""Intervals that hold for all cells of a claim together, from the effects of every example.

Each of k cells gets the interval at the level 1 - (1 - level) / k (Bonferroni): all k contain their numbers at ``level``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..results import statistics
from ..results.compare import compare
from ..results.skewness import Outliers, widths
from ..results.statistics import Array
from ..results.table import PatchingTable
from ..thresholds import RESAMPLES

_PER_TAIL, _MOST, _BLOCK = 25, 40_000, 64
ROUNDING = 1e-6
"""Rounding in float32, as a fraction of the numbers that are subtracted."""
RESOLUTION = 0.001
"""What every end of an interval lies further out, as a fraction of the effect of the whole input, but never more than the effects of single
examples differ from their mean. An effect near zero can come from few of many prompts, and a sample without one of them looks certain: no
interval of a mean holds there."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and the number of examples.

    ``rounding`` is what may be rounding of the number, ``resolution`` how much further out the ends of the interval are for what so few
    examples cannot tell apart.
    """

    value: float
    low: float
    high: float
    examples: int
    rounding: float = 0.0
    resolution: float = 0.0


def ratios(table: PatchingTable, level: float) -> list[Estimate]:
    """The normalized effect of each cell: the mean effect over the mean effect of the whole input. BCa bootstrap over examples.

    NaN where the whole input has no clear effect, or where there is only one example.

    >>> table = PatchingTable.of([{}], np.array([[1.0, 2.0, 3.0]]), np.zeros(3), np.full(3, 4.0), "logit")
    >>> [estimate] = ratios(table, 0.95)
    >>> estimate.value, round(estimate.low, 2), round(estimate.high, 2), estimate.examples
    (0.5, -0.12, 1.12, 3)
    """
    whole = table.values("source") - table.values("base")
    return _estimates(table.values(), whole, _rounding(table), np.full(len(whole), RESOLUTION), level)


def means(table: PatchingTable, level: float) -> list[Estimate]:
    """The mean effect of each cell, in the unit of the table.

    >>> table = PatchingTable.of([{}], np.array([[1.0, 2.0, 3.0]]), np.zeros(3), np.full(3, 4.0), "logit")
    >>> means(table, 0.95)[0].value
    2.0
    """
    effects, whole = table.values(), table.values("source") - table.values("base")
    return _estimates(effects, np.ones_like(effects), _rounding(table), RESOLUTION * np.abs(whole.mean(1)), level)


def proportions(table: PatchingTable, level: float) -> list[Estimate]:
    """The share of examples that are right, with the exact interval of Clopper and Pearson: 8 of 8 is not the same as always.

    >>> table = PatchingTable.of([{}], np.ones((1, 8)), np.zeros(8), np.ones(8), "accuracy")
    >>> [estimate] = proportions(table, 0.95)
    >>> estimate.value, round(estimate.low, 3), estimate.high
    (1.0, 0.631, 1.0)
    """
    found = []
    for right in table.values():
        interval = stats.binomtest(int(right.sum()), len(right)).proportion_ci(_each(level, len(table.mean())), "exact")
        found.append(Estimate(float(right.mean()), float(interval.low), float(interval.high), len(right)))
    return found


def difference(first: PatchingTable, second: PatchingTable, by: str, level: float) -> Estimate:
    """The difference of one cell of each table, as ``circuitry.results.compare`` computes it: in pairs if the prompts are the same.

    >>> one, two = (PatchingTable.of([{}], np.array([[x, x, x]]), np.zeros(3), np.full(3, 2.0), "logit") for x in (1.0, 2.0))
    >>> difference(two, one, "normalized", 0.95).value
    0.5
    """
    row = compare(first, second, by, level).frame.iloc[0]  # type: ignore[arg-type]
    sides = [(ratios(table, level) if by == "normalized" else means(table, level))[0] for table in (first, second)]
    rounding, resolution = sum(side.rounding for side in sides), sum(side.resolution for side in sides)
    value, low, high = (float(row[name]) for name in ("difference", "low", "high"))
    return Estimate(value, low - resolution, high + resolution, min(side.examples for side in sides), rounding, resolution)


def apart(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two numbers from their own intervals: wide, but right where a bootstrap would have no spread.

    >>> apart(Estimate(1.0, 0.9, 1.0, 8), Estimate(0.5, 0.4, 0.6, 8)).low.__round__(2)
    0.3
    """
    value, examples = first.value - second.value, min(first.examples, second.examples)
    return Estimate(value, first.low - second.high, first.high - second.low, examples, first.rounding + second.rounding)


def _rounding(table: PatchingTable) -> Array:
    return ROUNDING * (np.abs(table.values("base")) + np.abs(table.values("source"))).mean(1)  # type: ignore[no-any-return]


def _each(level: float, cells: int) -> float:
    return 1 - (1 - level) / cells


def _estimates(top: Array, bottom: Array, rounding: Array, resolution: Array, level: float) -> list[Estimate]:
    """The ratio of the means of ``top`` and ``bottom`` [cell, example], ends of intervals further out by the ``resolution`` of each cell."""
    level, (cells, n) = _each(level, len(top)), top.shape
    value = np.full((3, cells), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        value[0] = top.mean(1) / bottom.mean(1)
    # The tail outside an interval must hold some resamples, or its end is the most extreme one whatever the level.
    resamples = min(_MOST, max(RESAMPLES, math.ceil(_PER_TAIL * 2 / (1 - level)))) if n > 1 else 0
    weights = statistics.resampling(n, resamples, np.random.default_rng(0))
    for start in range(0, cells if n > 1 else 0, _BLOCK):
        block = slice(start, start + _BLOCK)
        value[:, block] = _ratio(top[block], bottom[block], weights, level)
    with np.errstate(divide="ignore", invalid="ignore"):
        small = rounding / np.abs(bottom.mean(1))
        spread = (np.abs(top - value[:1].T * bottom) / np.abs(bottom.mean(1))[:, None]).max(1, initial=0.0)
    resolution = np.minimum(resolution, spread)
    value[1] -= resolution
    value[2] += resolution
    # Examples that differ by rounding alone do not say how far others would lie from them.
    value[1:] = np.where((spread <= small) & np.isfinite(value[1:]), value[0], value[1:])
    found = zip(*value, small, np.where(spread <= small, 0.0, resolution), strict=True)
    return [Estimate(float(v), float(low), float(high), n, float(s), float(r)) for v, low, high, s, r in found]


def _ratio(top: Array, bottom: Array, weights: Array, level: float) -> Array:
    """Ratio and ends of its interval, [3, cell]; NaN where the denominator may be zero."""
    below = weights @ bottom.T
    clear = np.all(below > 0, axis=0) | np.all(below < 0, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = top.mean(1) / bottom.mean(1)
        replicates = np.where(clear, (weights @ top.T) / below - value, 0.0)
        influence = np.where(clear[:, None], (top - value[:, None] * bottom) / bottom.mean(1)[:, None], 0.0)
    low, high = _wider(statistics.corrected(replicates, influence, level), influence, level)
    return np.where(clear, [value, value + low, value + high], [value, np.full_like(value, np.nan), np.full_like(value, np.nan)])


def _wider(interval: tuple[Array, Array], influence: Array, level: float) -> tuple[Array, Array]:
    """An interval about an estimate, at least as wide as Student's and as what outliers could add that the examples missed.

    The tails of a bootstrap are too short for many cells. Outliers are judged as those of a q are, from all cells that come together (up to ``_BLOCK``).
    """
    n = influence.shape[1]
    student = stats.t.ppf((1 + level) / 2, n - 1) * influence.std(1, ddof=1) / math.sqrt(n)
    wide = np.maximum(student, Outliers.of([influence]).missed(widths(np.sort(influence, axis=1)), n))
    return np.minimum(interval[0], -wide), np.maximum(interval[1], wide)
