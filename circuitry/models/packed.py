"""Tokens of many runs side by side, [1, token, ...], in place of rows of equal length: what instrumentation needs to know of them.

Every run has a row. The first rows are whole runs, of which the others keep what they do not compute themselves: at a token that a row
does not hold it is what its base row is there. Tokens are sorted by row, and in a row by position.
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
    """``row`` [token] and ``position`` [token]; ``base`` [row] is each row's base row, itself for the ``whole`` first ones.

    >>> two = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1]), np.array([0, 0]), whole=1, length=3)
    >>> two.of(np.array([1, 1]), np.array([1, 2])).tolist(), two.back(1).tolist()
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
        return self.row * self.length + self.position

    def __len__(self) -> int:
        return len(self.row)

    def own(self, rows: Ints, positions: Ints) -> Ints:
        """Where each row's own token at a position stands, -1 where it has none."""
        if not len(self):
            return np.full(len(rows), -1)
        wanted = rows * self.length + positions
        found = np.searchsorted(self._keys, wanted).clip(max=len(self) - 1)
        return np.where((self._keys[found] == wanted) & (positions >= 0) & (positions < self.length), found, -1)

    def of(self, rows: Ints, positions: Ints) -> Ints:
        """Where what a row is at a position stands: its own token, or its base row's; -1 where neither is there."""
        own = self.own(rows, positions)
        return np.where(own >= 0, own, self.own(self.base[rows], positions))

    def back(self, lag: int) -> Tensor:
        """For each token, where the one ``lag`` positions before it stands; one past the last where the text begins after that."""
        found = self.of(self.row, self.position - lag)
        return self.index(np.where(found >= 0, found, len(self)))

    def index(self, numbers: Any) -> Tensor:
        """Numbers as an index on the device."""
        return torch.from_numpy(np.ascontiguousarray(numbers, np.int64)).to(self.device)

    @functools.cached_property
    def ends(self) -> Ints:
        """[row + 1]: where the tokens of each row begin, and the last one's end."""
        return np.searchsorted(self.row, np.arange(len(self.base) + 1))

    def by_length(self) -> list[Ints]:
        """The tokens [row, number] of all rows that have as many, in groups."""
        counts = np.diff(self.ends)
        return [self.ends[np.flatnonzero(counts == n)][:, None] + np.arange(n) for n in np.unique(counts[counts > 0])]


@dataclass(frozen=True)
class Scanned:
    """The rows whose recurrent state a block computes: whole rows, then those of which it can differ, from ``start`` to ``stop`` [row].

    ``calls`` are the positions at which the hook points of the state are called.
    """

    rows: Ints
    start: Ints
    stop: Ints
    calls: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inside:
    """Tokens inside a block, and the way in and out: ``live`` are those of the layer's tokens that the block computes (None: all),
    ``out`` says for each of the layer's tokens which of the block's outputs is its own or its base row's (None: they are the same).

    ``batch`` [token] is the row of the model's own batch that a token comes from.
    """

    tokens: Tokens
    live: Tensor | None
    out: Tensor | None
    batch: Tensor
    scanned: Scanned | None = None
    cache: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def scanning(self) -> Tensor:
        """Where the tokens stand that go into a state at all; the others only read one."""
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
        """A value [1, token, ...] as it is ``lag`` tokens back, zero before the text."""
        if lag == 0:
            return x
        if f"back {lag}" not in self.cache:
            found = self.tokens.back(lag)
            self.cache[f"back {lag}"] = found.clamp(max=len(self.tokens) - 1), (found == len(self.tokens)).nonzero()[:, 0]
        where, before = self.cache[f"back {lag}"]
        shifted = x[:, where]
        shifted[:, before] = 0
        return shifted
