"""The paper's statistics of a table of matched features: differences, near-zero shares, depth. Arrays and frames only.

A table has a row for every feature of a model (or of its neurons): ``layer_a``, ``feature_a``, ``mppc``, ``layer_b``,
``feature_b``, ``null``; layers are numbered from 0 in the order of comparison, and ``mppc`` is NaN for a feature that fired too
rarely to have one.
"""

from __future__ import annotations

import itertools
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...features.matching.matches import summarised
from ...thresholds import FEATURES_INSIDE, NEAR_ZERO

Floats: TypeAlias = NDArray[np.float64]


def summary(frame: pd.DataFrame) -> dict[str, float]:
    """Mean and median MPPC, the share above .95, the mean of the null, and the numbers of features compared and left out.

    >>> table = pd.DataFrame({"mppc": [1.0, 0.5, np.nan], "null": [0.1, 0.1, np.nan]})
    >>> summary(table)["mean"], summary(table)["compared"], summary(table)["left out"]
    (0.75, 2, 1)
    """
    statistics = summarised(frame)
    shown = {name: statistics[name] for name in ("mean", "median", "above .95", "null", "compared")}
    return {**shown, "left out": statistics["features"] - statistics["compared"]}


def difference(main: pd.DataFrame, seed: pd.DataFrame) -> pd.DataFrame:
    """Each feature's MPPC in another architecture minus its MPPC in another seed of its own model.

    This is the marginal effect of the architecture (section 4.4, figure 3b). A feature needs an MPPC in both tables.

    >>> main = pd.DataFrame({"layer_a": [0, 0], "feature_a": [3, 4], "mppc": [0.7, np.nan]})
    >>> seed = pd.DataFrame({"layer_a": [0, 0], "feature_a": [4, 3], "mppc": [0.9, 0.8]})
    >>> difference(main, seed).round(3).values.tolist()
    [[0.0, 3.0, -0.1]]
    """
    keys = ["layer_a", "feature_a"]
    merged = main[[*keys, "mppc"]].merge(seed[[*keys, "mppc"]], on=keys, suffixes=("", "_seed"), validate="one_to_one")
    merged["difference"] = merged["mppc"] - merged["mppc_seed"]
    return merged[[*keys, "difference"]].dropna().reset_index(drop=True)


def interval(values: Any, level: float = FEATURES_INSIDE) -> tuple[float, float]:
    """The ends of the interval that holds the middle ``level`` of the values; NaN if there are none.

    >>> interval(np.arange(101.0), level=0.5)
    (25.0, 75.0)
    """
    sample = np.asarray(values, float)
    if not len(sample):
        return float("nan"), float("nan")
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def near_zero(values: Any, within: float = NEAR_ZERO) -> float:
    """The share of differences that lie within ``within`` of zero.

    >>> near_zero([0.0, -0.05, 0.2, 0.4])
    0.5
    """
    differences = np.asarray(values, float)
    return float((np.abs(differences) <= within).mean()) if len(differences) else float("nan")


def depth_map(frame: pd.DataFrame, layers: int, layers_b: int) -> Floats:
    """[layer of B, layer of A]: the share of the features of a layer of A whose best match lies in each layer of B.

    Columns add up to 1, or to 0 for a layer without features (figures 3c and 10).

    >>> table = pd.DataFrame({"layer_a": [0, 0, 1], "layer_b": [0, 1, 1], "mppc": [1.0, 1.0, 1.0]})
    >>> depth_map(table, 2, 2).tolist()
    [[0.5, 0.0], [0.5, 1.0]]
    """
    matched = frame.dropna(subset=["mppc"])
    counts = np.zeros((layers_b, layers))
    np.add.at(counts, (matched["layer_b"].to_numpy(int), matched["layer_a"].to_numpy(int)), 1)
    total = counts.sum(0)
    shares: Floats = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return shares


def depth_distance(frame: pd.DataFrame, depth_a: Floats, depth_b: Floats) -> tuple[float, float]:
    """The mean distance in depth (0 to 1) between matched features, and the mean expected by chance.

    ``depth_a`` and ``depth_b`` are each layer's depth, 0 to 1. Chance pairs every feature with the match of every feature.

    >>> table = pd.DataFrame({"layer_a": [0, 1], "layer_b": [0, 1], "mppc": [1.0, 1.0]})
    >>> depth_distance(table, np.array([0.25, 0.75]), np.array([0.25, 0.75]))
    (0.0, 0.25)
    """
    matched = frame.dropna(subset=["mppc"])
    if not len(matched):
        return float("nan"), float("nan")
    layer_a, layer_b = (matched["layer_a"].to_numpy(int), matched["layer_b"].to_numpy(int))
    apart = np.abs(depth_a[:, None] - depth_b[None, :])
    counts_a, counts_b = np.bincount(layer_a, minlength=len(depth_a)), np.bincount(layer_b, minlength=len(depth_b))
    return float(apart[layer_a, layer_b].mean()), float((counts_a @ apart @ counts_b) / len(matched) ** 2)


def layer_groups(layers: int, groups: int = 4) -> list[range]:
    """Layers in contiguous groups of nearly equal size, four as in the paper's appendix B; fewer if there are fewer layers.

    >>> layer_groups(12), layer_groups(3)
    ([range(0, 3), range(3, 6), range(6, 9), range(9, 12)], [range(0, 1), range(1, 2), range(2, 3)])
    """
    count = min(groups, layers)
    edges = [round(k * layers / count) for k in range(count + 1)]
    return [range(low, high) for low, high in itertools.pairwise(edges)]
