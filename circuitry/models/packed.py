"""Tokens of many runs side by side, [1, token, ...], in place of rows of equal length: what instruments need to know of them.

Every run has a row. The first rows are whole runs, of which the others keep what they do not compute themselves: at a token that a row
does not hold it is what its base row is there. Tokens are sorted by row, and in a row by position.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
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

    ``calls`` are the positions at which the taps of the state are called.
    """

    rows: Ints
    start: Ints
    stop: Ints
    calls: tuple[int, ...] = ()


@dataclass(frozen=True)
class Part:
    """Rows of a segment that are read by as many tokens each: ``tokens`` [row, pos] are their own, ``readers`` [row, pos, m] those that
    read their state there; of these, as they stand in that table, only numbers ``real`` (None: all) are tokens, which are ``to``."""

    rows: slice
    tokens: Ints
    readers: Ints
    real: Ints | None
    to: Ints

    @staticmethod
    def of(rows: slice, tokens: Ints, readers: Ints) -> Part:
        """From a table with -1 where there is no token.

        >>> Part.of(slice(0, 1), np.array([[4]]), np.array([[[4, 7, -1]]])).to.tolist()
        [4, 7]
        """
        real = np.flatnonzero(readers >= 0)
        return Part(rows, tokens, readers.clip(min=0), None if len(real) == readers.size else real, readers.ravel()[real])


@dataclass(frozen=True)
class Segment:
    """Tokens ``first`` to ``last`` (exclusive), in which the same rows go on: ``rows`` [n] are numbers in ``Scanned``.

    ``tokens`` [n, token] says where they stand, ``take`` [n] from which row of the segment before each goes on (None: as they are, or
    from nothing) and ``stays`` [n] which had one of its own there, ``whole`` how many of them are whole rows of which others read, ``readers`` [whole, token, m] where tokens stand
    that read the state of a whole row (the row's own first, -1 where there are fewer).
    """

    first: int
    last: int
    rows: Ints
    tokens: Ints
    take: Ints | None
    stays: NDArray[np.bool_]
    whole: int
    readers: Ints

    def parts(self) -> list[Part]:
        """Whole rows with all their readers, and the others, which are read by their own tokens alone."""
        parts = [(slice(0, self.whole), self.readers), (slice(self.whole, None), self.tokens[self.whole :, :, None])]
        return [Part.of(rows, self.tokens[rows], readers) for rows, readers in parts if len(readers)]


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

    def put(self, y: Tensor, part: Part, read: Tensor) -> None:
        """Put what was read [row, pos, m, ...] where the tokens stand that read it, in y [1, token, ...]."""
        flat = read.flatten(0, 2)
        y[0, self.tokens.index(part.to)] = (flat if part.real is None else flat[self.tokens.index(part.real)]).to(y.dtype)

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

    @functools.cached_property
    def segments(self) -> list[Segment]:
        """The stretches of text in which the same rows are scanned."""
        assert self.scanned is not None
        return segments(self.tokens, self.scanned)

    def steps(self) -> Sequence[tuple[Segment, int | None]]:
        """Every segment, and the position of the call of the state's taps at its end, if there is one."""
        calls = set(self.scanned.calls) if self.scanned is not None else set()
        return [(one, one.last - 1 if one.last - 1 in calls else None) for one in self.segments]


def segments(tokens: Tokens, scanned: Scanned) -> list[Segment]:
    """Cut the text where a row begins or ends to be scanned, and after every call of the state's taps.

    >>> two = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1]), np.array([0, 0]), whole=1, length=3)
    >>> made = segments(two, Scanned(np.array([0, 1]), np.array([0, 1]), np.array([3, 2])))
    >>> [(one.first, one.last, one.rows.tolist(), None if one.take is None else one.take.tolist()) for one in made]
    [(0, 1, [0], None), (1, 2, [0, 1], [0, 0]), (2, 3, [0], [0])]
    """
    cuts = np.unique(np.concatenate([scanned.start, scanned.stop, np.array(scanned.calls, np.int64) + 1, [0]]))
    first_token = tokens.own(scanned.rows, scanned.start)
    number = np.full(len(tokens.base), -1)
    number[scanned.rows] = np.arange(len(scanned.rows))
    reading = _readers(tokens, scanned, number)
    made, before = list[Segment](), np.zeros(0, np.int64)
    for first, last in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        rows = np.flatnonzero((scanned.start <= first) & (scanned.stop >= last))
        where = first_token[rows, None] + (first - scanned.start[rows, None]) + np.arange(last - first)
        take = None if not len(before) or np.array_equal(rows, before) else _taken(rows, before, number, scanned, tokens)
        whole = int((scanned.rows[rows] < tokens.whole).sum())
        table = _table(reading, rows[:whole], where, first, last)
        made.append(Segment(first, last, rows, where, take, np.isin(rows, before), whole, table))
        before = rows
    return made


def _taken(rows: Ints, before: Ints, number: Ints, scanned: Scanned, tokens: Tokens) -> Ints:
    """Where each row's state stands among those of the segment before: its own, or where it begins its base row's."""
    place = np.full(len(scanned.rows), -1)
    place[before] = np.arange(len(before))
    return np.where(place[rows] >= 0, place[rows], place[number[tokens.base[scanned.rows[rows]]]])


def _readers(tokens: Tokens, scanned: Scanned, number: Ints) -> tuple[Ints, Ints, Ints]:
    """Tokens that read the state of their base row: that row (by its number in ``scanned``), the position, and where they stand."""
    mine = number[tokens.row]
    known = mine >= 0
    inside = known & (scanned.start[mine] <= tokens.position) & (tokens.position < scanned.stop[mine])
    others = np.flatnonzero(~inside)
    return number[tokens.base[tokens.row[others]]], tokens.position[others], others


def _table(reading: tuple[Ints, Ints, Ints], rows: Ints, where: Ints, first: int, last: int) -> Ints:
    """[whole, token, m] of the tokens that read each whole row's state at each position; its own is the first."""
    row, position, token = reading
    here = (position >= first) & (position < last)
    place = np.full(int(rows.max(initial=-1)) + 1, -1)
    place[rows] = np.arange(len(rows))
    cell = place[row[here]] * (last - first) + position[here] - first
    order = np.argsort(cell, kind="stable")
    cell, token = cell[order], token[here][order]
    rank = np.arange(len(cell)) - np.searchsorted(cell, cell)
    table = np.full((len(rows) * (last - first), 2 + int(rank.max(initial=-1))), -1)
    table[:, 0] = where[: len(rows)].ravel()
    table[cell, 1 + rank] = token
    return table.reshape(len(rows), last - first, table.shape[1])
