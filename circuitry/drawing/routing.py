"""Places arrows and their labels so that they avoid boxes, other labels and, if possible, other arrows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .geometry import Box, Points, length, sampled

Interval: TypeAlias = tuple[float, float]

EVERYWHERE: Interval = (-np.inf, np.inf)

_BOWS = (0.2, -0.2, 0.4, -0.4, 0.65, -0.65)
_STIFFNESS = (0.4, 0.25, 0.6, 0.85, 1.1)
_CLEAR, _LANE, _TURN = 0.07, 0.09, 0.4  # inches from a box, inches between arrows, the cost of a turn in inches


def route(
    start: Points, end: Points, boxes: Sequence[Box], drawn: Sequence[Points] = (), within: Interval = EVERYWHERE
) -> Points:
    """A curve from ``start`` to ``end`` that avoids ``boxes``, and if possible the arrows that are already ``drawn``.

    ``boxes`` are the obstacles, without the two that the arrow joins; ``drawn`` are points sampled on other arrows;
    ``within`` is the least and the largest x. The curve has a single bend if one is free, else a lane between the boxes of
    each row.

    >>> wall = Box(0, 1, 0.4, 0.4)
    >>> curve = route(np.array([0.0, 0.0]), np.array([0.0, 2.0]), [wall])
    >>> wall.holds(sampled(curve))
    0
    """
    low, high = within
    walls = [Box(low - 50, 0, 100, 1000), Box(high + 50, 0, 100, 1000)] if within != EVERYWHERE else []
    obstacles = [box.grown(0.05) for box in (*boxes, *walls)]
    clear = [curve for curve in _bends(start, end) if _is_clear(sampled(curve), obstacles)]
    if not clear:
        return through(start, end, _lanes(start, end, boxes, drawn, within))
    return clear[_cheapest([_detour(curve) for curve in clear], lambda i: 0.02 * _touched(clear[i], drawn))]


def _is_clear(points: Points, obstacles: Sequence[Box]) -> bool:
    return not any(box.holds(points) for box in obstacles)


def _cheapest(costs: Sequence[float], more: Callable[[int], float]) -> int:
    """The index with the least total cost. ``more`` is expensive, so it is called only for indices that can still win."""
    best, least = 0, np.inf
    for i in sorted(range(len(costs)), key=costs.__getitem__):
        if costs[i] >= least:
            break
        if (total := costs[i] + more(i)) < least:
            best, least = i, total
    return best


def _bends(start: Points, end: Points) -> Iterator[Points]:
    """Curves with vertical ends, then bowed ones; for two boxes of one row, arcs above them."""
    rise = np.array([0.0, end[1] - start[1]])
    if abs(rise[1]) < 0.1:
        lifts = (np.array([0.0, height]) for height in _STIFFNESS)
        yield from (np.array([start, start + lift, end + lift, end]) for lift in lifts)
        return
    for leave, arrive in itertools.product(_STIFFNESS, repeat=2):
        yield np.array([start, start + leave * rise, end - arrive * rise, end])
    for bow, stiffness in itertools.product(_BOWS, _STIFFNESS):
        aside = np.array([bow, 0.0])
        yield np.array([start, start + stiffness * rise + aside, end - stiffness * rise + aside, end])


def _detour(curve: Points) -> float:
    """The length in inches, with a penalty for a start that is not vertical."""
    return length(sampled(curve)) + 0.35 * float(abs(curve[1, 0] - curve[0, 0]) > 1e-6)


def _touched(curve: Points, drawn: Sequence[Points]) -> int:
    """The number of sampled points of a curve that are close to another arrow."""
    points = sampled(curve)
    inner = points[_away_from_ends(points)]
    return sum(int((_distances(inner, line[_away_from_ends(line)]) < 0.06).any(axis=1).sum()) for line in drawn)


def _away_from_ends(points: Points) -> NDArray[np.bool_]:
    """The points away from both ends: arrows that share an end must be close there."""
    return np.asarray((_distances(points, points[[0, -1]]) > 0.22).all(axis=1))


def _distances(points: Points, others: Points) -> Points:
    return np.asarray(np.hypot(*(points[:, None, :] - others[None, :, :]).transpose(2, 0, 1)))


def _lanes(start: Points, end: Points, boxes: Sequence[Box], drawn: Sequence[Points], within: Interval) -> list[Box]:
    """For each row of boxes between the ends, a free vertical lane; together they are the cheapest path (dynamic programming)."""
    low, high = sorted((start[1], end[1]))
    rows = sorted({box.y for box in boxes if low < box.y < high}, reverse=bool(start[1] > end[1]))
    # The cheapest path to each x of the row so far: x -> (cost, lanes).
    paths: dict[float, tuple[float, list[Box]]] = {float(start[0]): (0.0, [])}
    for y in rows:
        row = [box for box in boxes if box.y == y]
        height = max(box.height for box in row)
        step = {}
        for x, busy in _free(row, y, height, [float(start[0]), float(end[0]), *paths], drawn, within):
            cost, lanes = _shortest(paths, x)
            step[x] = (cost + busy, [*lanes, Box(x, y, 0.0, height)])
        paths = step or paths
    return _shortest(paths, float(end[0]))[1]


def _shortest(paths: dict[float, tuple[float, list[Box]]], x: float) -> tuple[float, list[Box]]:
    """The cheapest path extended to ``x``. A turn has a fixed cost; without it every path would be a staircase."""
    return min(
        ((cost + abs(x - at) + _TURN * (abs(x - at) > 1e-3), lanes) for at, (cost, lanes) in paths.items()),
        key=lambda way: way[0],
    )


def _free(
    row: Sequence[Box], y: float, height: float, wanted: list[float], drawn: Sequence[Points], within: Interval
) -> Iterator[tuple[float, float]]:
    """The x at which an arrow can pass a row, each with the cost of the arrows that are already there."""
    sides = [x for box in row for k in range(4) for x in (box.left - _CLEAR - k * _LANE, box.right + _CLEAR + k * _LANE)]
    band = [line[np.abs(line[:, 1] - y) < height / 2, 0] for line in drawn]
    for x in sorted({round(x, 3) for x in (*wanted, *sides) if within[0] < x < within[1]}):
        if all(abs(x - box.x) >= box.width / 2 + _CLEAR - 1e-3 for box in row):
            yield x, sum(0.3 for xs in band if (np.abs(xs - x) < 0.8 * _LANE).any())


def through(start: Points, end: Points, lanes: Sequence[Box]) -> Points:
    """The curve from ``start`` to ``end`` along vertical lanes (boxes without width), with an S-bend between each two.

    >>> through(np.array([0.0, 0.0]), np.array([0.0, 3.0]), [Box(1, 1.5, 0, 1)])[3:7].tolist()
    [[1.0, 1.0], [1.0, 1.5], [1.0, 1.5], [1.0, 2.0]]
    """
    up = 1.0 if end[1] > start[1] else -1.0
    stops = [start]
    for lane in lanes:
        stops += [np.array([lane.x, lane.y - up * lane.height / 2]), np.array([lane.x, lane.y + up * lane.height / 2])]
    curve = [start]
    for a, b in zip(stops, [*stops[1:], end], strict=True):
        half = np.array([0.0, 0.5 * (b[1] - a[1])])
        curve += [a + half, b - half, b]
    return np.array(curve, float)


def place_label(
    curve: Points, size: tuple[float, float], boxes: Iterable[Box], labels: Iterable[Box], others: Sequence[Points] = ()
) -> Box:
    """The box of a label of this width and height on its arrow: clear of all boxes and labels, and if possible of other arrows.

    The middle of the arrow is best. If it is not free, the label goes elsewhere on the arrow or just beside it.

    >>> straight = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], float)
    >>> place_label(straight, (0.5, 0.1), [], []).x
    1.5
    """
    taken = [*(box.grown(0.02) for box in boxes), *(label.grown(0.06) for label in labels)]
    places = list(_label_places(curve, size))

    def more(i: int) -> float:
        box = places[i][0]
        return 100.0 * sum(map(box.meets, taken)) + sum(bool(box.grown(0.02).holds(points)) for points in others)

    return places[_cheapest([detour for _, detour in places], more)][0]


def _label_places(curve: Points, size: tuple[float, float]) -> Iterator[tuple[Box, float]]:
    """Boxes on and beside an arrow, away from its start and its head, each with its cost: mostly the distance to the middle."""
    points = sampled(curve)
    steps = np.diff(points, axis=0, append=2 * points[-1:] - points[-2:-1])
    walked = np.concatenate([[0.0], np.hypot(*steps[:-1].T).cumsum()])
    ends = min(0.22, 0.4 * walked[-1])
    hidden = 0.65 if walked[-1] < 0.4 else 0.0  # a label on a short arrow would hide it, so beside it is better
    for point, step, way in zip(points, steps, walked, strict=True):
        if ends <= way <= walked[-1] - ends:
            aside = np.array([size[0] / 2 + 0.05, 0.0] if abs(step[1]) > abs(step[0]) else [0.0, size[1] / 2 + 0.03])
            for side in (0.0, 1.0, -1.0):
                x, y = point + side * aside
                yield Box(float(x), float(y), *size), 0.3 * abs(way - walked[-1] / 2) + (0.6 if side else hidden)
