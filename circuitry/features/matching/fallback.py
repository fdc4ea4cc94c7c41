"""The same correlations as ``kernel`` without numba: scipy's product of sparse arrays, a few rows at a time."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array

from .blocks import Sparse
from .moments import Floats, Ints
from .sides import ByFeature, ByToken

ROWS = 256
"""Rows of a product: with 24,576 columns they take 50 MB of float64, and as much again while they become correlations."""


def rows(
    chosen: Ints,
    a: ByFeature,
    b: ByToken,
    b_sparse: Sparse,
    rotate: int,
    best: Floats,
    best_at: Ints,
    column: Floats,
    column_at: Ints,
) -> None:
    """As ``kernel.rows``; ``b_sparse`` is ``b.sparse()``, made once by the caller.

    >>> from circuitry.features.matching.sides import InMemory
    >>> acts = InMemory(np.array([[0, 2], [1, 0], [0, 3], [2, 1]]))
    >>> a, b = ByFeature.of(acts, 1), ByToken.of(acts, 1)
    >>> best, at, column, column_at = np.zeros(2), np.zeros(2, int), np.full(2, -np.inf), np.zeros(2, int)
    >>> rows(a.chosen, a, b, b.sparse(), 0, best, at, column, column_at)
    >>> best.round(6).tolist(), at.tolist()
    ([1.0, 1.0], [0, 1])
    """
    for start in range(0, len(chosen), ROWS):
        part = chosen[start : start + ROWS]
        r = (_part(a, part, rotate) @ b_sparse).toarray()  # sums of products, and then correlations
        r -= np.outer(a.shift[part], b.shift)
        r *= np.outer(a.scale[part], b.scale)
        best_at[part] = r.argmax(1)
        best[part] = r[np.arange(len(part)), best_at[part]]
        highest = r.argmax(0)
        value = r[highest, np.arange(r.shape[1])]
        better = value > column
        column[better], column_at[better] = value[better], part[highest[better]]


def _part(a: ByFeature, features: Ints, rotate: int) -> Sparse:
    """The rows of ``features`` [row, token] with rotated tokens, in the order of the kernel, so that sums round alike."""
    begin = np.concatenate([[0], np.cumsum(a.begin[features + 1] - a.begin[features])])
    where = np.concatenate([np.arange(a.begin[i], a.begin[i + 1]) for i in features])
    token = (a.token[where].astype(np.int64) + rotate) % a.tokens
    return csr_array((a.value[where].astype(np.float64), token, begin), (len(features), a.tokens))
