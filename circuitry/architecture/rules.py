"""Position rules: how far along the tokens an edge of a graph carries information."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from ..paths.values import Node

FOREVER = float("inf")


@dataclass(frozen=True)
class Rule:
    """How far along the tokens an edge carries information: from ``least`` to ``most`` positions later.

    >>> Rule("window", 0, 3).reaches(4)
    False
    """

    name: str
    least: float
    most: float
    part: str = ""
    """The one part, of a value with several parts, that the edge enters; or that it comes from, if it leads to a port of its node."""

    def reaches(self, offset: float) -> bool:
        """Whether a change at position p can arrive at p + offset over this edge.

        >>> CAUSAL.reaches(7), SAME.reaches(1)
        (True, False)
        """
        return self.least <= offset <= self.most


SAME = Rule("same position", 0, 0)


CAUSAL = Rule("causal", 0, FOREVER)


NEXT = Rule("next position", 1, 1)


def lag(k: int) -> Rule:
    """A fixed delay of ``k`` tokens: one tap of a convolution.

    >>> lag(2).reaches(2)
    True
    """
    return Rule(f"lag {k}", k, k)


def part(name: str) -> Rule:
    """The same position, and only one part of a value with several parts.

    >>> part("key").part
    'key'
    """
    return replace(SAME, part=name)


def window(width: int) -> Rule:
    """A sliding window: a token is seen by itself and by the ``width`` - 1 tokens after it.

    >>> window(3).reaches(2), window(3).reaches(3)
    (True, False)
    """
    return Rule(f"window of {width}", 0, width - 1)


Edge: TypeAlias = "tuple[Node, Node, Rule]"
"""From which node to which, and how far along the tokens."""
