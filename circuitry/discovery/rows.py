"""The rows of an attribution's batch: clean runs, corrupted runs, and runs between the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..prompting.prompts import Prompts


@dataclass(frozen=True)
class Point:
    """A run between the clean one (``share`` 0) and the corrupted one (1), and its ``weight`` in an integral over the share."""

    share: float
    weight: float


def legendre(count: int) -> tuple[Point, ...]:
    """The points of Gauss and Legendre between 0 and 1: exact for polynomials up to the degree 2 * count - 1.

    >>> [(round(point.share, 3), point.weight) for point in legendre(2)]
    [(0.211, 0.5), (0.789, 0.5)]
    """
    shares, weights = np.polynomial.legendre.leggauss(count)
    return tuple(Point(float(share + 1) / 2, float(weight) / 2) for share, weight in zip(shares, weights, strict=True))


@dataclass(frozen=True)
class Rows:
    """For each example a clean run, then for each a corrupted one, then for each ``point`` all examples again."""

    examples: int
    points: tuple[Point, ...]

    def ids(self, prompts: Prompts) -> NDArray[np.int64]:
        """Token ids [row, pos]; runs between begin as clean ones."""
        between = [prompts.clean] * len(self.points)
        return np.concatenate([prompts.clean, prompts.corrupted, *between])

    def clean(self, value: Tensor) -> Tensor:
        """The clean runs' part of a value [row, ...]."""
        return value[: self.examples]

    def corrupted(self, value: Tensor) -> Tensor:
        """The corrupted runs' part."""
        return value[self.examples : 2 * self.examples]

    def change(self, value: Tensor) -> Tensor:
        """By how much a value differs between the two [example, ...]."""
        return (self.corrupted(value) - self.clean(value)).detach()

    def between(self, value: Tensor) -> Tensor:
        """The part of the runs in between, [point * example, ...]."""
        return value[2 * self.examples :]

    def by_point(self, value: Tensor) -> Tensor:
        """A value of the runs in between as [point, example, ...]."""
        return value.unflatten(0, (len(self.points), self.examples))  # type: ignore[no-any-return, no-untyped-call]

    def line(self, value: Tensor) -> Tensor:
        """Values on the straight line from the clean run to the corrupted one [point * example, ...]; only the clean end has a gradient."""
        change = self.change(value)
        return torch.cat([self.clean(value) + point.share * change for point in self.points])

    def mean(self, between: Tensor) -> Tensor:
        """The weighted sum over the points [example, ...]."""
        weights = _weights(self.points, between)
        return (self.by_point(between) * weights.reshape(-1, *[1] * between.dim())).sum(0)


def _weights(points: Sequence[Point], like: Tensor) -> Tensor:
    return torch.tensor([point.weight for point in points], dtype=like.dtype, device=like.device)
