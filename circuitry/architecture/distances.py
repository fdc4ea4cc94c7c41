"""Sets of distances in tokens as the bits of a number, moved along a graph's edges: fast enough to ask for every cell of a sweep.

``flow.py`` computes the same for any length, exactly and part by part, and puts it in words. Here a set ends at the length of the
prompts, and a value with several parts counts as one. So a set may have more than what can move, never less.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from ..paths.values import Node
from .rules import FOREVER, Edge, Rule

Bits: TypeAlias = int
_Arrow: TypeAlias = tuple[int, Rule]
"""To which node, by its rank, and by which rule."""


@dataclass(frozen=True)
class Distances:
    """The edges of a graph by rank, in both directions. Made by ``Graph.distances``.

    >>> import circuitry as ct
    >>> g = ct.graph("mamba", layer=2)
    >>> moved = g.distances.moved([g.node("x[0]")], length=6)
    >>> bin(moved[g.node("c[0]")]), g.node("gate[0]") in moved
    ('0b1111', False)
    >>> bin(g.distances.needed([g.node("c[0]")], length=3)[g.node("x[0]")])
    '0b111'
    """

    nodes: tuple[Node, ...]
    rank: Mapping[Node, int]
    onward: tuple[tuple[_Arrow, ...], ...]
    back: tuple[tuple[_Arrow, ...], ...]

    @staticmethod
    def of(nodes: Iterable[Node], edges: Iterable[Edge]) -> Distances:
        """From nodes in order of computation and the edges between them.

        >>> from circuitry.architecture.rules import lag
        >>> a, b = Node("a"), Node("b")
        >>> Distances.of([a, b], [(a, b, lag(2))]).moved([a], 4)[b]
        4
        """
        ordered = tuple(nodes)
        rank = {node: number for number, node in enumerate(ordered)}
        onward, back = defaultdict[int, list[_Arrow]](list), defaultdict[int, list[_Arrow]](list)
        for source, target, rule in edges:
            onward[rank[source]].append((rank[target], rule))
            back[rank[target]].append((rank[source], rule))
        every = range(len(ordered))
        return Distances(ordered, rank, tuple(tuple(onward[k]) for k in every), tuple(tuple(back[k]) for k in every))

    def moved(
        self, sources: Iterable[Node], length: int, without: Collection[Node] = (), within: Collection[Node] | None = None
    ) -> dict[Node, Bits]:
        """Bit k of a node: a change at a source can be there k tokens later.

        It passes through no node ``without``, and only through nodes ``within``.
        """
        opened = None if within is None else {self.rank[node] for node in within}
        return self._spread(self.onward, 1, sources, length, without, opened)

    def needed(self, targets: Iterable[Node], length: int, without: Collection[Node] = ()) -> dict[Node, Bits]:
        """Bit k of a node: its value k tokens before a target's token can change the target.

        Nothing passes through nodes ``without``.
        """
        return self._spread(self.back, -1, targets, length, without, None)

    def arriving(self, node: Node, moved: Mapping[Node, Bits], length: int) -> Bits:
        """The distances that arrive at a node over its edges, without those that the node itself starts with."""
        full, arrived = (1 << length) - 1, 0
        for source, rule in self.back[self.rank[node]]:
            arrived |= _over(moved.get(self.nodes[source], 0), rule, full)
        return arrived

    def _spread(
        self,
        arrows: tuple[tuple[_Arrow, ...], ...],
        way: int,
        starts: Iterable[Node],
        length: int,
        without: Collection[Node],
        opened: Collection[int] | None,
    ) -> dict[Node, Bits]:
        """Node by node in order of computation (``way`` 1), or against it (-1), and again where a recurrent loop leads back."""
        full, closed = (1 << length) - 1, {self.rank[node] for node in without}
        reached: dict[int, Bits] = {self.rank[node]: 1 for node in starts}
        queue = [way * number for number in reached]
        waiting = set(queue)
        heapify(queue)
        while queue:
            turn = heappop(queue)
            waiting.discard(turn)
            bits = reached[way * turn]
            for number, rule in arrows[way * turn]:
                if number in closed or (opened is not None and number not in opened):
                    continue
                new = _over(bits, rule, full)
                if way * number < turn:
                    new = filled(new, full)  # round the loop any number of times
                old = reached.get(number, 0)
                if new | old != old:
                    reached[number] = new | old
                    if way * number not in waiting:
                        waiting.add(way * number)
                        heappush(queue, way * number)
        return {self.nodes[number]: bits for number, bits in reached.items()}


def filled(bits: Bits, full: Bits) -> Bits:
    """From the lowest bit of a set on, all bits of ``full``.

    >>> bin(filled(0b100, 0b11111))
    '0b11100'
    """
    return full & ~((bits & -bits) - 1) if bits else 0


def _over(bits: Bits, rule: Rule, full: Bits) -> Bits:
    """A set of distances after one more edge."""
    least = int(rule.least)
    if rule.least == rule.most:
        return (bits << least) & full if least else bits
    if rule.most == FOREVER:
        return filled(bits << least, full)
    shifted = 0
    for offset in range(least, min(int(rule.most), full.bit_length()) + 1):
        shifted |= bits << offset
    return shifted & full
