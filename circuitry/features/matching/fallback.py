"""The same correlations as ``kernel``, without numba: scipy's product of sparse arrays, some rows at a time."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from .blocks import Sparse
from .moments import Floats, Ints
from .sides import ByFeature, ByToken

ROWS = 256
"""Rows of a product: with 24,576 columns 50 MB of float64, and as much again while they become correlations."""


def rows(
    chosen: Ints,
    a: ByFeature,
    b: ByToken,
    other: Sparse,
    rotate: int,
    best: Floats,
    best_at: Ints,
    column: Floats,
    column_at: Ints,
) -> None:
    """As ``kernel.rows``; ``other`` is ``b.sparse()``, made once.

    >>> from circuitry.features.matching.sides import InMemory
    >>> acts = InMemory(np.array([[0, 2], [1, 0], [0, 3], [2, 1]]))
    >>> a, b = ByFeature.of(acts, 1), ByToken.of(acts, 1)
    >>> best, at, column, column_at = np.zeros(2), np.zeros(2, int), np.full(2, -np.inf), np.zeros(2, int)
    >>> rows(a.chosen, a, b, b.sparse(), 0, best, at, column, column_at)
    >>> best.round(6).tolist(), at.tolist()
    ([1.0, 1.0], [0, 1])
    """
    for start in range(0, len(chosen), ROWS):
        some = chosen[start : start + ROWS]
        r = (_part(a, some, rotate) @ other).toarray()  # sums of products, and then correlations
        r -= np.outer(a.shift[some], b.shift)
        r *= np.outer(a.scale[some], b.scale)
        best_at[some] = r.argmax(1)
        best[some] = r[np.arange(len(some)), best_at[some]]
        highest = r.argmax(0)
        value = r[highest, np.arange(r.shape[1])]
        better = value > column
        column[better], column_at[better] = value[better], some[highest[better]]


def _part(a: ByFeature, some: Ints, rotate: int) -> Sparse:
    """Rows ``some`` [row, token], the tokens rotated; their order is kept, as in the kernel."""
    begin = np.concatenate([[0], np.cumsum(a.begin[some + 1] - a.begin[some])])
    where = np.concatenate([np.arange(a.begin[i], a.begin[i + 1]) for i in some])
    token = (a.token[where].astype(np.int64) + rotate) % a.tokens
    return csr_array((a.value[where].astype(np.float64), token, begin), (len(some), a.tokens))
