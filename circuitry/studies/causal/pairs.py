"""Which pairs of features are compared: those of each bin of MPPC that change most on the prompts, and random ones beside them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from ...errors import CircuitryError
from ...features.matching.matches import HIGH
from ...paths.parse import parse_position
from ...planning.interventions import Intervention
from ...prompting.prompts import Prompts
from ...results.statistics import Array
from .sides import Side

EDGES = (0.0, 0.25, 0.5, 0.75, HIGH, 1.0)
"""Bins of MPPC; each includes its upper end."""
BINS = tuple(f"{low:g} to {high:g}" for low, high in itertools.pairwise(EDGES))
NEAR = 20
"""A random feature is one of this many with the nearest counts of tokens on which they fire."""
COLUMNS = ("node_a", "feature_a", "node_b", "feature_b", "mppc", "bin", "count_a", "count_b")


def bin_of(mppc: Array) -> Array:
    """The number of the bin of each MPPC.

    >>> bin_of(np.array([-0.1, 0.25, 0.26, 0.95, 1.0])).tolist()
    [0, 0, 1, 3, 4]
    """
    return np.searchsorted(EDGES[1:-1], mppc, side="left")


def activity(side: Side, prompts: Prompts, intervention: Intervention, at: str | None) -> list[Array]:
    """By layer and feature, how much a patch of it can write: [feature] each, 0 for those that a patch would leave as they are.

    If values come from the source prompt, it is the mean change of the feature between the prompts times the norm of its direction,
    else the number of prompts in which it fires.
    """
    with side.attached() as model:
        position, found = None if at is None else parse_position(at), []
        for node in side.nodes:
            change, fires = model.changing(node, prompts, position)
            norms = side.saes[node].W_dec.detach().norm(dim=1).cpu().to(change)
            found.append((change * norms if intervention.from_source else fires).numpy().astype(float))
    return found


def matched(forward: pd.DataFrame, sides: tuple[Side, Side]) -> pd.DataFrame:
    """All features with a match, as pairs: ``node_a``, ``feature_a``, ``node_b``, ``feature_b``, ``mppc``, ``bin`` and their counts."""
    found = forward.dropna(subset=["mppc"])
    nodes = [
        [str(side.nodes[layer]) for layer in found[column]] for side, column in zip(sides, ("layer_a", "layer_b"), strict=True)
    ]
    pairs = found.assign(node_a=nodes[0], node_b=nodes[1], bin=[BINS[k] for k in bin_of(found["mppc"].to_numpy())])
    return pairs[list(COLUMNS)].reset_index(drop=True)


def chosen(pairs: pd.DataFrame, size: Mapping[tuple[str, int], float], top: int) -> pd.DataFrame:
    """In each bin the ``top`` pairs whose first feature a patch changes most; ``size`` is by node and feature.

    Raises CircuitryError if a patch would change none.

    >>> pairs = pd.DataFrame({"node_a": "n", "feature_a": [0, 1, 2], "bin": ["x", "x", "y"]})
    >>> chosen(pairs, {("n", 0): 1.0, ("n", 1): 2.0, ("n", 2): 0.0}, 1)["feature_a"].tolist()
    [1]
    """
    if not len(pairs):
        raise CircuitryError("no feature has a match, so nothing can be compared")
    sizes = np.array([size[key] for key in zip(pairs["node_a"], pairs["feature_a"], strict=True)])
    able = pairs.assign(size=sizes)[sizes > 0]
    if not len(able):
        raise CircuitryError("no feature that has a match differs between these prompts; try another task or position")
    able = able.sort_values("size", ascending=False, kind="stable").groupby("bin", sort=False).head(top)
    return able.drop(columns="size").sort_index().reset_index(drop=True)


def random_pairs(pairs: pd.DataFrame, reverse: pd.DataFrame, side: Side, size: list[Array], seed: int) -> pd.DataFrame:
    """For each pair one with a random second feature, which fires about as often as the first and differs between the prompts too.

    The feature is one of the ``NEAR`` with the nearest counts. It has the bin of the pair that it stands beside, and no MPPC.
    """
    rng = np.random.default_rng(seed)
    able = reverse[[size[layer][feature] > 0 for layer, feature in zip(reverse["layer_a"], reverse["feature_a"], strict=True)]]
    nodes, features = np.array([str(side.nodes[k]) for k in able["layer_a"]], object), able["feature_a"].to_numpy()
    counts, rows = able["count_a"].to_numpy(float), []
    for pair in pairs.to_dict("records"):
        free = np.flatnonzero((nodes != pair["node_b"]) | (features != pair["feature_b"]))
        if len(free):
            apart = np.abs(np.log1p(counts[free]) - np.log1p(pair["count_a"]))
            at = rng.choice(free[np.argsort(apart, kind="stable")[:NEAR]])
            new = {"node_b": nodes[at], "feature_b": features[at], "count_b": int(counts[at]), "mppc": np.nan}
            rows.append({**{str(name): value for name, value in pair.items()}, **new})
    return pd.DataFrame(rows, columns=list(COLUMNS))
