"""Where a feature is most active: windows of text around its highest activations, and how often and how much it fires.

Rows of activations are the used tokens of a corpus in order; windows are cut from these rows, so they have no special tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CircuitryError
from .tokens import readable

if TYPE_CHECKING:
    from ..activations.corpus import Corpus
    from ..matching.sides import ActsLike

CONTEXTS, WINDOW = 10, 17
"""As in the paper: ten contexts of 17 tokens each (appendix E)."""
BINS = 20
_MOST_PEAKS = 2000  # tried in search of windows with new text; a feature that fires everywhere has one for every token
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Context:
    """A window of text around a peak of a feature.

    ``tokens`` are texts, ``values`` the feature's activation on each token, ``peak`` the index of the peak among them, ``document``
    the number of the document in the corpus. ``elsewhere``: the share of the other occurrences of the peak's token in the corpus
    on which the feature fires; NaN if there are none.
    """

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    peak: int
    document: int
    elsewhere: float = float("nan")

    @property
    def top(self) -> float:
        """The activation at the peak."""
        return self.values[self.peak]


@dataclass(frozen=True)
class Profile:
    """A feature on a corpus: its top contexts, the number ``fires`` of the ``tokens`` it fires on, and its activations there.

    ``histogram`` counts activations in equal bins from 0 to the highest, ``most``.
    """

    contexts: tuple[Context, ...]
    fires: int
    tokens: int
    most: float
    histogram: tuple[int, ...]

    @property
    def rate(self) -> float:
        """The share of tokens on which it fires."""
        return self.fires / self.tokens if self.tokens else 0.0


def top_contexts(
    acts: ActsLike, corpus: Corpus, tokenizer: Any, features: Iterable[int], *, contexts: int = CONTEXTS, window: int = WINDOW
) -> dict[int, list[Context]]:
    """The windows around the highest activations of features, highest first.

    Each window is from another document if there are enough; then windows of the same document that do not overlap. Repeated text
    is left out. ``acts`` are a FeatureActs or a sparse array [used token, feature]; a feature that never fires has no contexts.
    Raises CircuitryError if the activations are not from this corpus.

    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.array([0, 5, 6, 7], np.int32), np.array([0, 4]), np.array([True, False, False, False]), "four ids", "")
    >>> [context] = top_contexts(csr_array([[0.0], [2.0], [0.5]]), text, None, [0])[0]
    >>> context.tokens, context.values, context.peak
    (('5', '6', '7'), (0.0, 2.0, 0.5), 1)
    """
    by_feature = profiles(acts, corpus, tokenizer, features, contexts=contexts, window=window)
    return {feature: list(profile.contexts) for feature, profile in by_feature.items()}


def profiles(
    acts: ActsLike, corpus: Corpus, tokenizer: Any, features: Iterable[int], *, contexts: int = CONTEXTS, window: int = WINDOW
) -> dict[int, Profile]:
    """Top contexts and statistics of features. Arguments and errors as for ``top_contexts``.

    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.array([0, 5, 6, 7], np.int32), np.array([0, 4]), np.array([True, False, False, False]), "four ids", "")
    >>> profile = profiles(csr_array([[0.0], [2.0], [0.5]]), text, None, [0])[0]
    >>> profile.fires, profile.tokens, profile.most, sum(profile.histogram)
    (2, 3, 2.0, 2)
    """
    wanted = sorted({int(feature) for feature in features})
    sparse = acts.csr() if hasattr(acts, "csr") else acts
    text = _Text.of(corpus, readable(tokenizer))
    digest = getattr(acts, "corpus", "")
    if digest and digest != corpus.digest:
        raise CircuitryError(f"the activations are of the corpus {digest}, not of {corpus.digest}; the tokens must be the same")
    if sparse.shape[0] != len(text.ids):
        raise CircuitryError(f"expected activations of the corpus's {len(text.ids)} used tokens, got {sparse.shape[0]}")
    if wanted and not 0 <= wanted[0] <= wanted[-1] < sparse.shape[1]:
        raise CircuitryError(f"expected features from 0 to {sparse.shape[1] - 1}, got {wanted[0]} to {wanted[-1]}")
    columns = sparse[:, wanted].tocsc()
    columns.eliminate_zeros()
    columns.sort_indices()
    by_feature = {}
    for number, feature in enumerate(wanted):
        column = slice(columns.indptr[number], columns.indptr[number + 1])
        rows, values = columns.indices[column].astype(np.int64), columns.data[column].astype(np.float64)
        shown = text.contexts(rows, values, contexts, window)
        counts, _ = np.histogram(values, BINS, (0.0, float(values.max(initial=0.0)) or 1.0))
        most = float(values.max(initial=0.0))
        by_feature[feature] = Profile(tuple(shown), len(rows), len(text.ids), most, tuple(counts.tolist()))
    return by_feature


@dataclass(frozen=True)
class _Text:
    """The used tokens of a corpus: ``ids`` [row]; document k is rows ``edges[k]`` to ``edges[k + 1]``; ``counts`` by id."""

    ids: Ints
    edges: Ints
    counts: Ints
    read: Callable[[int], str]

    @classmethod
    def of(cls, corpus: Corpus, read: Callable[[int], str]) -> _Text:
        ids = corpus.ids[corpus.used].astype(np.int64)
        return cls(ids, corpus.edges, np.bincount(ids), read)

    def contexts(self, rows: Ints, values: NDArray[np.float64], count: int, window: int) -> list[Context]:
        """The top contexts of a feature that fires at ``rows`` (ascending) with ``values``."""
        chosen: list[tuple[int, slice]] = []
        seen: set[bytes] = set()
        for number in self._candidates(rows, values):
            around = self._window(int(rows[number]), window)
            tokens = self.ids[around].tobytes()
            if tokens in seen or any(around.start < shown.stop and shown.start < around.stop for _, shown in chosen):
                continue
            seen.add(tokens)
            chosen.append((number, around))
            if len(chosen) == count:
                break
        fired = np.bincount(self.ids[rows], minlength=len(self.counts))
        chosen.sort(key=lambda pair: (-values[pair[0]], pair[0]))
        return [self._context(number, around, rows, values, fired) for number, around in chosen]

    def _candidates(self, rows: Ints, values: NDArray[np.float64]) -> list[int]:
        """Indices into ``rows``: first the highest of every document, then all remaining ones, both by falling activation."""
        order = np.argsort(-values, kind="stable")
        documents = np.searchsorted(self.edges, rows[order], "right")
        first = np.zeros(len(order), bool)
        first[np.unique(documents, return_index=True)[1]] = True
        return [int(number) for number in np.concatenate([order[first], order[~first]])[:_MOST_PEAKS]]

    def _window(self, row: int, window: int) -> slice:
        """The window of rows around ``row``, moved so that as many as possible lie in its document."""
        document = int(np.searchsorted(self.edges, row, "right")) - 1
        start, end = int(self.edges[document]), int(self.edges[document + 1])
        low = max(start, min(row - window // 2, end - window))
        return slice(low, min(end, low + window))

    def _context(self, number: int, around: slice, rows: Ints, values: NDArray[np.float64], fired: Ints) -> Context:
        peak, inside = int(rows[number]), slice(*np.searchsorted(rows, [around.start, around.stop]))
        shown = np.zeros(around.stop - around.start)
        shown[rows[inside] - around.start] = values[inside]
        token = self.ids[peak]
        repeats = int(self.counts[token]) - 1
        return Context(
            tuple(self.read(int(index)) for index in self.ids[around]),
            tuple(shown.tolist()),
            peak - around.start,
            int(np.searchsorted(self.edges, peak, "right")) - 1,
            (int(fired[token]) - 1) / repeats if repeats else float("nan"),
        )
