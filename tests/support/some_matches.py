"""Tables of matched features made up for tests: as a comparison of two models of four and three layers gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from circuitry.features.matching.matches import COLUMNS
from circuitry.studies.experiment.result import Compared, Universality

LAYERS = {"A": 4, "B": 3, "A2": 4, "C": 2}
FEATURES = 20


def table(own: str, other: str, level: float, seed: int = 0) -> pd.DataFrame:
    """Features of ``own``, each matched in ``other`` at its own depth with about this MPPC; every tenth fired too rarely."""
    rng = np.random.default_rng(seed)
    layer, feature = np.divmod(np.arange(LAYERS[own] * FEATURES), FEATURES)
    match = np.minimum(layer * LAYERS[other] // LAYERS[own], LAYERS[other] - 1)
    mppc = np.clip(level + 0.1 * rng.standard_normal(len(layer)), 0, 1)
    dead = feature % 10 == 9
    columns: tuple[Any, ...] = (layer, feature, np.where(dead, np.nan, mppc), np.where(dead, -1, match), feature, 50, 60, 0.05)
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def compared(own: str, other: str, level: float, seed: int = 0) -> Compared:
    depths = [(np.arange(LAYERS[name]) + 1) / LAYERS[name] for name in (own, other)]
    return Compared(own, other, table(own, other, level, seed), table(other, own, level, seed + 1), *depths)


def found(**extra: Any) -> Universality:
    comparisons = {
        "architecture": compared("A", "B", 0.6),
        "model seed": compared("A", "A2", 0.7, 1),
        "SAE seed": compared("A", "A", 0.8, 2),
        "neurons": compared("A", "B", 0.1, 3),
        "architecture: C": compared("A", "C", 0.5, 4),
    }
    return Universality(comparisons, {"models": ["A", "B", "C"], "notes": ["these are made up"], "tokens": 7}, **extra)
