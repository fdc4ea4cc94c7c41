"""What the paper reads off a table of matched features: differences, near-zero shares, depth. Arrays and frames only.

A table has a row for every feature of a model (or of its neurons): ``layer_a``, ``feature_a``, ``mppc``, ``layer_b``,
``feature_b``, ``null``; the layers count from 0 in the order in which they were compared, and ``mppc`` is NaN for a feature that did
not fire often enough to have one.
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
    """Mean and median MPPC, the share above .95, the mean of the null, and how many features were compared and how many not.

    >>> table = pd.DataFrame({"mppc": [1.0, 0.5, np.nan], "null": [0.1, 0.1, np.nan]})
    >>> summary(table)["mean"], summary(table)["compared"], summary(table)["left out"]
    (0.75, 2, 1)
    """
    found = summarised(frame)
    told = {name: found[name] for name in ("mean", "median", "above .95", "null", "compared")}
    return {**told, "left out": found["features"] - found["compared"]}


def difference(main: pd.DataFrame, seed: pd.DataFrame) -> pd.DataFrame:
    """Feature by feature, its MPPC in another architecture less that in another seed of its own: the marginal effect of the
    architecture (section 4.4, figure 3b). Features that either table leaves out are left out.

    >>> one = pd.DataFrame({"layer_a": [0, 0], "feature_a": [3, 4], "mppc": [0.7, np.nan]})
    >>> two = pd.DataFrame({"layer_a": [0, 0], "feature_a": [4, 3], "mppc": [0.9, 0.8]})
    >>> difference(one, two).round(3).values.tolist()
    [[0.0, 3.0, -0.1]]
    """
    keys = ["layer_a", "feature_a"]
    both = main[[*keys, "mppc"]].merge(seed[[*keys, "mppc"]], on=keys, suffixes=("", "_seed"), validate="one_to_one")
    both["difference"] = both["mppc"] - both["mppc_seed"]
    return both[[*keys, "difference"]].dropna().reset_index(drop=True)


def interval(values: Any, level: float = FEATURES_INSIDE) -> tuple[float, float]:
    """The ends between which the middle ``level`` of the values lies; NaN where there are none.

    >>> interval(np.arange(101.0), level=0.5)
    (25.0, 75.0)
    """
    known = np.asarray(values, float)
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def near_zero(values: Any, within: float = NEAR_ZERO) -> float:
    """The share of differences that are at most ``within`` from zero.

    >>> near_zero([0.0, -0.05, 0.2, 0.4])
    0.5
    """
    known = np.asarray(values, float)
    return float((np.abs(known) <= within).mean()) if len(known) else float("nan")


def depth_map(frame: pd.DataFrame, layers: int, others: int) -> Floats:
    """[other model's layer, own layer]: of the features of a layer, the share whose best match is in each of the other's.

    Columns add up to 1, or to 0 for a layer without features (figures 3c and 10).

    >>> table = pd.DataFrame({"layer_a": [0, 0, 1], "layer_b": [0, 1, 1], "mppc": [1.0, 1.0, 1.0]})
    >>> depth_map(table, 2, 2).tolist()
    [[0.5, 0.0], [0.5, 1.0]]
    """
    known = frame.dropna(subset=["mppc"])
    counts = np.zeros((others, layers))
    np.add.at(counts, (known["layer_b"].to_numpy(int), known["layer_a"].to_numpy(int)), 1)
    total = counts.sum(0)
    shares: Floats = np.divide(counts, total, out=np.zeros_like(counts), where=total > 0)
    return shares


def depth_distance(frame: pd.DataFrame, depth_a: Floats, depth_b: Floats) -> tuple[float, float]:
    """How far apart matched features lie, as a share of the depth, and how far they would if matches paid no heed to depth.

    ``depth_a`` and ``depth_b`` give each layer's depth, 0 to 1. The second number pairs every feature with the match of every other.

    >>> table = pd.DataFrame({"layer_a": [0, 1], "layer_b": [0, 1], "mppc": [1.0, 1.0]})
    >>> depth_distance(table, np.array([0.25, 0.75]), np.array([0.25, 0.75]))
    (0.0, 0.25)
    """
    known = frame.dropna(subset=["mppc"])
    if not len(known):
        return float("nan"), float("nan")
    own, other = (known["layer_a"].to_numpy(int), known["layer_b"].to_numpy(int))
    apart = np.abs(depth_a[:, None] - depth_b[None, :])
    of_own, of_other = np.bincount(own, minlength=len(depth_a)), np.bincount(other, minlength=len(depth_b))
    return float(apart[own, other].mean()), float((of_own @ apart @ of_other) / len(known) ** 2)


def layer_groups(layers: int, groups: int = 4) -> list[range]:
    """Layers cut into neighbouring groups of nearly equal size, four in the paper's appendix B; fewer where there are fewer layers.

    >>> layer_groups(12), layer_groups(3)
    ([range(0, 3), range(3, 6), range(6, 9), range(9, 12)], [range(0, 1), range(1, 2), range(2, 3)])
    """
    count = min(groups, layers)
    edges = [round(k * layers / count) for k in range(count + 1)]
    return [range(low, high) for low, high in itertools.pairwise(edges)]
