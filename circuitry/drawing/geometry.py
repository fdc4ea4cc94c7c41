"""Rectangles and curves, in inches, x to the right and y up.

A curve is a chain of cubic Bezier pieces: an array of 4, 7, 10 ... points, shape ``[3 * pieces + 1, 2]``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """A rectangle: its centre and size.

    >>> Box(0, 0, 2, 1).meets(Box(1.5, 0, 2, 1)), Box(0, 0, 2, 1).meets(Box(3, 0, 2, 1))
    (True, False)
    """

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> float:
        """The upper edge."""
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.y - self.height / 2

    @property
    def left(self) -> float:
        """The left edge."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """The right edge."""
        return self.x + self.width / 2

    def grown(self, margin: float) -> Box:
        """This rectangle with a margin all around."""
        return Box(self.x, self.y, self.width + 2 * margin, self.height + 2 * margin)

    def meets(self, other: Box) -> bool:
        """Whether the two overlap."""
        wide, high = (self.width + other.width) / 2, (self.height + other.height) / 2
        return abs(self.x - other.x) < wide and abs(self.y - other.y) < high

    def holds(self, points: Points) -> int:
        """How many of the points lie inside."""
        inside = (abs(points[:, 0] - self.x) < self.width / 2) & (abs(points[:, 1] - self.y) < self.height / 2)
        return int(inside.sum())


def sampled(curve: Points, pieces: int = 40) -> Points:
    """Points along a curve, including both ends; shape ``[number of Bezier pieces * pieces + 1, 2]``.

    >>> straight = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], float)
    >>> sampled(straight, 2)[:, 0].tolist()
    [0.0, 1.5, 3.0]
    """
    t = np.linspace(0.0, 1.0, pieces + 1)[1:, None]
    points = [curve[:1]]
    for i in range(0, len(curve) - 1, 3):
        p0, p1, p2, p3 = curve[i : i + 4]
        points.append((1 - t) ** 3 * p0 + 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2 + t**3 * p3)
    return np.concatenate(points)


def shortened(curve: Points, length: float) -> Points:
    """The curve without about its last ``length`` inches, which the head of the arrow covers.

    >>> straight = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], float)
    >>> shortened(straight, 1.0)[-1].round(1).tolist()
    [2.0, 0.0]
    """
    last = curve[-4:]
    far = np.flatnonzero(np.hypot(*(sampled(last, 400) - last[3]).T) >= length)
    t = far[-1] / 400 if len(far) else 0.5
    # De Casteljau's construction: the first part of a Bezier curve that is cut at t.
    p01, p12, p23 = (a + t * (b - a) for a, b in itertools.pairwise(last))
    p012, p123 = p01 + t * (p12 - p01), p12 + t * (p23 - p12)
    return np.concatenate([curve[:-3], [p01, p012, p012 + t * (p123 - p012)]])


def fan(box: Box, others: Sequence[Box]) -> list[float]:
    """The x at which the arrows to or from ``others`` meet the side of a box, ordered so that they do not cross there.

    >>> fan(Box(0, 0, 1, 1), [Box(2, 2, 1, 1), Box(-2, 2, 1, 1)])
    [0.08, -0.08]
    """
    slants = [(other.x - box.x) / max(abs(other.y - box.y), 0.1) for other in others]
    step = min(0.16, 0.8 * box.width / max(len(others), 1))
    order = sorted(range(len(others)), key=slants.__getitem__)
    return [box.x + step * (order.index(i) - (len(others) - 1) / 2) for i in range(len(others))]


def length(points: Points) -> float:
    """The length of the line through the points.

    >>> length(np.array([[0.0, 0.0], [3.0, 4.0]]))
    5.0
    """
    return float(np.hypot(*np.diff(points, axis=0).T).sum())
