"""The null of a best correlation: one side is shifted along the tokens, so that features fire together by chance only."""

from __future__ import annotations

import numpy as np

from ...errors import CircuitryError, expected
from .moments import Ints


def rotation(null: str | int | None, tokens: int, documents: Ints) -> int | None:
    """The number of tokens by which the second side is rotated; None without a null.

    "shift": half of the tokens, moved to the nearest beginning of a document if ``documents`` (numbers of their first tokens) are
    known, so that every token is far from its own text. A number: that many tokens. Raises CircuitryError for anything else, and
    for a shift that moves nothing.

    >>> rotation("shift", 100, np.array([0, 45, 80])), rotation("shift", 100, np.array([], int)), rotation(7, 100, np.array([0]))
    (45, 50, 7)
    """
    if null is None:
        return None
    if isinstance(null, int) and not isinstance(null, bool):
        if not null % tokens:
            raise CircuitryError(f"a shift by {null} leaves {tokens} tokens where they are; try 1 to {tokens - 1}")
        return null % tokens
    if null != "shift":
        raise CircuitryError(expected("'shift', a number of tokens or None as the null", null))
    if tokens < 2:
        raise CircuitryError("one token cannot be shifted; give more tokens, or null=None")
    inside = documents[(documents > 0) & (documents < tokens)]
    return int(inside[np.abs(inside - tokens // 2).argmin()]) if len(inside) else tokens // 2
