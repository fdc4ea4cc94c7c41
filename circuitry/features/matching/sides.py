"""The two sides of a product: one layer's activations by feature and another's by token, of features that have a correlation."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from scipy.sparse import csr_array

from .blocks import Array, Block, Sparse
from .moments import Floats, Ints, Moments
from .shards import digest, rounded


class Acts(Protocol):
    """The interface of feature activations for MPPC: ``FeatureActs``, or an array in memory."""

    @property
    def name(self) -> str:
        """What they are, for messages and tables."""

    @property
    def tokens(self) -> int:
        """Number of tokens."""

    @property
    def features(self) -> int:
        """Number of features."""

    @property
    def digest(self) -> str:
        """A digest: equal for equal activations."""

    def moments(self) -> Moments:
        """Sums over tokens."""

    def blocks(self) -> Iterator[Block]:
        """All tokens in order, in blocks."""

    def csr(self) -> Sparse:
        """All activations as a sparse array [token, feature] of float32."""


ActsLike: TypeAlias = "Acts | Sparse"
"""Feature activations, or a sparse array [token, feature]."""


class InMemory:
    """A sparse or dense array [token, feature] as feature activations.

    >>> acts = InMemory(np.array([[0.0, 2.0], [1.0, 0.0], [0.0, 2.0]]), "mine")
    >>> acts.tokens, acts.features, acts.moments().count.tolist()
    (3, 2, [1, 2])
    """

    def __init__(self, array: Array | Sparse, name: str = "array") -> None:
        self.name, (self.tokens, self.features) = name, array.shape
        self.block = rounded(Block.of(array, self.features), "float32", self.features)

    @functools.cached_property
    def digest(self) -> str:
        """A digest of the shape and all values."""
        return hashlib.blake2b(f"{self.tokens} {self.features} {digest(self.block)}".encode(), digest_size=8).hexdigest()

    def moments(self) -> Moments:
        """Sums over tokens."""
        return self.block.moments(self.features)

    def blocks(self) -> Iterator[Block]:
        """The array as a single block."""
        yield self.block

    def csr(self) -> Sparse:
        """The array, in float32."""
        value, feature = self.block.value.astype(np.float32), self.block.feature.astype(np.int32)
        return csr_array((value, feature, self.block.pointers()), (self.tokens, self.features))


@dataclass(frozen=True, eq=False)
class ByFeature:
    """Activations by feature: those of feature i are at ``begin[i]`` to ``begin[i + 1]`` of ``token`` and ``value``.

    ``chosen``: features that have a correlation. ``shift`` and ``scale`` [feature]: see ``Moments.standard``.
    """

    tokens: int
    count: Ints
    begin: Ints
    token: Array
    value: Array
    chosen: Ints
    shift: Floats
    scale: Floats

    @classmethod
    def of(cls, acts: Acts, min_count: int) -> ByFeature:
        """Read activations and order them by feature."""
        moments = acts.moments()
        columns = acts.csr().tocsc()
        parts = (columns.indptr.astype(np.int64), columns.indices.astype(np.int32, copy=False), columns.data)
        return cls(acts.tokens, moments.count, *parts, np.flatnonzero(moments.alive(min_count)), *moments.standard())


def packed(feature: Array, value: Array) -> Array:
    """A feature and the bits of its value in one number: 16 bits each for float16, 32 each for float32.

    >>> [hex(pair) for pair in packed(np.array([3, 4]), np.array([1.0, -2.0], np.float16))]
    ['0x33c00', '0x4c000']
    """
    bits = value.itemsize * 8
    pair: Array = feature.astype(f"u{bits // 4}") << np.array(bits, f"u{bits // 4}")
    pair |= value.view(f"u{bits // 8}")
    return pair


def unpacked(pair: Array) -> tuple[Array, Array]:
    """The features and values that ``packed`` was given.

    >>> unpacked(packed(np.array([3, 4]), np.array([1.0, -2.0], np.float16)))[1]
    array([ 1., -2.], dtype=float16)
    """
    bits = pair.itemsize * 4
    return (pair >> pair.dtype.type(bits)).astype(np.int64), pair.astype(f"u{bits // 8}").view(f"f{bits // 8}")


@dataclass(frozen=True, eq=False)
class ByToken:
    """Activations by token; features without a correlation are left out and the remaining ones renumbered.

    Those of token t are at ``begin[t]`` to ``begin[t + 1]`` of ``pair``, as ``packed`` returns them; feature k was ``chosen[k]`` of
    the original ``features``, whose counts are ``count``. ``shift`` and ``scale`` belong to the chosen features.
    """

    features: int
    count: Ints
    begin: Array
    pair: Array
    chosen: Ints
    shift: Floats
    scale: Floats

    @classmethod
    def of(cls, acts: Acts, min_count: int) -> ByToken:
        """Read activations and keep the features that have a correlation."""
        moments = acts.moments()
        alive = moments.alive(min_count)
        chosen, (shift, scale) = np.flatnonzero(alive), moments.standard()
        number = (np.cumsum(alive) - 1).astype(np.uint32)
        pairs, counts = [np.zeros(0, np.uint32)], []
        for block in acts.blocks():
            keep, count = alive[block.feature], block.count.astype(np.int64)
            if len(dropped := np.flatnonzero(~keep)):
                count -= np.bincount(np.searchsorted(block.pointers(), dropped, side="right") - 1, minlength=len(count))
                block = Block(block.feature[keep], block.value[keep], count)
            # A float16 shares its 32 bits with the feature, so 16 bits must be enough to number the chosen ones.
            pairs.append(packed(number[block.feature], block.value if len(chosen) < 1 << 16 else block.value.astype(np.float32)))
            counts.append(count)
        begin = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
        pair = np.concatenate(pairs)
        begin = begin.astype(np.int32 if len(pair) < 1 << 31 else np.int64)
        return cls(acts.features, moments.count, begin, pair, chosen, shift[chosen], scale[chosen])

    def sparse(self) -> Sparse:
        """The activations as a sparse array [token, chosen feature] of float64."""
        feature, value = unpacked(self.pair)
        shape = len(self.begin) - 1, len(self.chosen)
        return csr_array((value.astype(np.float64), feature.astype(np.int32), self.begin), shape)
