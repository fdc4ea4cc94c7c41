"""Where a feature is active: windows of text around its highest activations and around lower ones, and how often and how much it fires.

Rows of activations are the used tokens of a corpus in order; windows are cut from these rows, so they have no special tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .fires import Fires, Floats, Ints, fires_of
from .tokens import readable

if TYPE_CHECKING:
    from ..activations.corpus import Corpus
    from ..matching.sides import ActsLike

CONTEXTS, WINDOW = 10, 17
"""As in the paper: ten contexts of 17 tokens each (appendix E)."""
LEVELS, LOWER = (0.9, 0.5, 0.1), 3
"""Quantiles of a feature's activations where it fires, and how many contexts are drawn around each."""
_AROUND = 0.05  # the share of a feature's activations, on each side of a quantile, from which contexts are drawn
BINS = 20
_MOST_PEAKS = 2000  # tried in search of windows with new text; a feature that fires everywhere has one for every token


@dataclass(frozen=True)
class Context:
    """A window of text around a token on which a feature fires, the peak.

    ``tokens`` are texts, ``values`` the feature's activation on each token, ``peak`` the index of the peak among them, ``document``
    the number of the document in the corpus. ``elsewhere``: the share of the other occurrences of the peak's token in the corpus
    on which the feature fires; NaN if there are none. ``start``: the number of the window's first token among the used tokens. In a
    window around a low activation, other tokens may have higher ones than the peak.
    """

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    peak: int
    document: int
    elsewhere: float = float("nan")
    start: int = 0

    @property
    def top(self) -> float:
        """The activation at the peak."""
        return self.values[self.peak]


@dataclass(frozen=True)
class Profile:
    """A feature on a corpus: its top contexts, the number ``fires`` of the ``tokens`` it fires on, and its activations there.

    ``histogram`` counts activations in equal bins from 0 to the highest, ``most``. ``lower`` has contexts by quantile: those at
    .5 are around activations close to the median of the activations that are not 0.
    """

    contexts: tuple[Context, ...]
    fires: int
    tokens: int
    most: float
    histogram: tuple[int, ...]
    lower: Mapping[float, tuple[Context, ...]] = field(default_factory=dict)

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
    acts: ActsLike,
    corpus: Corpus,
    tokenizer: Any,
    features: Iterable[int],
    *,
    contexts: int = CONTEXTS,
    window: int = WINDOW,
    lower: int = 0,
    seed: int = 0,
) -> dict[int, Profile]:
    """Top contexts and statistics of features. Arguments and errors as for ``top_contexts``.

    ``lower`` contexts are drawn by ``seed`` around each of the quantiles ``LEVELS`` of the activations that are not 0.

    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.array([0, 5, 6, 7], np.int32), np.array([0, 4]), np.array([True, False, False, False]), "four ids", "")
    >>> profile = profiles(csr_array([[0.0], [2.0], [0.5]]), text, None, [0])[0]
    >>> profile.fires, profile.tokens, profile.most, sum(profile.histogram)
    (2, 3, 2.0, 2)
    """
    fires = fires_of(acts, corpus, features)
    return profiles_of(fires, corpus, tokenizer, contexts=contexts, window=window, lower=lower, seed=seed)


def profiles_of(
    fires: Mapping[int, Fires],
    corpus: Corpus,
    tokenizer: Any,
    *,
    contexts: int = CONTEXTS,
    window: int = WINDOW,
    lower: int = 0,
    seed: int = 0,
) -> dict[int, Profile]:
    """As ``profiles``, from where features fire.

    >>> from circuitry.features.activations.corpus import Corpus
    >>> text = Corpus(np.arange(60, dtype=np.int32), np.array([0, 60]), np.zeros(60, bool), "sixty ids", "")
    >>> profile = profiles_of({7: Fires(np.arange(60), np.arange(60.0) + 1)}, text, None, contexts=1, window=5, lower=1)[7]
    >>> {level: [context.tokens[context.peak] for context in found] for level, found in profile.lower.items()}
    {0.9: ['51'], 0.5: ['30'], 0.1: ['3']}
    """
    text = _Text.of(corpus, readable(tokenizer))
    by_feature = {}
    for feature, column in fires.items():
        chosen = text.top(column, contexts, window)
        rng = np.random.default_rng([seed, feature])
        below = text.lower(column, chosen, lower, window, rng) if lower else {}
        most = float(column.values.max(initial=0.0))
        counts, _ = np.histogram(column.values, BINS, (0.0, most or 1.0))
        by_feature[feature] = Profile(
            text.contexts(chosen, column),
            len(column.rows),
            len(text.ids),
            most,
            tuple(counts.tolist()),
            {level: text.contexts(windows, column) for level, windows in below.items()},
        )
    return by_feature


_Windows = list[tuple[int, slice]]
"""Windows as slices of rows, each with the number of its peak among the rows on which the feature fires."""


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

    def top(self, fires: Fires, count: int, window: int) -> _Windows:
        """Windows around the highest activations of a feature, the highest first."""
        chosen = self._apart(self._candidates(fires), fires, [], count, window)
        return sorted(chosen, key=lambda pair: (-fires.values[pair[0]], pair[0]))

    def lower(self, fires: Fires, top: _Windows, count: int, window: int, rng: np.random.Generator) -> dict[float, _Windows]:
        """Windows around activations close to each quantile of ``LEVELS``, in random order, apart from the top ones."""
        shown, by_level, order = list(top), {}, np.argsort(fires.values, kind="stable")
        for level in LEVELS:
            low, high = (len(order) * max(0.0, level + end) for end in (-_AROUND, _AROUND))
            near = rng.permutation(order[int(low) : int(np.ceil(high))])[:_MOST_PEAKS]
            by_level[level] = self._apart(near.tolist(), fires, shown, count, window)
            shown += by_level[level]
        return by_level

    def contexts(self, windows: _Windows, fires: Fires) -> tuple[Context, ...]:
        """What is shown of windows."""
        fired = np.bincount(self.ids[fires.rows], minlength=len(self.counts))
        return tuple(self._context(int(fires.rows[number]), around, fires, fired) for number, around in windows)

    def _apart(self, candidates: Iterable[int], fires: Fires, shown: _Windows, count: int, window: int) -> _Windows:
        """The first ``count`` windows around candidates that overlap none before and whose text occurs in none before."""
        chosen: _Windows = []
        seen = {self.ids[around].tobytes() for _, around in shown}
        for number in candidates:
            around = self._window(int(fires.rows[number]), window)
            tokens = self.ids[around].tobytes()
            if tokens in seen or any(around.start < taken.stop and taken.start < around.stop for _, taken in shown + chosen):
                continue
            seen.add(tokens)
            chosen.append((number, around))
            if len(chosen) == count:
                break
        return chosen

    def _candidates(self, fires: Fires) -> list[int]:
        """Indices into the rows: first the highest of every document, then all remaining ones, both by falling activation."""
        order = np.argsort(-fires.values, kind="stable")
        documents = np.searchsorted(self.edges, fires.rows[order], "right")
        first = np.zeros(len(order), bool)
        first[np.unique(documents, return_index=True)[1]] = True
        return [int(number) for number in np.concatenate([order[first], order[~first]])[:_MOST_PEAKS]]

    def _window(self, row: int, window: int) -> slice:
        """The window of rows around ``row``, moved so that as many as possible lie in its document."""
        document = int(np.searchsorted(self.edges, row, "right")) - 1
        start, end = int(self.edges[document]), int(self.edges[document + 1])
        low = max(start, min(row - window // 2, end - window))
        return slice(low, min(end, low + window))

    def _context(self, peak: int, around: slice, fires: Fires, fired: Ints) -> Context:
        values: Floats = fires.inside(around.start, around.stop)
        token = self.ids[peak]
        repeats = int(self.counts[token]) - 1
        return Context(
            tuple(self.read(int(index)) for index in self.ids[around]),
            tuple(values.tolist()),
            peak - around.start,
            int(np.searchsorted(self.edges, peak, "right")) - 1,
            (int(fired[token]) - 1) / repeats if repeats else float("nan"),
            around.start,
        )
