"""One comparison: pairs of features with the effects of both on the same prompts, and what these say of each pair and of all."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ...results.skewness import Outliers
from ...results.statistics import Array, describe, false_discovery
from ...thresholds import EFFECTS_APART, SIGNIFICANT
from ..circuits.alignment import measured
from .agreement import MEASURES, Effects, by_features, by_prompts, ceiling, differences
from .pairs import BINS

ALL = "all"
"""The bin of all pairs."""


@dataclass(frozen=True)
class Compared:
    """Features of ``a`` and features of ``b`` in pairs, with their effects.

    ``pairs``: ``node_a``, ``feature_a``, ``node_b``, ``feature_b``, ``mppc`` (NaN for random pairs), ``bin``, ``count_a``, ``count_b``.
    """

    a: str
    b: str
    pairs: pd.DataFrame
    effects_a: Effects
    effects_b: Effects

    def table(self, alike: float) -> pd.DataFrame:
        """A row for every pair: normalized effects with intervals over prompts, their difference with its interval, p and q.

        ``p`` tests over prompts that both effects are equal. ``q`` is p after false discovery control over the pairs that fire alike,
        those with an MPPC above ``alike``; it is NaN for others, and for pairs with outliers that could be missing among the prompts.
        """
        prompts = self.effects_a.effect.shape[1]
        columns: dict[str, Array] = {}
        for side, effects in (("a", self.effects_a), ("b", self.effects_b)):
            values = measured(effects.normalized, prompts)
            columns |= {f"{name}_{side}": value for name, value in zip(("effect", "low", "high"), values, strict=True)}
        by_prompt = differences(self.effects_a, self.effects_b)
        described = describe(by_prompt)
        columns["difference"] = by_prompt.mean(1)
        columns |= {name: described[name].to_numpy() for name in ("low", "high", "p")}
        columns["q"] = self._controlled(described, by_prompt, alike)
        return pd.concat([self.pairs, pd.DataFrame(columns)], axis=1)

    def _controlled(self, described: pd.DataFrame, by_prompt: Array, alike: float) -> Array:
        fire_alike = (self.pairs["mppc"] > alike).to_numpy()
        hidden = (described["p"].notna() & described["q"].isna()).to_numpy() & Outliers.of([by_prompt]).enough
        q = np.full(len(described), np.nan)
        q[fire_alike] = false_discovery(described["p"].to_numpy()[fire_alike], hidden[fire_alike])
        return q

    @functools.cached_property
    def agreement(self) -> pd.DataFrame:
        """A row for every bin of MPPC (and "all") and measure: its value, with intervals over prompts and over features.

        ``ceiling``: the Pearson correlation to expect of equal true effects, given how well these prompts determine them.
        """
        rows = []
        for name in (*BINS, ALL):
            inside = np.full(len(self.pairs), True) if name == ALL else (self.pairs["bin"] == name).to_numpy()
            if not inside.any():
                continue
            a, b = self.effects_a.take(inside), self.effects_b.take(inside)
            (value, *over_prompts), (_, *over_features) = by_prompts(a, b), by_features(a, b)
            for k, measure in enumerate(MEASURES):
                ends = [end[k] for end in (*over_prompts, *over_features)]
                highest = ceiling(a, b) if measure == MEASURES[0] else np.nan
                rows.append([name, measure, int(inside.sum()), value[k], *ends, highest])
        columns = ["bin", "measure", "pairs", "value", "prompts_low", "prompts_high", "features_low", "features_high", "ceiling"]
        return pd.DataFrame(rows, columns=columns)

    def by_prompt(self) -> pd.DataFrame:
        """A row for every pair and prompt: both effects and both whole effects, in the unit of the metric."""
        pairs, prompts = self.effects_a.effect.shape
        columns = {"pair": np.repeat(np.arange(pairs), prompts), "prompt": np.tile(np.arange(prompts), pairs)}
        for side, effects in (("a", self.effects_a), ("b", self.effects_b)):
            columns[f"effect_{side}"], columns[f"whole_{side}"] = effects.effect.ravel(), np.tile(effects.whole, pairs)
        return pd.DataFrame(columns)

    @classmethod
    def of(cls, a: str, b: str, pairs: pd.DataFrame, by_prompt: pd.DataFrame) -> Compared:
        """From ``pairs`` and what ``by_prompt`` returned."""
        shape = len(pairs), -1
        sides = [
            Effects(
                by_prompt[f"effect_{side}"].to_numpy().reshape(shape), by_prompt[f"whole_{side}"].to_numpy().reshape(shape)[0]
            )
            for side in "ab"
        ]
        return cls(a, b, pairs.reset_index(drop=True), *sides)


def differing(table: pd.DataFrame) -> pd.DataFrame:
    """The pairs of a table that fire alike and act differently, those with the largest difference first.

    >>> table = pd.DataFrame({"difference": [0.2, 0.001, 0.3], "q": [0.01, 0.01, 0.5]})
    >>> differing(table)["difference"].tolist()
    [0.2]
    """
    found = table[(table["q"] < SIGNIFICANT) & (table["difference"].abs() >= EFFECTS_APART)]
    return found.loc[found["difference"].abs().sort_values(ascending=False, kind="stable").index].reset_index(drop=True)
