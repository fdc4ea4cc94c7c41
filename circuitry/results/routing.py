"""Places arrows and their labels so that neither runs over a box, another label or, where it can be helped, another arrow.

Lengths are in inches, x to the right and y up. A curve is cubic Bezier pieces end to end: an array of 4, 7, 10 ... points.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Points: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]

EVERYWHERE: Interval = (-np.inf, np.inf)

_BOWS = (0.0, 0.2, -0.2, 0.4, -0.4, 0.65, -0.65)
_STIFFNESS = (0.4, 0.6, 0.8, 1.1)
_CLEAR, _LANE = 0.07, 0.09  # from a box, and from arrow to arrow


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
    """Points along a curve, both ends among them; shape ``[number of Bezier pieces * pieces + 1, 2]``.

    >>> straight = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], float)
    >>> sampled(straight, 2)[:, 0].tolist()
    [0.0, 1.5, 3.0]
    """
    t = np.linspace(0.0, 1.0, pieces + 1)[1:, None]
    found = [curve[:1]]
    for i in range(0, len(curve) - 1, 3):
        p0, p1, p2, p3 = curve[i : i + 4]
        found.append((1 - t) ** 3 * p0 + 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2 + t**3 * p3)
    return np.concatenate(found)


def shortened(curve: Points, length: float) -> Points:
    """The curve without about its last ``length`` inches, which the head of the arrow takes.

    >>> straight = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], float)
    >>> shortened(straight, 1.0)[-1].round(1).tolist()
    [2.0, 0.0]
    """
    last = curve[-4:]
    far = np.flatnonzero(np.hypot(*(sampled(last, 400) - last[3]).T) >= length)
    t = far[-1] / 400 if len(far) else 0.5
    p01, p12, p23 = (a + t * (b - a) for a, b in zip(last[:3], last[1:], strict=True))
    p012, p123 = p01 + t * (p12 - p01), p12 + t * (p23 - p12)
    return np.concatenate([curve[:-3], [p01, p012, p012 + t * (p123 - p012)]])


def route(start: Points, end: Points, boxes: Sequence[Box], drawn: Sequence[Points] = (), within: Interval = EVERYWHERE) -> Points:
    """A curve from ``start`` to ``end`` that keeps clear of ``boxes``, and of what is ``drawn`` already if it can be.

    ``boxes`` are the obstacles, without the two that the arrow joins; ``drawn`` are points sampled on other arrows;
    ``within`` is the least and the largest x. One bend where that is free, else a lane between the boxes of each row.

    >>> wall = Box(0, 1, 0.4, 0.4)
    >>> curve = route(np.array([0.0, 0.0]), np.array([0.0, 2.0]), [wall])
    >>> wall.holds(sampled(curve))
    0
    """
    low, high = within
    walls = [Box(low - 50, 0, 100, 1000), Box(high + 50, 0, 100, 1000)] if within != EVERYWHERE else []
    simple = min(_bends(start, end), key=lambda curve: _cost(curve, [*boxes, *walls], drawn))
    if not any(box.grown(0.03).holds(sampled(simple)) for box in (*boxes, *walls)):
        return simple
    return _through(start, end, _lanes(start, end, boxes, drawn, within))


def _bends(start: Points, end: Points) -> Iterator[Points]:
    """Curves that leave and arrive upright; between boxes of one row an arc above them."""
    rise = end[1] - start[1]
    for stiffness in _STIFFNESS:
        lift = np.array([0.0, stiffness * rise])
        arc = np.array([0.0, 0.0 if abs(rise) > 0.1 else stiffness])
        for bow in _BOWS if abs(rise) > 0.1 else (0.0,):
            aside = np.array([bow, 0.0])
            yield np.array([start, start + lift + arc + aside, end - lift + arc + aside, end])


def _cost(curve: Points, boxes: Sequence[Box], drawn: Sequence[Points]) -> float:
    """In inches of detour: a box in the way is worth any detour, an arrow alongside or across a little."""
    points = sampled(curve)
    bowed = float(abs(curve[1, 0] - curve[0, 0]) > 1e-6)
    blocked = sum(box.grown(0.05).holds(points) for box in boxes)
    inner = points[_away_from_ends(points)]
    touched = sum(int((_distances(inner, other[_away_from_ends(other)]) < 0.06).any(axis=1).sum()) for other in drawn)
    return _length(points) + 0.25 * bowed + 10.0 * blocked + 0.02 * touched


def _away_from_ends(points: Points) -> NDArray[np.bool_]:
    """Arrows that share an end lie close together there, which is no fault."""
    return np.asarray((_distances(points, points[[0, -1]]) > 0.22).all(axis=1))


def _distances(points: Points, others: Points) -> Points:
    return np.asarray(np.hypot(*(points[:, None, :] - others[None, :, :]).transpose(2, 0, 1)))


def _lanes(start: Points, end: Points, boxes: Sequence[Box], drawn: Sequence[Points], within: Interval) -> list[Box]:
    """For each row of boxes between the ends, a free upright lane, so that all lanes together are the shortest way."""
    low, high = sorted((start[1], end[1]))
    rows = sorted({box.y for box in boxes if low < box.y < high}, reverse=bool(start[1] > end[1]))
    # Ways so far by where they are: x -> (cost, lanes).
    ways: dict[float, tuple[float, list[Box]]] = {float(start[0]): (0.0, [])}
    for y in rows:
        row = [box for box in boxes if box.y == y]
        height = max(box.height for box in row)
        straight = float(np.interp(y, *zip(*sorted([(start[1], start[0]), (end[1], end[0])]), strict=True)))
        step = {}
        for x, busy in _free(row, y, height, [straight, float(end[0]), *ways], drawn, within):
            cost, lanes = min(((cost + abs(x - before), lanes) for before, (cost, lanes) in ways.items()), key=lambda way: way[0])
            step[x] = (cost + busy + 0.1 * abs(x - straight), [*lanes, Box(x, y, 0.0, height)])
        ways = step or ways
    return min(((cost + abs(x - end[0]), lanes) for x, (cost, lanes) in ways.items()), key=lambda way: way[0])[1]


def _free(
    row: Sequence[Box], y: float, height: float, wanted: list[float], drawn: Sequence[Points], within: Interval
) -> Iterator[tuple[float, float]]:
    """Where a row lets an arrow through, with the cost of the arrows that are there already."""
    sides = [x for box in row for k in range(4) for x in (box.left - _CLEAR - k * _LANE, box.right + _CLEAR + k * _LANE)]
    band = [other[np.abs(other[:, 1] - y) < height / 2, 0] for other in drawn]
    for x in sorted({round(x, 3) for x in (*wanted, *sides) if within[0] < x < within[1]}):
        if all(abs(x - box.x) >= box.width / 2 + _CLEAR - 1e-3 for box in row):
            yield x, sum(0.3 for xs in band if (np.abs(xs - x) < 0.8 * _LANE).any())


def _through(start: Points, end: Points, lanes: Sequence[Box]) -> Points:
    """The curve through upright lanes, with an S-bend between each two."""
    up = 1.0 if end[1] > start[1] else -1.0
    stops = [start]
    for lane in lanes:
        stops += [np.array([lane.x, lane.y - up * lane.height / 2]), np.array([lane.x, lane.y + up * lane.height / 2])]
    curve = [start]
    for a, b in zip(stops, [*stops[1:], end], strict=True):
        half = np.array([0.0, 0.5 * (b[1] - a[1])])
        curve += [a + half, b - half, b]
    return np.array(curve)


def place_label(
    curve: Points, size: tuple[float, float], boxes: Iterable[Box], labels: Iterable[Box], others: Sequence[Points] = ()
) -> Box:
    """Where on its arrow a label of this width and height goes: off all boxes and labels, off other arrows if it can be.

    >>> straight = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], float)
    >>> place_label(straight, (0.5, 0.1), [], []).x
    1.5
    """
    boxes, labels = list(boxes), list(labels)
    points = sampled(curve)
    walked = np.concatenate([[0.0], np.hypot(*np.diff(points, axis=0).T).cumsum()]) / max(1e-9, _length(points))
    middle_first = np.argsort(np.abs(walked - 0.5), kind="stable")
    places = [Box(float(x), float(y), *size) for x, y in points[middle_first[: int(0.8 * len(points))]]]

    def cost(place: Box) -> float:
        hit = sum(place.grown(0.02).meets(box) for box in boxes) + sum(place.grown(0.03).meets(label) for label in labels)
        return 100.0 * hit + sum(place.grown(0.01).holds(points) for points in others)

    # min keeps the first of equals, and places come from the middle of the arrow outwards.
    return min(places, key=cost)


def _length(points: Points) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())
