"""Correlations of activations that are mostly not 0: products of whole chunks, minus the first chunk's mean, summed in float64.

Subtracting any mean near the true one keeps float32 products accurate enough if the mean is far larger than the spread. Uses
torch, so that chunks stay on the model's device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from .best import Best
from .moments import CONSTANT, Floats, Ints

K = TypeVar("K")


class Sums:
    """Sums over tokens of one layer's values [feature] minus ``shift``, in float64.

    >>> sums = Sums(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> _ = sums.add(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    >>> sums.alive(1).tolist(), sums.count.tolist()
    ([True, False], [2, 2])
    """

    def __init__(self, first: Tensor) -> None:
        self.shift = first.double().mean(0).float()
        self.tokens = 0
        self._sum, self._squares = (torch.zeros_like(self.shift, dtype=torch.float64) for _ in range(2))
        self._count = torch.zeros_like(self.shift, dtype=torch.int64)

    def add(self, chunk: Tensor) -> Tensor:
        """Add a chunk [token, feature] to the sums, and return it shifted."""
        shifted = chunk - self.shift
        self.tokens += len(chunk)
        self._count += (chunk != 0).sum(0)
        self._sum += shifted.sum(0, dtype=torch.float64)
        self._squares += shifted.double().square().sum(0)
        return shifted

    @property
    def count(self) -> Ints:
        """Number of tokens on which each value is not 0."""
        count: Ints = self._count.cpu().numpy()
        return count

    def standard(self) -> tuple[Floats, Floats]:
        """As ``Moments.standard``, of the shifted values."""
        total, deviations = self._sum.cpu().numpy(), self._deviations()
        return total / self.tokens**0.5, 1 / np.sqrt(np.where(deviations > 0, deviations, 1))

    def alive(self, min_count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """As ``Moments.alive``."""
        shift, total = self.shift.double().cpu().numpy(), self._sum.cpu().numpy()
        squares = self._squares.cpu().numpy() + 2 * shift * total + self.tokens * shift**2  # of the values before the shift
        alive: np.ndarray[tuple[int], np.dtype[np.bool_]] = (self.count >= max(min_count, 1)) & (
            self._deviations() > CONSTANT * squares
        )
        return alive

    def _deviations(self) -> Floats:
        deviations: Floats = self._squares.cpu().numpy() - self._sum.cpu().numpy() ** 2 / self.tokens
        return deviations


@dataclass(eq=False)
class Correlations(Generic[K]):
    """Best correlations of pairs of layers, from one pass over chunks of both sides. A pair takes 8 bytes for each pair of neurons.

    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    >>> correlations = Correlations([("p", "q")], 1)
    >>> correlations.feed([({"p": x[:2]}, {"q": x[:2]}), ({"p": x[2:]}, {"q": x[2:]})])
    >>> correlations.best(("p", "q")).row_at.tolist()
    [0, 1]
    """

    pairs: list[tuple[K, K]]
    min_count: int

    def __post_init__(self) -> None:
        self.a: dict[K, Sums] = {}
        self.b: dict[K, Sums] = {}
        self._products: dict[tuple[K, K], Tensor] = {}

    def feed(self, chunks: Iterable[tuple[Mapping[K, Tensor], Mapping[K, Tensor]]]) -> None:
        """Sum over chunks, each the values [token, feature] by layer of both sides at the same tokens."""
        for values_a, values_b in chunks:
            x = {key: self.a.setdefault(key, Sums(value)).add(value) for key, value in values_a.items()}
            y = {key: self.b.setdefault(key, Sums(value)).add(value) for key, value in values_b.items()}
            for row, column in self.pairs:
                product = (x[row].T @ y[column].to(x[row].device)).double()
                self._products[row, column] = self._products.get((row, column), 0) + product

    def counts(self, pair: tuple[K, K]) -> tuple[Ints, Ints]:
        """Number of tokens on which each neuron of a pair of layers is not 0."""
        return self.a[pair[0]].count, self.b[pair[1]].count

    def best(self, pair: tuple[K, K]) -> Best:
        """Best matches of a pair of layers."""
        a, b = self.a[pair[0]], self.b[pair[1]]
        alive_a, alive_b = np.flatnonzero(a.alive(self.min_count)), np.flatnonzero(b.alive(self.min_count))
        (row, row_at), (column, column_at) = (
            (np.full(len(sums.count), np.nan), np.full(len(sums.count), -1, np.int64)) for sums in (a, b)
        )
        if len(alive_a) and len(alive_b):
            (shift_a, scale_a), (shift_b, scale_b) = a.standard(), b.standard()
            r = self._products[pair].cpu().numpy() - np.outer(shift_a, shift_b)
            r = (r * np.outer(scale_a, scale_b))[np.ix_(alive_a, alive_b)]
            row[alive_a], row_at[alive_a] = r.max(1), alive_b[r.argmax(1)]
            column[alive_b], column_at[alive_b] = r.max(0), alive_a[r.argmax(0)]
        return Best(row, row_at, column, column_at)
