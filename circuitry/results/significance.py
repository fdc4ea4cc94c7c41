"""Statistics of measured effects: intervals, tests, and the comparison with random nodes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..thresholds import LEVEL, RESAMPLES, SIGNIFICANT
from . import statistics
from .measurements import Measurements
from .skewness import Outliers
from .statistics import Array


class Assessed(Measurements):
    """Effects with their statistics: what a ``PatchingTable`` shows and writes."""

    @cached_property
    def _described(self) -> pd.DataFrame:
        return self._describe()

    def _describe(self, *options: Any) -> pd.DataFrame:
        values, signed = self.values(), self.signed().to_numpy()
        void = (np.abs(np.nan_to_num(values)) <= self._rounding.to_numpy()[:, None]).all(1)
        described = statistics.describe(values, *options, outliers=self.outliers, signed=signed, void=void)
        return described.set_axis(self.mean().index)

    @cached_property
    def outliers(self) -> Outliers:
        """Examples far from the others, over all cells and random nodes whose effects can be negative.

        >>> Assessed.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.ones(8), "logit").outliers.enough
        False
        """
        random = self.random_values()
        return Outliers.of([self.values()[self.signed()], *([] if random is None else [random])])

    def statistics(self, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
        """Statistics of each cell's mean effect, indexed as ``mean``.

        ``mean``, ``se`` (standard error), ``low`` and ``high`` (bootstrap interval over examples), ``normalized`` (1 is the effect of
        the whole input), ``p`` (test of mean zero; NaN if effects are never negative, 1 if no example has more than rounding of the
        metric), ``q`` (adjusted for false discoveries over
        all cells; NaN if p is below 0.05 but outliers may be missing among the examples), and ``random_quantile`` (fraction of
        random nodes whose |mean effect| is smaller; NaN without ``random``).

        >>> t = Assessed.of([{"layer": 0}], np.array([[1.0, 2.0, 3.0]]), np.zeros(3), np.full(3, 4.0), "logit")
        >>> t.statistics().round(2)[["mean", "se", "normalized", "p"]].values.tolist()
        [[2.0, 0.58, 0.5, 0.25]]
        """
        usual = (level, resamples, seed) == (LEVEL, RESAMPLES, 0)
        described = self._described if usual else self._describe(level, resamples, seed)
        table = described.copy()
        for place, name, column in ((0, "mean", self.mean()), (1, "se", self.sem()), (4, "normalized", self.normalized())):
            table.insert(place, name, column)
        return table.assign(random_quantile=self._random_quantile())

    def significant(self, q: float = SIGNIFICANT) -> pd.Series:
        """Which cells have an adjusted p below ``q``.

        >>> t = Assessed.of([{"layer": k} for k in (0, 1)], np.ones((2, 48)), np.zeros(48), np.ones(48), "logit")
        >>> t.significant().tolist()
        [True, True]
        """
        return self._described["q"] < q

    def can_show(self, q: float = SIGNIFICANT) -> bool:
        """Whether there are enough examples for any cell, or several cells together, to have an adjusted p below ``q``.

        >>> cells = [{"layer": n} for n in range(16)]
        >>> [Assessed.of(cells, np.ones((16, n)), np.zeros(n), np.ones(n), "logit").can_show() for n in (4, 12)]
        [False, True]
        """
        cells = int(self.signed().sum())
        return statistics.least_discovery(self.frame["example"].nunique(), cells, q) <= cells

    def _random_by_cell(self) -> list[Array | None]:
        """|Mean effect| of the random nodes that each cell is compared with."""
        cells = self.mean().index
        if self.random is None:
            return [None] * len(cells)
        shared, means = statistics.random_means(self.random, self.axes)
        keys = zip(*(cells.get_level_values(axis) for axis in shared), strict=True) if shared else [()] * len(cells)
        return [means.get(key) for key in keys]

    def _random_quantile(self) -> list[float]:
        # A draw may be the cell's own node: it is not smaller, whatever the last bit of either says.
        least = self.mean().abs() - self._rounding
        pairs = zip(least, self._random_by_cell(), strict=True)
        return [np.nan if means is None or np.isnan(mean) else float((means < mean).mean()) for mean, means in pairs]

    def random_band(self, share: float = 0.95) -> pd.Series:
        """The |mean effect| that this share of the random nodes does not exceed, by cell; NaN without ``random``.

        >>> random = pd.DataFrame({"draw": [0, 1, 2], "effect": [0.0, -2.0, 1.0]})
        >>> Assessed.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit", random=random).random_band(1.0).tolist()
        [2.0]
        """
        band = [np.nan if means is None else float(np.quantile(means, share)) for means in self._random_by_cell()]
        return pd.Series(band, index=self.mean().index)
