"""How far the effects of pairs of features agree: correlations and equal signs, with intervals. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from ...results.statistics import Array
from ..circuits.alignment import measured

MEASURES = ("Pearson", "Spearman", "same sign")
_DIGITS = 6
"""Of a normalized effect; later ones are rounding in float32, and would order effects that are the same."""
_LEAST = 3
"""Two pairs always correlate perfectly, or not at all."""
_FLAT = 1e-20
"""A variance below this fraction of the mean square is rounding."""


@dataclass(frozen=True)
class Effects:
    """What features do in one model: ``effect`` [pair, prompt] and ``whole`` [prompt], the effect of exchanging the whole prompt."""

    effect: Array
    whole: Array

    def normalized(self, weights: Array) -> Array:
        """The normalized effects [row, pair] under weights of prompts [row, prompt] that add up to 1.

        >>> Effects(np.array([[1.0, 3.0]]), np.array([4.0, 4.0])).normalized(np.array([[0.5, 0.5]])).tolist()
        [[0.5]]
        """
        return _rounded((weights @ self.effect.T) / (weights @ self.whole)[:, None])

    @property
    def mean(self) -> Array:
        """The normalized effect of each pair's feature over all prompts [pair]."""
        return _rounded(self.effect.mean(1) / self.whole.mean())

    def take(self, pairs: Array) -> Effects:
        """The effects of some pairs."""
        return Effects(self.effect[pairs], self.whole)


def ceiling(a: Effects, b: Effects) -> float:
    """The Pearson correlation to expect if all true effects of ``a`` and ``b`` were equal, since both are measured on few prompts.

    It takes the noise of both to be independent. NaN where effects do not vary.

    >>> rng, true = np.random.default_rng(0), np.arange(50.0)[:, None]
    >>> a, b = (Effects(true + 40 * rng.normal(size=(50, 8)), np.ones(8)) for _ in range(2))
    >>> round(ceiling(a, b), 1)
    0.5
    """
    reliabilities = []
    for one in (a, b):
        by_prompt = (one.effect - one.mean[:, None] * one.whole) / one.whole.mean()
        with np.errstate(invalid="ignore", divide="ignore"):
            noise = by_prompt.var(1, ddof=1).mean() / by_prompt.shape[1]
            reliabilities.append(np.clip(1 - noise / one.mean.var(), 0, 1))
    return float(np.sqrt(np.prod(reliabilities)))


def _rounded(values: Array) -> Array:
    return np.asarray(np.round(values, _DIGITS) + 0.0)  # -0 becomes 0


def differences(a: Effects, b: Effects) -> Array:
    """By prompt, what adds up to the difference of two normalized effects [pair, prompt]: their mean is ``a.mean - b.mean``.

    A normalized effect is a ratio of means, so a prompt also counts by how far its whole effect is from the mean.

    >>> a, b = Effects(np.array([[1.0, 3.0]]), np.array([2.0, 2.0])), Effects(np.array([[1.0, 1.0]]), np.array([1.0, 3.0]))
    >>> differences(a, b).tolist(), a.mean - b.mean
    ([[-0.25, 1.25]], array([0.5]))
    """
    parts = [(one.effect - one.mean[:, None] * one.whole) / one.whole.mean() + one.mean[:, None] for one in (a, b)]
    return np.asarray(parts[0] - parts[1])


def agreement(x: Array, y: Array, weights: Array | None = None) -> Array:
    """Pearson's and Spearman's correlation and the share of equal signs [row, 3] of effects [row, pair], weighted by pair.

    Pairs in which neither feature has an effect do not count for the signs. A correlation is NaN where
    nothing varies, and for fewer than three pairs.

    >>> agreement(np.array([[1.0, 2.0, 3.0]]), np.array([[1.0, 4.0, -9.0]])).round(2).tolist()
    [[-0.73, -0.5, 0.67]]
    """
    if weights is None:
        ranks, weights = (rankdata(x, axis=1), rankdata(y, axis=1)), np.full(x.shape, 1 / x.shape[1])
    else:
        x, y, weights = np.broadcast_arrays(x, y, weights)
        ranks = _ranks(x, weights), _ranks(y, weights)
    acting = weights * ((x != 0) | (y != 0))
    with np.errstate(invalid="ignore", divide="ignore"):
        signs = (acting * (np.sign(x) == np.sign(y))).sum(1) / acting.sum(1)
    return np.stack([_correlation(x, y, weights), _correlation(*ranks, weights), signs], 1)


def _correlation(x: Array, y: Array, weights: Array) -> Array:
    squares = [(weights * values**2).sum(1) for values in (x, y)]
    x, y = (values - (weights * values).sum(1, keepdims=True) for values in (x, y))
    variances = [(weights * values**2).sum(1) for values in (x, y)]
    varying = (x.shape[1] >= _LEAST) & np.all([v > _FLAT * s for v, s in zip(variances, squares, strict=True)], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (weights * x * y).sum(1) / np.sqrt(variances[0] * variances[1])
    return np.where(varying, np.clip(r, -1, 1), np.nan)


def _ranks(values: Array, weights: Array) -> Array:
    """The rank of each value in the resample that ``weights`` describe, ties sharing theirs, up to scale and shift."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered, heavy = np.take_along_axis(values, order, 1), np.take_along_axis(weights, order, 1)
    upto = np.cumsum(heavy, axis=1)
    new = np.diff(ordered, axis=1, prepend=np.nan) != 0
    places = np.arange(values.shape[1])
    first = np.maximum.accumulate(np.where(new, places, 0), axis=1)
    last = np.roll(new, -1, axis=1)
    last[:, -1] = True
    end = np.minimum.accumulate(np.where(last, places, len(places))[:, ::-1], axis=1)[:, ::-1]
    middle = (np.take_along_axis(upto - heavy, first, 1) + np.take_along_axis(upto, end, 1)) / 2
    ranks = np.empty(middle.shape)
    np.put_along_axis(ranks, order, middle, 1)
    return ranks


def by_prompts(a: Effects, b: Effects) -> tuple[Array, Array, Array]:
    """Each measure of agreement with the ends of its bootstrap interval over prompts [3] each.

    >>> effects = Effects(np.array([[1.0, 2.0], [3.0, 3.0], [2.0, 1.0]]), np.ones(2))
    >>> by_prompts(effects, effects)[0].round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    return measured(lambda weights: agreement(a.normalized(weights), b.normalized(weights)), a.effect.shape[1])


def by_features(a: Effects, b: Effects) -> tuple[Array, Array, Array]:
    """The same with intervals over pairs of features.

    >>> effects = Effects(np.array([[1.0, 2.0], [3.0, 3.0], [2.0, 1.0]]), np.ones(2))
    >>> by_features(effects, effects)[0].round(6).tolist()
    [1.0, 1.0, 1.0]
    """
    return measured(lambda weights: agreement(a.mean[None], b.mean[None], weights), len(a.effect))
