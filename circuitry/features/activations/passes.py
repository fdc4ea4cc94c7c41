"""Which documents of a corpus run together: forward passes of documents of similar length, planned once for the whole corpus."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .corpus import Corpus

Ints = NDArray[np.int64]
PADDING = 1 / 16
"""Most positions of padding, as a fraction of the positions that are needed."""
PASSES = 16
"""A pass has at most this fraction of a buffer, or one document, so that a shuffled buffer mixes at least so many passes."""


@dataclass(frozen=True, eq=False)
class Passes:
    """Every document with a used token is in one pass: those of pass p are ``documents[edges[p]:edges[p + 1]]``.

    Passes ``stretches[s]`` to ``stretches[s + 1]`` have the documents of stretch s, a run of consecutive documents. ``tokens``
    [pass + 1] is the number of used tokens before each pass, counted from pass 0 on. Neither a seed nor the number of
    processes matters here, so a token has the same value, to the bit, wherever and in whatever order passes run.
    """

    documents: Ints
    edges: Ints
    stretches: Ints
    tokens: Ints

    def __len__(self) -> int:
        return len(self.edges) - 1

    @functools.cached_property
    def digest(self) -> str:
        """A digest: equal for equal passes."""
        digest = hashlib.blake2b(digest_size=8)
        for values in (self.documents, self.edges, self.stretches):
            digest.update(f"{len(values)}".encode())
            digest.update(np.ascontiguousarray(values, "<i8").data)
        return digest.hexdigest()

    def of(self, number: int) -> Ints:
        """The documents of a pass.

        >>> plan(Corpus(np.arange(5, dtype=np.int32), np.array([0, 2, 5]), np.zeros(5, bool), "", ""), 64, lambda _: 9).of(0)
        array([1])
        """
        return self.documents[self.edges[number] : self.edges[number + 1]]


def runs(edges: Ints, size: int) -> list[range]:
    """Neighbours that are stored together: ``edges`` [item + 1] are numbers of tokens before each, and a run has about ``size`` tokens.

    >>> runs(np.array([0, 3, 6, 9, 12]), 6)
    [range(0, 2), range(2, 4)]
    """
    bounds = [0, *(1 + np.flatnonzero(np.diff(edges[:-1] // size))).tolist(), len(edges) - 1]
    return [range(first, stop) for first, stop in itertools.pairwise(bounds)]


def plan(corpus: Corpus, buffer: int, fit: Callable[[int], int]) -> Passes:
    """Divide a corpus into stretches of about ``buffer`` used tokens, and the documents of each stretch into passes by length.

    ``fit``: how many rows of a given length fit into memory. A stretch ends with a document.

    >>> text = Corpus(np.arange(8, dtype=np.int32), np.array([0, 3, 5, 8]), np.zeros(8, bool), "three documents", "")
    >>> plan(text, buffer=64, fit=lambda length: 2).documents.tolist()
    [0, 2, 1]
    """
    used = np.diff(corpus.edges)
    kept = np.flatnonzero(used)
    stretch_of = corpus.edges[kept] // buffer
    bounds = [0, *(1 + np.flatnonzero(np.diff(stretch_of))), len(kept)]
    rows: list[Ints] = []
    stretches = [0]
    for first, stop in itertools.pairwise(bounds):
        members = kept[first:stop]
        lengths = needed(corpus, members)
        order = np.argsort(-lengths, kind="stable")
        rows += [members[group] for group in groups(lengths[order], order, fit, buffer // PASSES)]
        stretches.append(len(rows))
    documents = np.concatenate(rows)
    edges = np.cumsum([0, *map(len, rows)])
    return Passes(documents, edges, np.array(stretches), np.concatenate([[0], np.cumsum(used[documents])])[edges])


def needed(corpus: Corpus, documents: Ints) -> Ints:
    """Positions of each document up to its last used token: what comes after it need not run.

    >>> text = Corpus(np.arange(5, dtype=np.int32), np.array([0, 3, 5]), np.array([1, 0, 1, 0, 0]) > 0, "two documents", "")
    >>> needed(text, np.array([0, 1])).tolist()
    [2, 2]
    """
    lengths: Ints = corpus.used[corpus.edges[documents + 1] - 1] + 1 - corpus.starts[documents]
    return lengths


def groups(lengths: Ints, items: Ints, fit: Callable[[int], int], most: int | None = None) -> Iterator[Ints]:
    """Items that run together: rows of falling ``lengths``, as many as ``fit`` and as stay within ``most`` positions, but at least one.

    All groups so far never have more than ``PADDING`` of padding, so rows of equal length make room for others.

    >>> [group.tolist() for group in groups(np.array([9, 9, 8, 2]), np.arange(4), lambda length: 8)]
    [[0, 1, 2], [3]]
    """
    begin, sums = 0, np.concatenate([[0], np.cumsum(lengths)])
    positions = 0
    while begin < len(lengths):
        longest = int(lengths[begin])
        limit = min(max(1, fit(longest)), len(lengths) - begin)
        if most is not None:
            limit = min(limit, max(1, most // longest))
        counts = np.arange(1, limit + 1)
        within = positions + longest * counts <= (1 + PADDING) * sums[begin + counts]
        count = max(1, int(np.count_nonzero(within)))
        yield items[begin : begin + count]
        positions, begin = positions + longest * count, begin + count


def tokens_of(corpus: Corpus, documents: Ints) -> Ints:
    """The numbers of the used tokens of documents, one document after another.

    >>> text = Corpus(np.arange(5, dtype=np.int32), np.array([0, 3, 5]), np.zeros(5, bool), "two documents", "")
    >>> tokens_of(text, np.array([1, 0])).tolist()
    [3, 4, 0, 1, 2]
    """
    counts = (corpus.edges[documents + 1] - corpus.edges[documents]).astype(np.int64)
    before = np.cumsum(counts) - counts
    numbers: Ints = np.repeat(corpus.edges[documents] - before, counts) + np.arange(counts.sum())
    return numbers
