"""Feature activations in memory: consecutive tokens, each with its features that are not 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ...errors import CircuitryError, expected
from .moments import Ints, Moments

Array: TypeAlias = NDArray[Any]
Sparse: TypeAlias = "csr_array[Any, tuple[int, int]]"
Tokens: TypeAlias = "Array | Sparse | tuple[Array, ...]"
"""Activations of some tokens: dense [token, feature], sparse, or (feature, value, count) as ``Block`` has them."""


@dataclass(frozen=True)
class Block:
    """Values that are not 0, ordered by token and then by feature.

    ``count`` [token] is the number of values of each token; ``feature`` and ``value`` [value] are their features and values.
    """

    feature: Array
    value: Array
    count: Array

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return len(self.count)

    @classmethod
    def of(cls, given: Tokens, features: int) -> Block:
        """From a dense array [token, feature], a sparse array, or (feature, value, count). Raises CircuitryError for anything else.

        >>> Block.of(np.array([[0.0, 2.0], [3.0, 4.0]]), features=2).feature
        array([1, 0, 1])
        """
        if isinstance(given, tuple):
            block = cls(*(np.asarray(part) for part in given))
        elif hasattr(given, "tocsr"):
            block = _from_sparse(given)
        else:
            block = _from_dense(np.asarray(given), features)
        return block._checked(features)

    def _checked(self, features: int) -> Block:
        feature, total = self.feature.astype(np.int64), int(self.count.sum())
        if not len(feature) == len(self.value) == total:
            raise CircuitryError(
                f"{len(feature)} features, {len(self.value)} values and counts that add up to {total} do not fit"
            )
        if len(feature) and (feature.min() < 0 or feature.max() >= features):
            raise CircuitryError(expected(f"features from 0 to {features - 1}", int(feature.max())))
        if not np.isfinite(self.value).all():
            raise CircuitryError("an activation is not a finite number; nothing can be correlated with it")
        rising = np.diff(feature) > 0
        edges = np.cumsum(self.count)[:-1] - 1
        rising[edges[(edges >= 0) & (edges < len(rising))]] = True  # from one token to the next it may fall
        if not rising.all():
            raise CircuitryError("the features of a token are not in ascending order, each of them once")
        return self

    def split(self, tokens: int) -> tuple[Block, Block]:
        """The first ``tokens`` tokens, and the remaining ones."""
        at = int(self.count[:tokens].sum(dtype=np.int64))
        return Block(self.feature[:at], self.value[:at], self.count[:tokens]), Block(
            self.feature[at:], self.value[at:], self.count[tokens:]
        )

    @classmethod
    def joined(cls, blocks: Iterable[Block]) -> Block:
        """Several blocks as one, in this order."""
        parts = list(blocks)
        return cls(*(np.concatenate([getattr(block, name) for block in parts]) for name in ("feature", "value", "count")))

    def moments(self, features: int) -> Moments:
        """Sums over its tokens."""
        return Moments.of(self.feature, self.value, self.tokens, features)

    def pointers(self) -> Ints:
        """Index of each token's first value [token + 1]."""
        begins = np.zeros(self.tokens + 1, np.int64)
        np.cumsum(self.count, out=begins[1:])
        return begins


def _from_sparse(given: Any) -> Block:
    array = csr_array(given)
    # scipy works in place, and a csr_array shares its memory with the caller's array: hence the copies.
    if not array.has_canonical_format:
        array = array.copy()
        array.sum_duplicates()
    if (array.data == 0).any():
        array = array.copy()
        array.eliminate_zeros()
    return Block(array.indices, array.data, np.diff(array.indptr))


def _from_dense(given: Array, features: int) -> Block:
    if given.ndim != 2 or given.shape[1] != features:
        raise CircuitryError(f"expected activations [token, {features}], got an array of shape {list(given.shape)}")
    token, feature = np.nonzero(given)
    return Block(feature, given[token, feature], np.bincount(token, minlength=len(given)))
