"""Activations of features, drawn at random, with dead, constant, rare and equal ones among them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


def values(tokens: int = 50, features: int = 9, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((tokens, features)) < 0.3, rng.exponential(1, (tokens, features)), 0)
    x[:, 2] = 0
    return x.astype(np.float16).astype(np.float64)


def layer(seed: int, tokens: int = 300, features: int = 70) -> Array:
    """A layer's activations: sparse, with a dead, a constant, a rare, an always active, and two equal features."""
    rng = np.random.default_rng(seed)
    x = np.where(rng.random((tokens, features)) < rng.uniform(0.01, 0.3, features), rng.exponential(1, (tokens, features)), 0)
    x[:, 3], x[:, 5], x[:, 8] = 0, 2, 0
    x[7, 8], x[:, 11], x[:, 20] = 1, 5 + rng.normal(size=tokens), x[:, 10]
    return x.astype(np.float16).astype(np.float64)


A = [layer(0), layer(1, features=66)]


B = [layer(2), A[0][:, ::-1] + layer(3), layer(4, features=130)]


def same(one: pd.DataFrame, other: pd.DataFrame, within: float = 0.0) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=not within, rtol=0, atol=within or 1e-9)
