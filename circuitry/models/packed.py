"""Tokens of many runs side by side, [1, token, ...], instead of rows of equal length, and what instrumentation must know about them.

Every run is a row. The first rows are complete runs. Each other row has only its live tokens and falls back on a complete one,
its base row: at any other position it has the base row's values. Tokens are sorted by row, and within a row by position.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Tokens:
    """``row`` [token] and ``position`` [token]; ``base`` [row] is each row's base row; the first ``whole`` rows are their own.

    ``length`` is the number of positions of a complete row.

    >>> tokens = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1]), np.array([0, 0]), whole=1, length=3)
    >>> tokens.of(np.array([1, 1]), np.array([1, 2])).tolist(), tokens.back(1).tolist()
    ([3, 2], [4, 0, 1, 0])
    """

    row: Ints
    position: Ints
    base: Ints
    whole: int
    length: int
    device: Any = "cpu"

    @functools.cached_property
    def _keys(self) -> Ints:
        # Ascending, since tokens are sorted by row and position; so they can be searched.
        return self.row * self.length + self.position

    def __len__(self) -> int:
        return len(self.row)

    def own(self, rows: Ints, positions: Ints) -> Ints:
        """The index of each row's own token at a position; -1 if it has none."""
        if not len(self):
            return np.full(len(rows), -1)
        keys = rows * self.length + positions
        index = np.searchsorted(self._keys, keys).clip(max=len(self) - 1)
        # A position outside the text would give the key of a token in another row.
        return np.where((self._keys[index] == keys) & (positions >= 0) & (positions < self.length), index, -1)

    def of(self, rows: Ints, positions: Ints) -> Ints:
        """The index of the token that has a row's value at a position: its own, or else its base row's; -1 if there is neither."""
        own = self.own(rows, positions)
        return np.where(own >= 0, own, self.own(self.base[rows], positions))

    def back(self, lag: int) -> Tensor:
        """For each token, the index of the one ``lag`` positions before it; the number of tokens if that is before the text."""
        earlier = self.of(self.row, self.position - lag)
        return self.index(np.where(earlier >= 0, earlier, len(self)))

    def index(self, numbers: Any) -> Tensor:
        """Numbers as an index on the device."""
        return torch.from_numpy(np.ascontiguousarray(numbers, np.int64)).to(self.device)

    @functools.cached_property
    def ends(self) -> Ints:
        """[row + 1]: the index of the first token of each row, and at last the number of tokens."""
        return np.searchsorted(self.row, np.arange(len(self.base) + 1))

    def by_length(self) -> list[Ints]:
        """The indices of tokens [row, number] of all rows with the same number of tokens, for each such number."""
        counts = np.diff(self.ends)
        return [self.ends[np.flatnonzero(counts == n)][:, None] + np.arange(n) for n in np.unique(counts[counts > 0])]


@dataclass(frozen=True)
class Scanned:
    """The rows whose state a block computes, from ``start`` to ``stop`` [row]: complete ones, then those that can differ.

    ``calls`` are the positions at which the hook points of the state are called.
    """

    rows: Ints
    start: Ints
    stop: Ints
    calls: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inside:
    """The tokens inside a block, and the way in and out. ``live`` are those of the layer's tokens that the block computes (None: all).
    ``out`` is, for each token of the layer, the index of the block's output for it or for its base row's token (None: the same
    order).

    ``batch`` [token] is the row of the model's own batch from which a token comes.
    """

    tokens: Tokens
    live: Tensor | None
    out: Tensor | None
    batch: Tensor
    scanned: Scanned | None = None
    cache: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def scanning(self) -> Tensor:
        """The indices of the tokens that write to a state; the others only read one."""
        assert self.scanned is not None
        start, stop = np.zeros((2, len(self.tokens.base)), np.int64)
        start[self.scanned.rows], stop[self.scanned.rows] = self.scanned.start, self.scanned.stop
        row, position = self.tokens.row, self.tokens.position
        return self.tokens.index(np.flatnonzero((start[row] <= position) & (position < stop[row])))

    @functools.cached_property
    def position(self) -> Tensor:
        """The position [token] of each token."""
        return self.tokens.index(self.tokens.position)

    def lagged(self, x: Tensor, lag: int) -> Tensor:
        """The value [1, token, ...] that each token sees ``lag`` positions back; zero before the text."""
        if lag == 0:
            return x
        if f"back {lag}" not in self.cache:
            earlier = self.tokens.back(lag)
            self.cache[f"back {lag}"] = earlier.clamp(max=len(self.tokens) - 1), (earlier == len(self.tokens)).nonzero()[:, 0]
        # Tokens whose source is before the text have a valid index as well, and are set to zero afterwards.
        earlier, before = self.cache[f"back {lag}"]
        shifted = x[:, earlier]
        shifted[:, before] = 0
        return shifted
