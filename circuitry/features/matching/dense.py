"""Correlations of activations that are mostly not 0: products of whole chunks, less the first chunk's mean, summed in float64.

Subtracting a mean first, any mean near the true one, keeps the products of float32 exact enough where a mean is far larger than
its spread. Uses torch, so that chunks stay on the device where the model has made them.
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
    """Sums over tokens of one layer's values [feature], in float64, of what is left after ``shift``.

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
        """Count a chunk [token, feature], and return it shifted."""
        shifted = chunk - self.shift
        self.tokens += len(chunk)
        self._count += (chunk != 0).sum(0)
        self._sum += shifted.sum(0, dtype=torch.float64)
        self._squares += shifted.double().square().sum(0)
        return shifted

    @property
    def count(self) -> Ints:
        """On how many tokens a value is not 0."""
        found: Ints = self._count.cpu().numpy()
        return found

    def standard(self) -> tuple[Floats, Floats]:
        """As ``Moments.standard``, of the shifted values."""
        total, deviations = self._sum.cpu().numpy(), self._deviations()
        return total / self.tokens**0.5, 1 / np.sqrt(np.where(deviations > 0, deviations, 1))

    def alive(self, min_count: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """As ``Moments.alive``."""
        shift, total = self.shift.double().cpu().numpy(), self._sum.cpu().numpy()
        whole = self._squares.cpu().numpy() + 2 * shift * total + self.tokens * shift**2
        found: np.ndarray[tuple[int], np.dtype[np.bool_]] = (self.count >= max(min_count, 1)) & (
            self._deviations() > CONSTANT * whole
        )
        return found

    def _deviations(self) -> Floats:
        found: Floats = self._squares.cpu().numpy() - self._sum.cpu().numpy() ** 2 / self.tokens
        return found


@dataclass(eq=False)
class Correlations(Generic[K]):
    """Best correlations of pairs of layers, from one pass over chunks of both sides. Each pair takes 8 bytes for every two neurons.

    >>> x = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
    >>> found = Correlations([("p", "q")], 1)
    >>> found.feed([({"p": x[:2]}, {"q": x[:2]}), ({"p": x[2:]}, {"q": x[2:]})])
    >>> found.best(("p", "q")).row_at.tolist()
    [0, 1]
    """

    pairs: list[tuple[K, K]]
    min_count: int

    def __post_init__(self) -> None:
        self.a: dict[K, Sums] = {}
        self.b: dict[K, Sums] = {}
        self._products: dict[tuple[K, K], Tensor] = {}

    def feed(self, chunks: Iterable[tuple[Mapping[K, Tensor], Mapping[K, Tensor]]]) -> None:
        """Sum over chunks: of both sides, values [token, feature] by layer, the same tokens in both."""
        for own, other in chunks:
            x = {key: self.a.setdefault(key, Sums(value)).add(value) for key, value in own.items()}
            y = {key: self.b.setdefault(key, Sums(value)).add(value) for key, value in other.items()}
            for row, column in self.pairs:
                product = (x[row].T @ y[column].to(x[row].device)).double()
                self._products[row, column] = self._products.get((row, column), 0) + product

    def counts(self, pair: tuple[K, K]) -> tuple[Ints, Ints]:
        """On how many tokens each neuron of a pair of layers is not 0."""
        return self.a[pair[0]].count, self.b[pair[1]].count

    def best(self, pair: tuple[K, K]) -> Best:
        """Best matches of a pair of layers."""
        a, b = self.a[pair[0]], self.b[pair[1]]
        alive, others = np.flatnonzero(a.alive(self.min_count)), np.flatnonzero(b.alive(self.min_count))
        (row, row_at), (column, column_at) = (
            (np.full(len(one.count), np.nan), np.full(len(one.count), -1, np.int64)) for one in (a, b)
        )
        if len(alive) and len(others):
            (shift, scale), (other_shift, other_scale) = a.standard(), b.standard()
            r = self._products[pair].cpu().numpy() - np.outer(shift, other_shift)
            r = (r * np.outer(scale, other_scale))[np.ix_(alive, others)]
            row[alive], row_at[alive] = r.max(1), others[r.argmax(1)]
            column[others], column_at[others] = r.max(0), alive[r.argmax(0)]
        return Best(row, row_at, column, column_at)
