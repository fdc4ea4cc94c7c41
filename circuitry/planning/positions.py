"""A path's positions as absolute tokens of each example, and the check that they lie inside the prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from ..paths.positions import Position
from ..paths.values import Site
from .mentions import Mention

T = TypeVar("T")
Where = Mapping[str, Iterable[int]]
"""Absolute token position of every named position, one number an example."""
Lengths = int | Sequence[int] | None
"""Tokens of the prompts without their padding: one number an example, or None without prompts. One number for all says
how wide the rows are: then only what lies outside of them, or has no effect in any example, is refused."""


def absolute(at: Position, where: Where) -> list[int]:
    """The absolute positions that a position names, one for each example (for a number, one for all).

    >>> absolute(Position("B", 1), {"B": [3, 5]})
    [4, 6]
    """
    if isinstance(at.base, int):
        return [at.base]
    return [int(p) + at.offset for p in where[str(at.base)]]


def check_inside(site: Site, mention: Mention, where: Where, length: Lengths) -> None:
    """Refuse a position outside a prompt: the padding of a shorter prompt was not part of the question to the model.

    Raises PathError with the number of examples.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> plan("mlp[0] @ B+2 -> logits", ct.graph("gpt2"), where={"B": [1, 3], "END": [5, 4]}, length=[6, 5])
    Traceback (most recent call last):
    circuitry.errors.PathError: B+2 lies after the end of the prompt in 1 of 2 examples, where there is only padding
        mlp[0] @ B+2 -> logits
                 ^
    choose a position inside every prompt, or examples of one length
    """
    if site.at is None or length is None:
        return
    at, stops = together(absolute(site.at, where), [length] if isinstance(length, int) else [int(stop) for stop in length])
    early, late = sum(p < 0 for p in at), sum(p >= stop for p, stop in zip(at, stops, strict=True))
    some = f" in {early or late} of {len(at)} examples" if 0 < (early or late) < len(at) else ""
    if early:
        raise mention.error(f"{site.at} is before the first token{some}", "move it inside", at_position=True)
    if late and len(set(stops)) == 1:
        raise mention.error(
            f"{site.at} is past the end of the prompts ({stops[0]} tokens){some}", "move it inside", at_position=True
        )
    if late:
        raise mention.error(
            f"{site.at} lies after the end of the prompt{some or ' in every example'}, where there is only padding",
            "choose a position inside every prompt, or examples of one length",
            at_position=True,
        )


def together(*numbers: list[T]) -> tuple[list[T], ...]:
    """Lists with one number an example, or one for all, as lists of one length.

    >>> together([7], [1, 2])
    ([7, 7], [1, 2])
    """
    size = max(map(len, numbers))
    return tuple(values * (size // len(values)) for values in numbers)
