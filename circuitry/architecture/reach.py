"""How far along the tokens a change can have moved: a set of distances, exactly and in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .rules import FOREVER, Rule


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
        """The farthest distance, or infinity.

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
        return self if self is other or self.ranges == other.ranges else _merged((*self.ranges, *other.ranges))

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
    merged: list[tuple[float, float]] = []
    for least, most in sorted(ranges):
        if merged and least <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], most)
        else:
            merged.append((least, most))
    return Reach(tuple(merged))
