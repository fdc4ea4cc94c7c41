"""A layered layout: the order and the x of the boxes in each row, chosen so that few arrows cross and most run straight.

The rows are given. An arrow that spans several rows has a narrow lane in each row between (Sugiyama et al. 1981).
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

K = TypeVar("K", bound=Hashable)
Key: TypeAlias = Hashable  # of a box or of a lane
Near: TypeAlias = Mapping[Key, tuple[list[Key], list[Key]]]
_LANE_WIDTH = 0.1
_PULL = (1, 2, 8)  # the weight of a link by how many of its ends are lanes, so that long arrows become straight (Gansner et al.)
_ORDER_SWEEPS, _PLACE_SWEEPS = 8, 200


@dataclass(frozen=True)
class Layered(Generic[K]):
    """The x of each box, and the x of the lanes of each link, from its source's row to its target's, in inches."""

    x: dict[K, float]
    lanes: dict[tuple[K, K], list[float]]


def layered(rows: Mapping[K, int], widths: Mapping[K, float], links: Sequence[tuple[K, K]], gap: float) -> Layered[K]:
    """Place the boxes that have a width. A link may have an end without a width: that box is not placed, only its row counts.

    >>> placed = layered({"a": 0, "b": 1, "c": 1}, {"a": 1.0, "b": 1.0, "c": 1.0}, [("a", "b"), ("a", "c")], gap=0.5)
    >>> {key: round(x, 2) for key, x in placed.x.items()}
    {'a': 1.25, 'b': 0.5, 'c': 2.0}
    """
    chains = {link: _chain(link, rows) for link in links}
    members: dict[int, list[Key]] = defaultdict(list)
    for box in widths:
        members[rows[box]].append(box)
    for (source, _), chain in chains.items():
        for row, lane in enumerate(chain[1:-1], rows[source] + 1):
            members[row].append(lane)
    boxes: dict[Key, float] = dict(widths.items())
    sizes = {key: boxes.get(key, _LANE_WIDTH) for row in members.values() for key in row}
    near = _neighbours(chains.values(), sizes)
    order = _ordered([members[row] for row in sorted(members)], near)
    x = _placed(order, sizes, near, boxes, gap)
    for chain in chains.values():
        x |= _straight(chain[1:-1], [x[key] for key in chain if key in x], order, x, sizes)
    left = min((x[key] - size / 2 for key, size in sizes.items()), default=0.0)
    lanes = {link: [x[key] - left for key in chain[1:-1]] for link, chain in chains.items()}
    return Layered({key: x[key] - left for key in widths}, lanes)


def _chain(link: tuple[K, K], rows: Mapping[K, int]) -> list[Key]:
    """The source, a lane for each row between, and the target."""
    source, target = link
    return [source, *((*link, row) for row in range(rows[source] + 1, rows[target])), target]


def _neighbours(chains: Iterable[list[Key]], sizes: Mapping[Key, float]) -> dict[Key, tuple[list[Key], list[Key]]]:
    """For each box and lane, its neighbours below and above."""
    near: dict[Key, tuple[list[Key], list[Key]]] = {key: ([], []) for key in sizes}
    for chain in chains:
        for low, high in itertools.pairwise(chain):
            if low in sizes and high in sizes:
                near[low][1].append(high)
                near[high][0].append(low)
    return near


def _ordered(order: list[list[Key]], near: Near) -> list[list[Key]]:
    """Sort each row by the mean index of its neighbours, upwards and downwards in turn; the order with fewest crossings wins."""
    best, fewest = [list(row) for row in order], _crossings(order, near)
    for sweep in range(_ORDER_SWEEPS):
        side = sweep % 2
        for row in order[:: 1 if side == 0 else -1]:
            at = {key: i for keys in order for i, key in enumerate(keys)}
            wanted = {key: _mean([at[neighbour] for neighbour in near[key][side]], at[key]) for key in row}
            row.sort(key=wanted.__getitem__)
        if (crossings := _crossings(order, near)) < fewest:
            best, fewest = [list(row) for row in order], crossings
    return best


def _crossings(order: list[list[Key]], near: Near) -> int:
    at = {key: i for row in order for i, key in enumerate(row)}
    count = 0
    for row in order:
        ends = [(at[key], at[above]) for key in row for above in near[key][1]]
        count += sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(ends, 2))
    return count


def _placed(
    order: list[list[Key]], sizes: Mapping[Key, float], near: Near, boxes: Container[Key], gap: float
) -> dict[Key, float]:
    """Move every box towards its neighbours, without changing the order or the gaps, in a fixed number of sweeps."""
    x: dict[Key, float] = {}
    for row in order:
        x |= _apart(row, [(0.0, 1.0)] * len(row), sizes, gap)
    for sweep in range(_PLACE_SWEEPS):
        for row in order[:: 1 if sweep % 2 == 0 else -1]:
            x |= _apart(row, [_wanted(key, x, near, boxes) for key in row], sizes, gap)
    return x


def _wanted(key: Key, x: Mapping[Key, float], near: Near, boxes: Container[Key]) -> tuple[float, float]:
    """The x that a box or lane is pulled to, and the strength of the pull (Gansner et al. 1993)."""
    neighbours = [neighbour for side in near[key] for neighbour in side]
    weights = [_PULL[(key not in boxes) + (neighbour not in boxes)] for neighbour in neighbours]
    if not neighbours:
        return x[key], 1.0
    return sum(w * x[neighbour] for w, neighbour in zip(weights, neighbours, strict=True)) / sum(weights), float(sum(weights))


def _apart(row: list[Key], wanted: list[tuple[float, float]], sizes: Mapping[Key, float], gap: float) -> dict[Key, float]:
    """The x nearest to those wanted, by weighted least squares, that leave ``gap`` between boxes (isotonic regression)."""
    offsets = [0.0]
    for a, b in itertools.pairwise(row):
        offsets.append(offsets[-1] + (sizes[a] + sizes[b]) / 2 + gap)
    # Without the offsets, the order of the boxes is all that is left of the constraint. Neighbours in the wrong order become
    # one block at their weighted mean (pool adjacent violators).
    blocks: list[tuple[float, float, int]] = []  # x without the offset, weight, number of boxes
    for (at, weight), offset in zip(wanted, offsets, strict=True):
        blocks.append((at - offset, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, w, m), (b, v, n) = blocks[-2:]
            blocks[-2:] = [((a * w + b * v) / (w + v), w + v, m + n)]
    settled = [at for at, _, count in blocks for _ in range(count)]
    return {key: at + offset for key, at, offset in zip(row, settled, offsets, strict=True)}


def _straight(
    lanes: list[Key], wanted: list[float], order: list[list[Key]], x: Mapping[Key, float], sizes: Mapping[Key, float]
) -> dict[Key, float]:
    """The same x for all lanes of an arrow, the nearest that has room in every row; empty if there is none."""
    neighbours = []  # what is next to a lane in its row: +1 if on its left, -1 if on its right
    for row in (row for row in order if any(key in row for key in lanes)):
        i = next(i for i, key in enumerate(row) if key in lanes)
        neighbours += [(1, left) for left in row[max(0, i - 1) : i]] + [(-1, right) for right in row[i + 1 : i + 2]]
    for candidate in sorted(wanted, key=lambda candidate: sum(abs(candidate - x[key]) for key in lanes)):
        if all(sign * (candidate - x[key]) >= (sizes[key] + _LANE_WIDTH) / 2 for sign, key in neighbours):
            return dict.fromkeys(lanes, candidate)
    return {}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
