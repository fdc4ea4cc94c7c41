"""Token positions and open axes: what a path leaves to the task, and to the table of its results."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from ..errors import CircuitryError, expected
from ..html.shown import Shown

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Axis(Shown):
    """An index or position left open: the result is a table over it. Written ``{name}``.

    >>> str(Axis("layer"))
    '{layer}'
    """

    name: str

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_text

        return of_text(self)

    def __str__(self) -> str:
        return f"{{{self.name}}}"

    def __repr__(self) -> str:
        return str(self)


Index: TypeAlias = int | Axis


@dataclass(frozen=True)
class Position(Shown):
    """A token position: a name the task knows, a number or an open axis, plus an offset.

    >>> str(Position("B") + 1), str(Position(Axis("pos")) - 2), str(Position(7))
    ('B+1', '{pos}-2', '7')
    """

    base: str | int | Axis
    offset: int = 0

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_text

        return of_text(self)

    def __post_init__(self) -> None:
        if isinstance(self.base, int) and (self.base < 0 or self.offset):
            raise CircuitryError(f"expected a position as one number from 0 up, got {self.base}{self.offset:+d}")

    def __str__(self) -> str:
        return f"{self.base}{self.offset:+d}" if self.offset else f"{self.base}"

    def __repr__(self) -> str:
        return str(self)

    def __add__(self, offset: int) -> Position:
        return self._shifted(offset)

    def __sub__(self, offset: int) -> Position:
        return self._shifted(offset, -1)

    def _shifted(self, offset: int, sign: int = 1) -> Position:
        if isinstance(offset, bool) or not isinstance(offset, int):
            raise CircuitryError(f"a position moves by a whole number of tokens, not by {offset!r}")
        if isinstance(self.base, int):
            return _absolute(self.base + sign * offset)
        return replace(self, offset=self.offset + sign * offset)


def _absolute(position: int) -> Position:
    if position < 0:
        raise CircuitryError(f"position {position} is before the first token; positions count from 0")
    return Position(position)


def check_index(index: object, name: str, example: str) -> Index:
    """The index of a node or term. Raises CircuitryError unless it is a number from 0 up or an axis.

    >>> check_index(3, "mlp", "layer")
    3
    """
    if isinstance(index, bool) or not isinstance(index, int | Axis):
        raise CircuitryError(expected(f"an index of {name!r} (a whole number or axis('{example}'))", index))
    if isinstance(index, int) and index < 0:
        raise CircuitryError(f"index {index} of {name!r}: indices count from 0 up")
    return index
