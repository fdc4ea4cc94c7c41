"""Skewed effects: a test of a mean that allows for skewness, and what a table's other cells say of examples that a cell missed.

No test of a mean holds whatever the distribution (Bahadur and Savage 1956): where one example in twenty has a large effect against
the sign of the others, most samples of eight hold none, and look like a clear effect. Nothing in such a sample tells, but the
other cells of its table do. docs/statistics.md explains the rule, benchmarks/significance.py measures it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import special

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

ENOUGH = 90
"""Of this many effects, something that happens to one in twenty is missed in one case of a hundred."""
TESTABLE = 6
"""With fewer examples no p of a sign-flip test is below 0.05, so no star can be withheld."""
_FAR, _SLACK, _MISSED = 3.0, 5.0, 0.05
_LARGEST_T = 4.0
_FLAT, _ROUNDING = 0.01, 1e-6


def johnson(values: Array) -> Array:
    """Two-sided p of each row of ``values`` [cell, example] having mean zero, by Student's t corrected for skewness.

    Johnson (1978) takes from t what the skewness of the sample adds to it. His correction grows with the square of t and would
    take the clearest effects for none, so it grows no further than to t = 4.

    >>> johnson(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])).round(3).tolist()
    [0.074, 1.0, 0.0]
    """
    n = values.shape[1]
    variance, third = _cumulants(values)
    return _corrected(values.mean(1), variance, third, np.full(len(values), n - 1.0))


def johnson_two(first: Array, second: Array) -> Array:
    """Two-sided p of the rows of two samples having the same mean, by Welch's t corrected for skewness as in ``johnson``.

    >>> johnson_two(np.array([[1.0, 2.0, 3.0]]), np.array([[7.0, 8.0, 9.0]])).round(3).tolist()
    [0.002]
    """
    (first_variance, first_third), (second_variance, second_third) = _cumulants(first), _cumulants(second)
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = (first_variance + second_variance) ** 2 / (
            first_variance**2 / (first.shape[1] - 1) + second_variance**2 / (second.shape[1] - 1)
        )
    return _corrected(
        first.mean(1) - second.mean(1),
        first_variance + second_variance,
        first_third - second_third,
        np.nan_to_num(freedom, nan=1.0),
    )


def _cumulants(values: Array) -> tuple[Array, Array]:
    """Variance and third cumulant of the mean of each row, estimated from the row."""
    n, centred = values.shape[1], values - values.mean(1, keepdims=True)
    return (centred**2).sum(1) / (n * (n - 1)), (centred**3).mean(1) / n**2


def _corrected(mean: Array, variance: Array, third: Array, freedom: Array) -> Array:
    """p of a mean, given the variance and the third cumulant of its estimate: never on the other side of zero."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # no spread: t is infinite, or 0 of 0
        t = np.nan_to_num(mean / np.sqrt(variance), nan=0.0)
        skewness = np.nan_to_num(third / variance**1.5, nan=0.0, posinf=0.0, neginf=0.0)
    size = np.abs(t)
    corrected = size + np.sign(t) * skewness * (1 + 2 * np.minimum(size, _LARGEST_T) ** 2) / 6
    return np.asarray(2 * special.stdtr(freedom, -np.maximum(corrected, 0)))


def alike(values: Array, least: int = 2) -> Iterator[tuple[Array, Array]]:
    """Rows of ``values`` [cell, example] by their number of examples: which rows they are, and their examples in ascending order.

    Rows with fewer than ``least`` examples (NaN is none), or with an infinite one, are left out.

    >>> [(rows.tolist(), found.tolist()) for rows, found in alike(np.array([[2.0, 1.0], [3.0, np.nan], [5.0, 4.0]]))]
    [([True, False, True], [[1.0, 2.0], [4.0, 5.0]])]
    """
    ordered = np.sort(values, axis=1)  # NaN last
    counts = np.where(np.isinf(values).any(1), 0, np.isfinite(values).sum(1))
    for n in np.unique(counts[counts >= least]):
        rows = counts == n
        yield rows, ordered[rows, :n]


def widths(ordered: Array) -> Array:
    """How wide the narrowest three quarters of each row's examples are, given in ascending order.

    Outliers do not widen it. Examples that are all but equal count as one part in a hundred of their median wide.

    >>> widths(np.array([[0.0, 1.0, 2.0, 100.0], [5.0, 5.0, 5.0, 5.0]])).tolist()
    [2.0, 0.05]
    """
    n, count = ordered.shape[1], math.ceil(0.75 * ordered.shape[1])
    narrowest = (ordered[:, count - 1 :] - ordered[:, : n - count + 1]).min(1)
    return np.asarray(np.maximum(narrowest, _FLAT * np.abs(np.median(ordered, axis=1))))


@dataclass(frozen=True)
class Outliers:
    """Examples of all cells of a table that lie far from the others of their cell, on the other side of zero.

    An outlier lies more than three widths (``widths``) from its cell's median, which is six standard deviations or more of normal
    examples, and has the other sign: only such an example can undo a mean; an effect that is sometimes nearly zero cannot. ``share``
    is their fraction of all examples in cells that vary, ``distance`` their median distance in widths, ``largest`` the largest
    distance in the unit of the effects, and ``seen`` the number of examples.
    """

    share: float
    distance: float
    largest: float
    seen: int

    @classmethod
    def of(cls, samples: Sequence[Array]) -> Outliers:
        """The outliers in arrays [cell, example]; cells that only vary by rounding, compared with the others, have none.

        >>> Outliers.of([np.array([[0.0, 1.0, 2.0, 3.0, -99.0], [1.0, 2.0, 3.0, 4.0, 103.0]])])
        Outliers(share=0.1, distance=33.333333333333336, largest=100.0, seen=10)
        """
        most = max((float(np.abs(sample[np.isfinite(sample)]).max(initial=0.0)) for sample in samples), default=0.0)
        far, largest, varying, seen = [np.empty(0)], 0.0, 0, 0
        for _, rows in (group for sample in samples for group in alike(sample)):
            varies = widths(rows) > _ROUNDING * most
            width, median = widths(rows)[varies, None], np.median(rows, axis=1, keepdims=True)[varies]
            away = np.abs(rows[varies] - median)
            outlying = (away > _FAR * width) & (rows[varies] * median < 0)
            far.append((away / width)[outlying])
            largest = max(largest, float(away[outlying].max(initial=0.0)))
            varying, seen = varying + away.size, seen + rows.size
        distances = np.concatenate(far)
        return cls(len(distances) / max(1, varying), float(np.median(distances)) if len(distances) else 0.0, largest, seen)

    @property
    def enough(self) -> bool:
        """Whether so many examples were seen that outliers as rare as one in twenty would be among them.

        >>> Outliers(0.0, 0.0, 0.0, 16).enough, Outliers(0.0, 0.0, 0.0, 96).enough
        (False, True)
        """
        return self.seen >= ENOUGH

    def may_hide(self, mean: Array, width: Array, examples: int) -> Array:
        """Which means [cell] of this many examples could be due to outliers that are not among the examples.

        A mean could be if its cell may have missed outliers, and it is less than five times what they add to a mean: their share
        times their distance in the cell's own width, at most twice the largest that was seen. The factor is five, since their
        number, their size and the cell's width are known only to within a factor of two or so. If too few examples were seen,
        every mean could be.

        >>> Outliers(0.05, 20.0, 15.0, 200).may_hide(np.array([0.5, 8.0, 8.0]), np.array([1.0, 1.0, 2.0]), 8).tolist()
        [True, False, False]
        """
        if examples < TESTABLE or (self.enough and self._all_seen(examples)):
            return np.zeros(len(mean), bool)
        return np.full(len(mean), not self.enough) | (np.abs(mean) < self._added(width))

    def missed(self, width: Array, examples: int) -> Array:
        """How far off a mean [cell] of this many examples may be by outliers that are not among them, in the unit of the effects.

        This is the rule of ``may_hide`` for a mean that is compared with a number other than zero. Outliers that nothing was seen of
        add nothing, however few examples were seen.

        >>> Outliers(0.05, 20.0, 15.0, 200).missed(np.array([1.0, 2.0]), 8).round(6).tolist()
        [5.0, 7.5]
        """
        return np.zeros(len(width)) if self._all_seen(examples) else self._added(width)

    def _all_seen(self, examples: int) -> bool:
        return bool((1 - self.share) ** examples <= _MISSED)

    def _added(self, width: Array) -> Array:
        return np.asarray(_SLACK * self.share * np.minimum(self.distance * width, 2 * self.largest))
