"""Sums over tokens for each feature: everything a correlation needs besides the products of two features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
NAMES = ("count", "sum", "squares", "max")
CONSTANT = 1e-10
"""A feature whose squared deviations are at most this share of its squares counts as constant: they are rounding errors."""


@dataclass(frozen=True)
class Moments:
    """Over ``tokens`` tokens, for each feature [feature]: number of values not 0, their sum, sum of squares, and the greatest value."""

    tokens: int
    count: Ints
    sum: Floats
    squares: Floats
    max: Floats

    @classmethod
    def of(cls, feature: NDArray[Any], value: NDArray[Any], tokens: int, features: int) -> Moments:
        """The moments of values that are not 0, each of one feature, at ``tokens`` tokens.

        >>> Moments.of(np.array([0, 2, 0]), np.array([1.0, 2.0, 3.0]), tokens=4, features=3).sum
        array([4., 0., 2.])
        """
        exact = value.astype(np.float64)
        count = np.bincount(feature, minlength=features)
        total = np.bincount(feature, exact, minlength=features).astype(np.float64)
        squares = np.bincount(feature, exact * exact, minlength=features).astype(np.float64)
        highest = np.full(features, -np.inf)
        np.maximum.at(highest, feature, exact)
        highest = np.where(count < tokens, np.maximum(highest, 0), highest)  # the values left out are 0
        return cls(tokens, count.astype(np.int64), total, squares, highest)

    @classmethod
    def none(cls, features: int) -> Moments:
        """The moments of no tokens."""
        return cls.of(np.zeros(0, np.int64), np.zeros(0), 0, features)

    def __add__(self, other: Moments) -> Moments:
        highest = np.maximum(self.max, other.max)
        count, squares = self.count + other.count, self.squares + other.squares
        return Moments(self.tokens + other.tokens, count, self.sum + other.sum, squares, highest)

    @property
    def deviations(self) -> Floats:
        """Sum of squared deviations from the mean: the variance times the number of tokens."""
        return self.squares - self.sum**2 / max(self.tokens, 1)

    def alive(self, min_count: int) -> NDArray[np.bool_]:
        """Whether a feature has a correlation: it fires on ``min_count`` tokens or more, at least one, and is not constant.

        >>> Moments(4, *(np.array(k) for k in ([0, 4, 2], [0.0, 4.0, 2.0], [0.0, 4.0, 2.0], [0.0, 1.0, 1.0]))).alive(1)
        array([False, False,  True])
        """
        return (self.count >= max(min_count, 1)) & (self.deviations > CONSTANT * self.squares)

    def standard(self) -> tuple[Floats, Floats]:
        """``shift`` and ``scale`` of each feature.

        The Pearson correlation of features i and j is (S - shift_i shift_j) · scale_i scale_j, where S is the sum of their
        products over tokens. The scale of a constant feature is 0.
        """
        root = np.sqrt(max(self.tokens, 1))
        deviations = self.deviations
        varies = deviations > CONSTANT * self.squares
        return self.sum / root, np.where(varies, 1 / np.sqrt(np.where(varies, deviations, 1)), 0)

    def to_json(self) -> dict[str, Any]:
        """Lists by name; JSON keeps every bit of them."""
        return {"tokens": self.tokens, **{name: getattr(self, name).tolist() for name in NAMES}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Moments:
        """What ``to_json`` wrote."""
        count, *rest = (data[name] for name in NAMES)
        return cls(data["tokens"], np.array(count, np.int64), *(np.array(sums, np.float64) for sums in rest))
