"""Where single features fire: columns of activations, checked against the corpus that they are of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...errors import CircuitryError

if TYPE_CHECKING:
    from ..activations.corpus import Corpus
    from ..matching.sides import ActsLike

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fires:
    """The used tokens that a feature fires on: their ``rows``, ascending, and its activations there, ``values``."""

    rows: Ints
    values: Floats

    def inside(self, start: int, stop: int) -> Floats:
        """Its activation on each row from ``start`` to ``stop``; 0 where it does not fire.

        >>> Fires(np.array([2, 7]), np.array([0.5, 3.0])).inside(1, 4).tolist()
        [0.0, 0.5, 0.0]
        """
        found = slice(*np.searchsorted(self.rows, [start, stop]))
        shown = np.zeros(stop - start)
        shown[self.rows[found] - start] = self.values[found]
        return shown


def fires_of(acts: ActsLike, corpus: Corpus, features: Iterable[int]) -> dict[int, Fires]:
    """Where features fire, by feature, in ascending order.

    Raises CircuitryError if the activations are not of this corpus, or a feature does not exist.

    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.array([0, 5, 6], np.int32), np.array([0, 3]), np.array([True, False, False]), "three ids", "")
    >>> fires_of(csr_array([[0.0], [2.0]]), text, [0])[0].rows.tolist()
    [1]
    """
    wanted = sorted({int(feature) for feature in features})
    digest = getattr(acts, "corpus", "")
    if digest and digest != corpus.digest:
        raise CircuitryError(f"the activations are of the corpus {digest}, not of {corpus.digest}; the tokens must be the same")
    sparse = acts.csr() if hasattr(acts, "csr") else acts
    if sparse.shape[0] != corpus.tokens:
        raise CircuitryError(f"expected activations of the corpus's {corpus.tokens} used tokens, got {sparse.shape[0]}")
    if wanted and not 0 <= wanted[0] <= wanted[-1] < sparse.shape[1]:
        raise CircuitryError(f"expected features from 0 to {sparse.shape[1] - 1}, got {wanted[0]} to {wanted[-1]}")
    columns = sparse[:, wanted].tocsc()
    columns.eliminate_zeros()
    columns.sort_indices()
    by_feature = {}
    for number, feature in enumerate(wanted):
        column = slice(columns.indptr[number], columns.indptr[number + 1])
        by_feature[feature] = Fires(columns.indices[column].astype(np.int64), columns.data[column].astype(np.float64))
    return by_feature
