"""The recurrent states of packed tokens. Rows are scanned in stretches of text; each row starts from its base row's state."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor

from .packed import Inside, Ints, Scanned, Tokens
from .threads import on_threads

Kernel: TypeAlias = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From ``tokens`` and ``readers`` of rows (``Stretch``) and their states to values read [row, pos, m, ...] and states after."""
Stopping: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor | None, Tensor]]
"""From the states of rows and their ``tokens`` (``Stop``) to the values these read (None: unchanged) and the new states."""
AtStop: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Called at a stop with the state [batch, d_inner, d_state]; returns the state that is read out and the one that is carried on."""


@dataclass(frozen=True)
class Stretch:
    """Rows that are scanned from one position to another in one call of the kernel; ``rows`` [n] are numbers in ``Scanned``.

    ``tokens`` [n, pos] are their tokens, ``take`` [n] the rows whose state each begins with (-1 before the text), and ``keep``
    says whether the last state is needed later. ``readers`` [n, pos, m] are the tokens that read the state at a position: the
    row's own first, -1 where there are fewer.
    """

    rows: Ints
    tokens: Ints
    readers: Ints
    take: Ints
    keep: bool


@dataclass(frozen=True)
class Stop:
    """A call of the state's hook points for ``rows`` [n], numbers in ``Scanned``; ``tokens`` [n] is -1 for complete rows."""

    rows: Ints
    tokens: Ints


def scan_rows(
    inside: Inside, empty: Tensor, like: Tensor, group: Callable[[int], int], kernel: Kernel, at_stop: Stopping
) -> Tensor:
    """The value that every token reads, [1, token, ...] as in ``like``; ``empty`` is the state before the text.

    ``group``: from the number of tokens in a row to the number of rows in one call of the kernel.

    >>> import torch
    >>> tokens = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([0, 0]), whole=1, length=3)
    >>> inside = Inside(tokens, None, None, torch.zeros(4), Scanned(np.array([0, 1]), np.array([0, 2]), np.array([3, 3])))
    >>> x = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    >>> def summed(tokens, readers, h):
    ...     sums = h[:, None] + x[0, tokens].cumsum(1)
    ...     return sums[:, :, None].expand(readers.shape), sums[:, -1]
    >>> scan_rows(inside, x.new_zeros(()), x, lambda n: 1, summed, None)
    tensor([[ 1.,  3.,  7., 11.]])
    """
    assert inside.scanned is not None
    scanned, index = inside.scanned, inside.tokens.index
    # Without calls, only complete rows pass their states on to other rows.
    count = len(scanned.rows) if scanned.calls else _whole(inside.tokens, scanned)
    states = empty.expand(count + 1, *empty.shape).clone()  # the last one, number -1, stays empty: the state before the text
    y = like.new_empty(len(inside.tokens) + 1, *like.shape[2:])  # the last one, number -1, takes what no token reads
    for step in steps(inside.tokens, scanned):
        rows, tokens = index(step.rows), index(step.tokens)
        if isinstance(step, Stop):
            seen, states[rows] = at_stop(states[rows], tokens)
            if seen is not None:
                y[tokens] = seen.to(y.dtype)
            continue
        _stretch(y, states, (rows if step.keep else None, tokens, index(step.readers), index(step.take)), group, kernel)
    return y[None, :-1]


def _stretch(
    y: Tensor, states: Tensor, step: tuple[Tensor | None, Tensor, Tensor, Tensor], group: Callable[[int], int], kernel: Kernel
) -> None:
    rows, tokens, readers, take = step
    size = group(tokens.shape[1])

    def run(start: int) -> None:
        batch = slice(start, start + size)
        read, end = kernel(tokens[batch], readers[batch], states[take[batch]])
        y[readers[batch]] = read.to(y.dtype)
        if rows is not None:
            states[rows[batch]] = end

    on_threads(run, range(0, len(tokens), size), y.device)


def steps(tokens: Tokens, scanned: Scanned) -> Iterator[Stretch | Stop]:
    """Every stretch and every stop, in order: a stop follows the stretches that end there and precedes those that begin there.

    Complete rows pause wherever another row begins. Of stretches that begin at one position, those of other rows come first: the
    next stretch of a complete row overwrites the state from which they start.

    >>> tokens = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1]), np.array([0, 0]), whole=1, length=3)
    >>> stretches = steps(tokens, Scanned(np.array([0, 1]), np.array([0, 1]), np.array([3, 2])))
    >>> [(stretch.rows.tolist(), stretch.tokens.tolist(), stretch.take.tolist()) for stretch in stretches]
    [([0], [[0]], [-1]), ([1], [[3]], [0]), ([0], [[1, 2]], [0])]
    """
    stops = np.array(scanned.calls, np.int64) + 1
    whole = _whole(tokens, scanned)
    pauses = np.unique(np.concatenate([scanned.start, scanned.stop[:whole], stops]))
    pieces = [(first, True, last, rows) for first, last, rows in _pieces(scanned, np.arange(whole), pauses)]
    pieces += [(first, False, last, rows) for first, last, rows in _pieces(scanned, np.arange(whole, len(scanned.rows)), stops)]
    pieces.sort(key=lambda piece: piece[:3])
    number, done = np.full(len(tokens.base), -1), 0
    number[scanned.rows] = np.arange(len(scanned.rows))
    reading = _readers(tokens, scanned, number)
    for stop in [*stops.tolist(), tokens.length + 1]:
        while done < len(pieces) and pieces[done][0] < stop:
            first, is_whole, last, rows = pieces[done]
            indices = tokens.own(scanned.rows[rows], np.full(len(rows), first))[:, None] + np.arange(last - first)
            keep = is_whole or bool((stops == last).any())
            readers = _table(reading, rows, indices, first, last) if is_whole else indices[:, :, None]
            yield Stretch(rows, indices, readers, _taken(rows, first, number, scanned, tokens), keep)
            done += 1
        if stop <= tokens.length:
            rows = np.flatnonzero((scanned.start < stop) & (scanned.stop >= stop))
            own = tokens.own(scanned.rows[rows], np.full(len(rows), stop - 1))
            yield Stop(rows, np.where(rows < whole, -1, own))


def _whole(tokens: Tokens, scanned: Scanned) -> int:
    """The number of complete rows, from which others begin; they come first."""
    return int((scanned.rows < tokens.whole).sum())


def _pieces(scanned: Scanned, rows: Ints, pauses: Ints) -> list[tuple[int, int, Ints]]:
    """Cut rows at the pauses: for each piece, its first position, its end, and the rows that have it."""
    pieces: dict[tuple[int, int], list[Ints]] = {}
    ranges, which = np.unique(np.stack([scanned.start[rows], scanned.stop[rows]], 1), axis=0, return_inverse=True)
    for number, (start, stop) in enumerate(ranges.tolist()):
        cuts = [start, *pauses[(pauses > start) & (pauses < stop)].tolist(), stop]
        for piece in itertools.pairwise(cuts):
            pieces.setdefault(piece, []).append(rows[which.ravel() == number])
    return [(*piece, np.sort(np.concatenate(groups))) for piece, groups in pieces.items()]


def _taken(rows: Ints, first: int, number: Ints, scanned: Scanned, tokens: Tokens) -> Ints:
    """The row whose state each row continues: itself, or its base row if it begins here; -1 at the first token."""
    if first == 0:
        return np.full(len(rows), -1)
    return np.where(scanned.start[rows] < first, rows, number[tokens.base[scanned.rows[rows]]])


def _readers(tokens: Tokens, scanned: Scanned, number: Ints) -> tuple[Ints, Ints, Ints]:
    """Tokens that read the state of their base row: that row (by its number in ``scanned``), the position, and the token's index."""
    own = number[tokens.row]
    inside = (own >= 0) & (scanned.start[own] <= tokens.position) & (tokens.position < scanned.stop[own])
    others = np.flatnonzero(~inside)
    return number[tokens.base[tokens.row[others]]], tokens.position[others], others


def _table(reading: tuple[Ints, Ints, Ints], rows: Ints, indices: Ints, first: int, last: int) -> Ints:
    """[row, pos, m]: the tokens that read each complete row's state at each position; its own token comes first."""
    row, position, token = reading
    rank_of = np.full(int(rows.max(initial=-1)) + 1, -1)
    rank_of[rows] = np.arange(len(rows))
    chosen = (position >= first) & (position < last) & np.isin(row, rows)
    cell = rank_of[row[chosen]] * (last - first) + position[chosen] - first
    order = np.argsort(cell, kind="stable")
    cell, token = cell[order], token[chosen][order]
    # Cells are sorted, so this is how many tokens before each one read the same cell.
    rank = np.arange(len(cell)) - np.searchsorted(cell, cell)
    table = np.full((len(rows) * (last - first), 2 + int(rank.max(initial=-1))), -1)
    table[:, 0] = indices.ravel()
    table[cell, 1 + rank] = token
    return table.reshape(len(rows), last - first, table.shape[1])
