"""Where effects lie along the tokens, with intervals: from effects per example to shares, verdicts and words.

Effects here are [layer, offset, example], turned so that what takes away from the behaviour is positive, in units of the mean
whole effect: a cell whose mean is 0.3 carries 30% of what corrupting the token does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..results.skewness import Outliers, widths
from ..results.statistics import corrected, draws_for, false_discovery, least_discovery, mean_test, resampling
from ..thresholds import CARRIES, SIGNIFICANT, WRITE_FLOOR

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Profile:
    """Shares over offsets, summing to 1, each with its bootstrap interval.

    ``peak`` is the confidence set of the offset with the largest share, the likeliest first; ``centre`` the mean offset with its
    interval; ``weight`` the part of the model's profile that this one is (a layer's; 1 for the model).
    """

    share: Floats
    low: Floats
    high: Floats
    peak: tuple[int, ...]
    centre: tuple[float, float, float]
    weight: float = 1.0

    @property
    def at(self) -> tuple[int, ...]:
        """Offsets that carry the token: their whole interval is above ``CARRIES``.

        >>> certain, wide = np.array([0.0, 0.8]), np.array([0.05, 0.3])
        >>> Profile(certain, certain, certain, (1,), (1.0, 1.0, 1.0)).at, Profile(wide, wide - 0.1, wide + 0.1, (1,), (0.5, 0, 1)).at
        ((1,), (1,))
        """
        return tuple(np.flatnonzero(self.low > CARRIES).tolist())

    @property
    def open(self) -> tuple[int, ...]:
        """Offsets of which the data do not say whether they carry the token: ``CARRIES`` lies within their interval.

        >>> wide = np.array([0.05, 0.95])
        >>> Profile(wide, wide - 0.1, wide + 0.1, (1,), (0.5, 0, 1)).open
        (0,)
        """
        return tuple(np.flatnonzero((self.low <= CARRIES) & (self.high > CARRIES)).tolist())

    @property
    def meaningless(self) -> bool:
        """The effects at all positions do not add up to something clearly above zero, of which there could be shares.

        >>> some = np.array([0.2, 0.8])
        >>> Profile(some, 0 * some, 0 * some + 1, (0, 1), (0.8, 0, 1)).meaningless, Profile(some, some, some, (1,), (0.8, 0, 1)).meaningless
        (True, False)
        """
        return bool((self.low == 0).all() and (self.high == 1).all())


@dataclass(frozen=True)
class Measured:
    """One model: mean effects and q [layer, offset], the model's profile, and one for every layer; None where nothing is written.

    ``whole_p`` is of the whole effect, and ``there`` says whether it is significant.
    """

    mean: Floats
    q: Floats
    whole_p: float
    there: bool
    model: Profile | None
    layers: tuple[Profile | None, ...]
    part: Floats
    """Presence of the model's profile [layer, offset]; zero where there is none."""


def least_examples(cells: int) -> int:
    """Examples from which one cell among ``cells`` alone can be significant.

    >>> least_examples(20), least_examples(120)
    (10, 13)
    """
    return next((n for n in range(2, 13) if least_discovery(n, cells) == 1), 13)  # from 13 on, draws limit p, not examples


def measure(effects: Floats, whole: Floats, *, resamples: int, level: float, seed: int) -> Measured:
    """Test every cell and profile the model and its layers.

    ``effects`` [layer, offset, example] and ``whole`` [example] are in any unit and of either sign; they are turned and scaled
    here. All profiles share one set of bootstrap resamples of the examples. Cells significantly below zero (what a layer writes
    there works against the behaviour) stay out of the profiles; cells that are not significant stay in, with their sign, so
    that noise widens intervals and does not shift shares. Nothing is written where the whole effect is not significant. A cell
    has no q where its p is below 0.05 but outliers may be missing among the examples (docs/statistics.md).

    >>> one = np.ones(32)
    >>> found = measure(np.array([[0 * one, 3 * one], [0 * one, one]]), 4 * one, resamples=200, level=0.95, seed=0)
    >>> found.model.share.tolist(), found.layers[0].weight
    ([0.0, 1.0], 0.75)
    """
    layers, offsets, examples = effects.shape
    draws = draws_for(layers * offsets)
    cells = effects.reshape(-1, examples)
    outliers = Outliers.of([whole[None], cells])
    whole_p = float(mean_test(whole[None], draws, seed)[0])
    there = whole_p < SIGNIFICANT and not bool(_hidden(whole[None], outliers).any())
    scaled = effects / whole.mean() if there else np.zeros_like(effects)
    p = mean_test(scaled.reshape(-1, examples), draws, seed)
    q = false_discovery(p, _hidden(cells, outliers)).reshape(layers, offsets)
    mean = scaled.mean(-1)
    write = (q < SIGNIFICANT) & (mean >= WRITE_FLOOR)
    if not write.any():
        return Measured(mean, q, whole_p, there, None, (None,) * layers, np.zeros_like(mean))
    used = np.where(((q < SIGNIFICANT) & (mean < 0))[..., None], 0.0, scaled)
    weights = resampling(examples, resamples, np.random.default_rng(seed))
    part = used.mean(-1) / used.mean(-1).sum()
    profiles = [profile(used[n], weights, level, part[n].sum()) if write[n].any() else None for n in range(layers)]
    return Measured(mean, q, whole_p, there, profile(used.sum(0), weights, level), tuple(profiles), part)


def _hidden(effects: Floats, outliers: Outliers) -> NDArray[np.bool_]:
    """Which means of effects [cell, example] could be due to outliers that are not among the examples."""
    return outliers.may_hide(effects.mean(1), widths(np.sort(effects, axis=1)), effects.shape[1])


def profile(effects: Floats, weights: Floats, level: float, weight: float = 1.0) -> Profile:
    """Shares of the mean effects at each offset, from ``effects`` [offset, example] and resamples ``weights`` [resample, example].

    Where the sum is not clearly above zero, shares of it mean nothing: the intervals are then 0 to 1.

    >>> weights = resampling(4, 200, np.random.default_rng(0))
    >>> made = profile(np.array([[1.0, 1.0, 1.0, 1.0], [3.0, 3.0, 3.0, 3.0]]), weights, 0.95)
    >>> made.share.tolist(), made.low.round(6).tolist(), made.peak
    ([0.25, 0.75], [0.25, 0.75], (1,))
    """
    total, steps = effects.sum(0), np.arange(len(effects))
    share = effects.mean(1) / total.mean()
    totals = weights @ total
    if np.quantile(totals, (1 - level) / 2) <= 0:
        none = np.zeros(len(effects))
        return Profile(share, none, none + 1, tuple(steps.tolist()), (float(steps @ share), 0.0, float(steps[-1])), float(weight))
    shares = weights @ effects.T / totals[:, None]  # [resample, offset]
    influence = effects - share[:, None] * total
    low, high = share + np.array(corrected(shares - share, influence, level))
    middle = steps @ share
    ends = middle + np.array(corrected((shares @ steps - middle)[:, None], (steps @ influence)[None], level))
    centre = (float(middle), float(ends[0, 0]), float(ends[1, 0]))
    return Profile(share, low, high, peak_set(shares, level), centre, float(weight))


def peak_set(shares: Floats, level: float) -> tuple[int, ...]:
    """The fewest offsets that hold the largest of ``shares`` [resample, offset] in at least ``level`` of the resamples.

    >>> peak_set(np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]]), 0.5)
    (0,)
    """
    frequency = np.bincount(shares.argmax(1), minlength=shares.shape[1]) / len(shares)
    order = np.argsort(-frequency, kind="stable")
    needed = int(np.searchsorted(np.cumsum(frequency[order]), level - 1e-12)) + 1
    return tuple(order[:needed].tolist())


def kind_of(found: Profile | None) -> str:
    """The verdict in two or three words, the same for every architecture.

    >>> kind_of(None)
    'none'
    """
    if found is None:
        return "none"
    if len(found.at) > 1:
        return "several"
    if not found.at or found.open:
        return "undecided"
    (at,) = found.at
    return "on the token" if at == 0 else "off by one" if at == 1 else f"off by {at}"


def position_name(token: str, offset: int) -> str:
    """A position as paths write it.

    >>> position_name("B", 0), position_name("IO", 2)
    ('B', 'IO+2')
    """
    return f"{token}+{offset}" if offset else token


def in_words(token: str, found: Profile, part: Floats | None = None) -> str:
    """The offsets that carry the token, the strongest first, with intervals and, given ``part`` [layer, offset], their layers.

    >>> wide = np.array([0.15, 0.85])
    >>> in_words("B", Profile(wide, wide - 0.1, wide + 0.1, (1,), (0.5, 0, 1)))
    'B+1 (85%, 75 to 95), perhaps also B (15%, 5 to 25)'
    """

    def one(offset: int) -> str:
        strong = [] if part is None else np.flatnonzero(part[:, offset] >= CARRIES).tolist()
        layers = f"; layer{'s' * (len(strong) > 1)} {', '.join(map(str, strong))}" if strong else ""
        share, low, high = (round(100 * float(v[offset])) for v in (found.share, found.low, found.high))
        return f"{position_name(token, offset)} ({share}%, {low} to {high}{layers})"

    def listed(offsets: Sequence[int]) -> str:
        return " and ".join(one(n) for n in sorted(offsets, key=lambda n: -float(found.share[n])))

    if found.meaningless:
        return "effects at single positions do not add up to anything clearly above zero, so they have no shares"
    sure, maybe = listed(found.at), listed(found.open)
    if not sure:
        return f"perhaps {maybe}" if maybe else f"spread out, no position has {CARRIES:.0%}"
    return f"{sure}, perhaps also {maybe}" if maybe else sure


def rows(name: str, architecture: str, labels: Sequence[int], found: Measured) -> list[dict[str, Any]]:
    """One row for every layer and offset, then one for the whole model (layer "all", with the least q of its layers).

    >>> one = np.ones(48)
    >>> found = measure(np.ones((1, 1, 48)), one, resamples=200, level=0.95, seed=0)
    >>> [(row["layer"], row["share"]) for row in rows("m", "mamba", [0], found)]
    [(0, 1.0), ('all', 1.0)]
    """
    effects, least = np.vstack([found.mean, found.mean.sum(0)]), np.vstack([found.q, np.fmin.reduce(found.q)])
    made: list[dict[str, Any]] = []
    for layer, one, effect, q in zip([*labels, "all"], [*found.layers, found.model], effects, least, strict=True):
        for offset in range(len(effect)):
            cell = {
                "model": name,
                "architecture": architecture,
                "layer": layer,
                "offset": offset,
                "effect": float(effect[offset]),
            }
            shares = {k: np.nan if one is None else float(getattr(one, k)[offset]) for k in ("share", "low", "high")}
            made.append({**cell, **shares, "q": float(q[offset])})
    return made
