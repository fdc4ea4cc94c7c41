"""How far along the tokens a change can move: sets of distances, and their way through the edges of a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..paths import Node
from .families import FOREVER, Edge, Rule

State: TypeAlias = tuple[Node, str]
"""A node and the part of its value that is meant: "" for all of it."""
Way: TypeAlias = tuple[State, State, Rule]


@dataclass(frozen=True)
class Reach:
    """Every distance in tokens at which a change can arrive, as ranges with gaps between them, in order.

    >>> far = Reach.of(Rule("lag 0", 0, 0)).joined(Reach(((2, 3),)))
    >>> str(far), far.reaches(1), far.most
    ('0 or 2 to 3', False, 3)
    """

    ranges: tuple[tuple[float, float], ...]

    @staticmethod
    def of(rule: Rule) -> Reach:
        """What one edge reaches.

        >>> Reach.of(Rule("causal", 0, FOREVER)).reaches(1000)
        True
        """
        return Reach(((rule.least, rule.most),))

    @property
    def least(self) -> float:
        """The nearest distance.

        >>> Reach(((1, 2), (5, 5))).least
        1
        """
        return self.ranges[0][0]

    @property
    def most(self) -> float:
        """The farthest distance, infinite where there is none.

        >>> Reach(((1, 2), (5, 5))).most
        5
        """
        return self.ranges[-1][1]

    def reaches(self, offset: float) -> bool:
        """Whether a change at position p can arrive at p + offset.

        >>> [Reach(((1, 2), (5, 5))).reaches(k) for k in (2, 3, 5)]
        [True, False, True]
        """
        return any(least <= offset <= most for least, most in self.ranges)

    def then(self, rule: Rule) -> Reach:
        """What is reached over one more edge.

        >>> Reach(((0, 0), (2, 2))).then(Rule("window", 0, 1))
        Reach(ranges=((0, 3),))
        """
        if rule.least == rule.most == 0:
            return self
        return _merged((least + rule.least, most + rule.most) for least, most in self.ranges)

    def joined(self, other: Reach) -> Reach:
        """What is reached by either of two ways.

        >>> Reach(((0, 0),)).joined(Reach(((1, 1), (4, 4))))
        Reach(ranges=((0, 1), (4, 4)))
        """
        return self if self == other else _merged((*self.ranges, *other.ranges))

    def onward(self) -> Reach:
        """What is reached by going round a recurrent loop any number of times.

        >>> Reach(((1, 1),)).onward().reaches(50)
        True
        """
        return Reach(((self.least, FOREVER),))

    def __str__(self) -> str:
        if self.ranges == ((self.least, FOREVER),):
            return f"at least {self.least}"
        if self.least == self.most:
            return f"exactly {self.least}"
        ends = ((f"{a}", "" if a == b else " or more" if b == FOREVER else f" to {b}") for a, b in self.ranges)
        return " or ".join(a + b for a, b in ends)


def _merged(ranges: Iterable[tuple[float, float]]) -> Reach:
    """Ranges of whole numbers, those that overlap or touch made one."""
    found: list[tuple[float, float]] = []
    for least, most in sorted(ranges):
        if found and least <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], most)
        else:
            found.append((least, most))
    return Reach(tuple(found))


def ways(edges: Iterable[Edge]) -> list[Way]:
    """The edges between states: what enters one part of a value leaves by that part only, what enters all of it by every part.

    >>> from circuitry.architecture.families import SAME, part
    >>> a, b, whole, seen = Node("a"), Node("b"), Node("c"), Node("c", (), "x")
    >>> [(s[1], t[1]) for s, t, _ in ways([(a, whole, part("x")), (b, whole, SAME), (whole, seen, part("x"))])]
    [('', 'x'), ('', ''), ('x', ''), ('', '')]
    """
    known, made = list(edges), list[Way]()
    parts: dict[Node, set[str]] = {}
    for source, target, rule in known:
        if rule.part and not _leaves(source, target):
            parts.setdefault(target, set()).add(rule.part)
    for source, target, rule in known:
        leaves = bool(rule.part) and _leaves(source, target)
        there = parts.get(source, set())
        starts = [*sorted(there & {rule.part} if leaves else there), ""]
        made += [((source, one), (target, "" if leaves else rule.part), rule) for one in starts]
    return made


def _leaves(source: Node, target: Node) -> bool:
    """Whether an edge goes from a node to a port of its own."""
    return (source.family, source.indices) == (target.family, target.indices)


def spread(edges: Iterable[Way], rank: Mapping[Node, int], sources: Iterable[Node], without: set[Node]) -> dict[Node, Reach]:
    """How far a change at any of ``sources`` moves over ``edges``, which are in order of computation (``Graph.reach``).

    >>> from circuitry.architecture.families import lag
    >>> a, b = Node("a"), Node("b")
    >>> spread(ways([(a, b, lag(2))]), {a: 0, b: 1}, [a], set())[b]
    Reach(ranges=((2, 2),))
    """
    found: dict[State, Reach] = {(node, ""): Reach(((0, 0),)) for node in sources}
    changed = True
    while changed:  # twice at most: once along the order of computation, once more after a recurrent loop
        changed = False
        for source, target, rule in edges:
            if source not in found or target[0] in without:
                continue
            new, back = found[source].then(rule), rank[target[0]] < rank[source[0]]
            new = new.onward() if back else new
            joined = found[target].joined(new) if target in found else new
            changed = changed or (back and joined != found.get(target))
            found[target] = joined
    merged: dict[Node, Reach] = {}
    for (node, _), reach in found.items():
        merged[node] = merged[node].joined(reach) if node in merged else reach
    return merged
