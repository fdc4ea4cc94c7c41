"""Evidence for effects: bootstrap intervals, permutation tests, false-discovery control, and a baseline of random nodes.

Everything here takes arrays [cell, example] and treats all cells at once: a resample or a flip of signs is a row of weights,
so that one matrix product gives it for every cell. docs/statistics.md says what is computed and when not to trust it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import special, stats

from ..thresholds import LEVEL, RESAMPLES, SIGNIFICANT
from .skewness import ENOUGH, TESTABLE, Outliers, alike, johnson, johnson_two, widths
from .skewness import Array as Array

TEST, TWO_SAMPLE_TEST = "sign flips and Johnson's t", "label shuffles and Johnson's t"
"""``mean_test`` and ``two_sample_test`` in a caption."""
EXACT = 4096
"""A permutation test with at most this many arrangements goes through all of them."""
_DRAWS, _MOST_DRAWS, _DRAWS_PER_CELL, _BLOCK = 9_999, 99_999, 40, 2048
_ALL_FLIPS = 12  # examples whose signs are flipped in all ways; with more, random flips reach every q
_SLACK = 1e-12  # sums of the same numbers in another order differ by rounding; they count as ties


def describe(
    values: Array,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
    *,
    outliers: Outliers | None = None,
    signed: Array | None = None,
    void: Array | None = None,
) -> pd.DataFrame:
    """``low``, ``high``, ``p`` and ``q`` of the mean of each row of ``values`` [cell, example], with NaN for a missing example.

    A cell with fewer than two examples, or with an infinite one, has NaN. A cell with p below 0.05 has no q where its mean could
    be due to outliers that are not among its examples (``Outliers.may_hide``), judged by ``outliers``, by default those of all
    cells. Cells that are not ``signed`` [cell] are never negative and are not tested. Cells that are ``void`` [cell] have no
    effect but rounding, so their p is 1. The order of the examples does not matter.

    >>> describe(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [1.0, np.nan, np.nan]])).round(3)["p"].tolist()
    [0.25, 1.0, nan]
    """
    tested = np.ones(len(values), bool) if signed is None else signed
    outliers = Outliers.of([values[tested]]) if outliers is None else outliers
    estimates, hidden = np.full((3, len(values)), np.nan), np.zeros(len(values), bool)
    for rows, ordered in alike(values):
        estimates[:2, rows] = mean_interval(ordered, level, resamples, seed)
        estimates[2, rows] = mean_test(ordered, draws_for(len(values)), seed)
        hidden[rows] = outliers.may_hide(ordered.mean(1), widths(ordered), ordered.shape[1])
    low, high, p = estimates
    low, high, p = (
        np.where(tested, low, np.maximum(low, 0)),
        np.where(tested, high, np.maximum(high, 0)),
        np.where(tested, p, np.nan),
    )
    p = p if void is None else np.where(void & np.isfinite(p), 1.0, p)
    return pd.DataFrame({"low": low, "high": high, "p": p, "q": false_discovery(p, hidden)})


def mean_test(values: Array, draws: int = _DRAWS, seed: int = 0) -> Array:
    """Two-sided p of each row of ``values`` [cell, example] having mean zero: the larger of ``sign_flip_test`` and ``johnson``.

    The first is exact if effects are symmetric, the second is close if they are skewed.

    >>> mean_test(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])).tolist()
    [0.25, 1.0]
    """
    return np.maximum(sign_flip_test(values, draws, seed), johnson(values))


def two_sample_test(first: Array, second: Array, draws: int = _DRAWS, seed: int = 0) -> Array:
    """Two-sided p of the rows of two samples having the same mean: the larger of ``shuffle_test`` and ``johnson_two``.

    >>> two_sample_test(np.array([[1.0, 2.0, 3.0]]), np.array([[7.0, 8.0, 9.0]])).tolist()
    [0.1]
    """
    return np.maximum(shuffle_test(first, second, draws, seed), johnson_two(first, second))


def mean_interval(values: Array, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Array, Array]:
    """Bootstrap interval of the mean of each row of ``values`` [cell, example], by ``corrected``; wider below six examples.

    >>> low, high = mean_interval(np.array([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]))
    >>> low.round(1).tolist(), high.round(1).tolist()
    ([1.7], [5.2])
    """
    centred = values - values.mean(1, keepdims=True)
    weights = resampling(values.shape[1], resamples, np.random.default_rng(seed))
    replicates = weights @ centred.T
    low, high = widened(corrected(replicates, centred, level), replicates, values.shape[1], level)
    return values.mean(1) + low, values.mean(1) + high


def widened(interval: tuple[Array, Array], replicates: Array, examples: int, level: float = LEVEL) -> tuple[Array, Array]:
    """An interval about an estimate, as it is from six examples on; below, at least Student's, since resamples vary too little.

    A bootstrap interval never leaves the range of the examples, which for four holds the mean in 7 cases of 8 at most.

    >>> weights = resampling(4, 2000, np.random.default_rng(0))
    >>> low, high = widened((np.array([-1.5]), np.array([1.5])), weights @ np.array([[-1.5], [-0.5], [0.5], [1.5]]), 4)
    >>> low.round().tolist(), high.round().tolist()
    ([-2.0], [2.0])
    """
    if examples >= TESTABLE:
        return interval
    student = replicates.std(0) * math.sqrt(examples / (examples - 1)) * special.stdtrit(examples - 1, (1 + level) / 2)
    return np.minimum(interval[0], -student), np.maximum(interval[1], student)


def resampling(examples: int, resamples: int, rng: np.random.Generator) -> Array:
    """How much each example weighs in each resample with replacement, [resample, example]; rows sum to 1.

    >>> resampling(4, 2, np.random.default_rng(0)).sum(1).tolist()
    [1.0, 1.0]
    """
    drawn = rng.integers(0, examples, (resamples, examples)) + examples * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * examples).reshape(resamples, examples) / examples


def corrected(replicates: Array, influence: Array, level: float = LEVEL, examples: int | None = None) -> tuple[Array, Array]:
    """The BCa bootstrap interval at a level widened for few examples, relative to the estimate, [cell] each.

    ``replicates`` [resample, cell] are estimates on resamples less the estimate itself, and ``influence`` [cell, example] what
    each example adds to the estimate, up to scale; there are ``examples`` of them unless given. Efron (1987) corrects
    percentiles for bias and skewness. Widening them is Hesterberg's (2015): resamples vary (n - 1) / n times too little, and
    Student's t is wider than the normal distribution.

    >>> rng = np.random.default_rng(0)
    >>> low, high = corrected(rng.normal(size=(9999, 1)), rng.normal(size=(1, 9999)))
    >>> round(low[0]), round(high[0])
    (-2, 2)
    """
    draws, n = len(replicates), examples or influence.shape[1]
    widened = math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 - level) / 2)
    tie = _SLACK * np.abs(replicates).max(0)
    below = ((replicates < -tie).mean(0) + (replicates <= tie).mean(0)) / 2
    bias = special.ndtri(np.clip(below, 1 / (draws + 1), draws / (draws + 1)))
    with np.errstate(invalid="ignore", divide="ignore"):  # no spread, no skewness
        skewness = np.nan_to_num((influence**3).sum(1) / (influence**2).sum(1) ** 1.5, posinf=0.0, neginf=0.0) / 6
    ordered = np.sort(replicates, axis=0)
    shifted = (bias + widened, bias - widened)
    low, high = (_quantiles(ordered, special.ndtr(bias + z / np.maximum(1 - skewness * z, _SLACK))) for z in shifted)
    return low, high


def _quantiles(ordered: Array, levels: Array) -> Array:
    """One quantile of each column of sorted numbers, interpolated between neighbours."""
    place = levels * (len(ordered) - 1)
    below = np.minimum(place.astype(int), max(len(ordered) - 2, 0))
    part, columns = place - below, np.arange(ordered.shape[1])
    above = np.minimum(below + 1, len(ordered) - 1)
    return np.asarray(ordered[below, columns] * (1 - part) + ordered[above, columns] * part)


def draws_for(cells: int) -> int:
    """How many random arrangements to draw, so that a single one of so many cells can be significant.

    >>> draws_for(10), draws_for(1000)
    (9999, 40000)
    """
    return min(max(_DRAWS, _DRAWS_PER_CELL * cells), _MOST_DRAWS)


def sign_flip_test(values: Array, draws: int = _DRAWS, seed: int = 0) -> Array:
    """Two-sided p of each row of ``values`` [cell, example] having mean zero, by flipping signs of examples.

    Where the examples are as likely to lie above zero as equally far below, every flip is as likely as what was seen. All flips
    are tried up to 12 examples, else ``draws`` random ones, and what was seen counts as one of them.

    >>> sign_flip_test(np.array([[1.0, 2.0, 3.0], [1.0, -1.0, 5.0]])).tolist()
    [0.25, 0.75]
    """
    n = values.shape[1]
    seen = np.abs(values.sum(1)) - _SLACK * np.abs(values).sum(1)
    exact = 2**n <= EXACT
    more = sum((np.abs(signs @ values.T) >= seen).sum(0) for signs in _signs(n, 0 if exact else draws, seed))
    return np.asarray(more / 2**n if exact else (1 + more) / (1 + draws), float)


def _signs(n: int, draws: int, seed: int) -> Iterator[Array]:
    """Blocks of rows of 1 and -1, [arrangement, example]: ``draws`` random ones, or all of them if that is 0."""
    if not draws:
        yield 1.0 - 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    rng = np.random.default_rng(seed)
    for start in range(0, draws, _BLOCK):
        yield 1.0 - 2.0 * rng.integers(0, 2, (min(_BLOCK, draws - start), n))


def shuffle_test(first: Array, second: Array, draws: int = _DRAWS, seed: int = 0) -> Array:
    """Two-sided p of the rows of ``first`` and ``second`` [cell, example] having the same mean, by shuffling which is which.

    Compares Welch's t, not the difference itself, so that groups of different size and spread do no harm (Chung and Romano 2013).

    >>> shuffle_test(np.array([[1.0, 2.0, 3.0]]), np.array([[7.0, 8.0, 9.0]])).tolist()
    [0.1]
    """
    n, m = first.shape[1], second.shape[1]
    pooled = np.concatenate([first, second], axis=1)
    pooled = pooled - pooled.mean(1, keepdims=True)
    seen = _welch(np.repeat([1.0, 0.0], [n, m])[None], pooled)[0]
    exact = math.comb(n + m, n) <= EXACT
    more = sum((_welch(chosen, pooled) >= seen * (1 - _SLACK)).sum(0) for chosen in _labels(n, m, 0 if exact else draws, seed))
    return np.asarray(more / math.comb(n + m, n) if exact else (1 + more) / (1 + draws), float)


def _labels(n: int, m: int, draws: int, seed: int) -> Iterator[Array]:
    """Blocks of rows with ``n`` ones and ``m`` zeros: ``draws`` random ones, or all of them if that is 0."""
    if not draws:
        picked = np.array(list(combinations(range(n + m), n)))
        yield (np.arange(n + m) == picked[:, :, None]).any(1).astype(float)
    rng, labels = np.random.default_rng(seed), np.repeat([1.0, 0.0], [n, m])
    for start in range(0, draws, _BLOCK):
        yield rng.permuted(np.tile(labels, (min(_BLOCK, draws - start), 1)), axis=1)


def _welch(chosen: Array, pooled: Array) -> Array:
    """|Welch's t| between the chosen examples and the others, [arrangement, cell], of numbers with mean zero."""
    total, squares, n = pooled.sum(1), (pooled**2).sum(1), chosen.sum(1)[:, None]
    m = chosen.shape[1] - n
    chosen_total, chosen_squares = chosen @ pooled.T, chosen @ (pooled**2).T
    difference = chosen_total / n - (total - chosen_total) / m
    spread = (chosen_squares - chosen_total**2 / n) / (n * (n - 1))
    spread = spread + (squares - chosen_squares - (total - chosen_total) ** 2 / m) / (m * (m - 1))
    floor = 1e-14 * squares  # rounding leaves about this much of no spread at all
    return np.asarray(np.abs(difference) / np.sqrt(np.maximum(spread, np.maximum(floor, np.finfo(float).tiny))))


def false_discovery(p: Array, hidden: Array | None = None) -> Array:
    """Benjamini and Hochberg's adjusted p over all that are not NaN: below q, at most a share q is expected to be false.

    Where ``hidden``, a p below 0.05 cannot be trusted and gets no q; such a p still counts for the others.

    >>> false_discovery(np.array([0.01, np.nan, 0.02, 0.5])).tolist()
    [0.03, nan, 0.03, 0.5]
    >>> false_discovery(np.array([0.01, 0.02, 0.5]), np.array([True, False, True])).tolist()
    [nan, 0.03, 0.5]
    """
    q, tested = np.full(len(p), np.nan), ~np.isnan(p)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested])
    return q if hidden is None else np.where(hidden & (p < SIGNIFICANT), np.nan, q)


def withheld(described: pd.DataFrame, outliers: Outliers) -> list[str]:
    """A note with the number of cells that have a p but no q, and the reason; empty if there are none.

    >>> described = pd.DataFrame({"p": [0.01, 0.5], "q": [np.nan, 0.5]})
    >>> withheld(described, Outliers(0.05, 20.0, 30.0, 200)), withheld(described, Outliers(0.0, 0.0, 0.0, 16))
    (['no q for 1 cell: too few examples for effects this skewed'], ['no q for 1 cell: 16 effects are too few to tell how skewed they are, 90 are enough'])
    """
    cells = int((described["p"].notna() & described["q"].isna()).sum())
    why = "too few examples for effects this skewed"
    if not outliers.enough:
        why = f"{outliers.seen} effects are too few to tell how skewed they are, {ENOUGH} are enough"
    return [f"no q for {cells} cell{'s' * (cells != 1)}: {why}"] if cells else []


def least_discovery(examples: int, cells: int, q: float = SIGNIFICANT) -> int:
    """How many of ``cells`` must have the smallest p that a test can give before any has an adjusted p below ``q``.

    With n examples no p is below 2 / 2**n, however large the effect. More than ``cells`` means that nothing can be shown.

    >>> least_discovery(8, 270), least_discovery(24, 270), least_discovery(4, 1)
    (43, 1, 3)
    """
    least = 2 / 2**examples if 2**examples <= EXACT else 1 / (1 + draws_for(cells))
    return int(least * cells / q) + 1


def enough_examples(cells: int, q: float = SIGNIFICANT) -> int:
    """The fewest examples with which a single one of so many cells can have an adjusted p below ``q``.

    >>> enough_examples(1), enough_examples(80)
    (6, 12)
    """
    return next((n for n in range(1, _ALL_FLIPS + 1) if least_discovery(n, cells, q) == 1), _ALL_FLIPS + 1)


def all_or_none(examples: int, cells: int, q: float = SIGNIFICANT) -> str:
    """Says that examples are too few to show a single cell of so many; "" if they are enough.

    >>> print(all_or_none(6, 48))
    6 examples can show 31 significant cells of 48 or none; 11 examples can show one
    >>> all_or_none(24, 48)
    ''
    """
    needed = least_discovery(examples, cells, q)
    some = f"{needed} significant cells of {cells} or none" if needed <= cells else f"nothing significant in {cells} cells"
    return "" if needed <= 1 else f"{examples} examples can show {some}; {enough_examples(cells, q)} examples can show one"


def least_difference(first: int, second: int, cells: int, q: float = SIGNIFICANT) -> int:
    """As ``least_discovery``, for the difference of two samples of so many examples each.

    >>> least_difference(3, 3, 1), least_difference(16, 16, 100)
    (3, 1)
    """
    arrangements = math.comb(first + second, first)
    exact = (1 + (first == second)) / arrangements  # of two samples of one size the mirrored arrangement is as extreme
    least = exact if arrangements <= EXACT else 1 / (1 + draws_for(cells))
    return int(least * cells / q) + 1


def random_means(random: pd.DataFrame, axes: Sequence[str]) -> tuple[list[str], dict[tuple[Hashable, ...], Array]]:
    """The axes that ``random`` also has, and the |mean effect| of each random draw, by the values of these axes.

    >>> random = pd.DataFrame({"draw": [0, 0, 1], "distance": 8, "effect": [1.0, 3.0, -1.0]})
    >>> shared, means = random_means(random, ("distance", "layer"))
    >>> shared, {value: each.tolist() for value, each in means.items()}
    (['distance'], {(8,): [2.0, 1.0]})
    """
    shared = [axis for axis in axes if axis in random.columns]
    means = random.groupby([*shared, "draw"], sort=False)["effect"].mean().abs().dropna()
    by_shared: dict[tuple[Hashable, ...], list[float]] = {}
    for key, value in means.items():
        by_shared.setdefault(key[:-1] if isinstance(key, tuple) else (), []).append(float(value))
    return shared, {key: np.array(values) for key, values in by_shared.items()}
