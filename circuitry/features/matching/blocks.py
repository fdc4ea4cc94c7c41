"""Feature activations in memory: a run of tokens, each with the features that are not 0 there."""

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
    """Values that are not 0, token after token, features ascending within a token.

    ``count`` [token] says how many a token has, ``feature`` and ``value`` [all of them] which and what.
    """

    feature: Array
    value: Array
    count: Array

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return len(self.count)

    @classmethod
    def of(cls, given: Tokens, features: int) -> Block:
        """From a dense array [token, feature], a sparse one, or (feature, value, count). Raises CircuitryError for what is none.

        >>> Block.of(np.array([[0.0, 2.0], [3.0, 4.0]]), features=2).feature
        array([1, 0, 1])
        """
        if isinstance(given, tuple):
            made = cls(*(np.asarray(part) for part in given))
        elif hasattr(given, "tocsr"):
            made = _from_sparse(given)
        else:
            made = _from_dense(np.asarray(given), features)
        return made._checked(features)

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
        rising[edges[(edges >= 0) & (edges < len(rising))]] = True
        if not rising.all():
            raise CircuitryError("the features of a token are not in ascending order, each of them once")
        return self

    def split(self, tokens: int) -> tuple[Block, Block]:
        """The first tokens, and the others."""
        at = int(self.count[:tokens].sum(dtype=np.int64))
        return Block(self.feature[:at], self.value[:at], self.count[:tokens]), Block(
            self.feature[at:], self.value[at:], self.count[tokens:]
        )

    @classmethod
    def joined(cls, blocks: Iterable[Block]) -> Block:
        """Several, one after another."""
        found = list(blocks)
        return cls(*(np.concatenate([getattr(block, name) for block in found]) for name in ("feature", "value", "count")))

    def moments(self, features: int) -> Moments:
        """Sums over its tokens."""
        return Moments.of(self.feature, self.value, self.tokens, features)

    def pointers(self) -> Ints:
        """Where each token's values begin [token + 1]."""
        made = np.zeros(self.tokens + 1, np.int64)
        np.cumsum(self.count, out=made[1:])
        return made


def _from_sparse(given: Any) -> Block:
    found = csr_array(given)
    if not found.has_canonical_format:
        found = found.copy()
        found.sum_duplicates()
    if (found.data == 0).any():
        found = found.copy()
        found.eliminate_zeros()
    return Block(found.indices, found.data, np.diff(found.indptr))


def _from_dense(given: Array, features: int) -> Block:
    if given.ndim != 2 or given.shape[1] != features:
        raise CircuitryError(f"activations of {features} features are [token, {features}], not {list(given.shape)}")
    token, feature = np.nonzero(given)
    return Block(feature, given[token, feature], np.bincount(token, minlength=len(given)))
