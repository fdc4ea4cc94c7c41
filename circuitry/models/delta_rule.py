"""The gated delta rule in plain torch: chunks with a triangular solve and a carried state; never storing all states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .packed import Inside
from .segments import segments
from .stretches import AtStop, scan_rows

CHUNK = 64
"""Tokens in a chunk of the scan where a head has one decay. Memory grows with its square, the number of steps with its inverse."""
CHUNK_BY_CHANNEL = 8
"""The same where every channel of the key has its own decay: then each pair of tokens has a number for each channel."""


@dataclass(frozen=True)
class Written:
    """What a token does to the state of each head: S <- D S, then S <- S - erase (probe^T S) + key value^T.

    key, erase and probe: [batch, pos, head, d_key]. value [batch, pos, head, d_value] is multiplied by its step size already, and
    either erase or probe by the step size that erases. decay [batch, pos, head, 1 or d_key] is the logarithm of D, 0 at most.
    """

    key: Tensor
    value: Tensor
    erase: Tensor
    probe: Tensor
    decay: Tensor

    def parts(self) -> tuple[Tensor, ...]:
        """The tensors in order.

        >>> Written(*(torch.ones(1, 1, 1, 1),) * 5).parts()[4].shape
        torch.Size([1, 1, 1, 1])
        """
        return self.key, self.value, self.erase, self.probe, self.decay

    def of(self, tokens: Tensor) -> Written:
        """Packed tokens [1, token, ...] as rows [row, pos, ...]."""
        return Written(*(part[0, tokens] for part in self.parts()))

    def empty(self) -> Tensor:
        """The state of one row before the text [head, d_key, d_value]."""
        return self.value.new_zeros(*self.key.shape[2:], self.value.shape[-1])


def delta_rule(
    written: Written,
    query: Tensor,
    stops: Sequence[int] = (),
    at_stop: AtStop = lambda h: (h, h),
    h0: Tensor | None = None,
) -> Tensor:
    """y_t = S_t^T q_t for every head [batch, pos, head, d_value], with S as ``Written`` says.

    query [batch, pos, head, d_key]; h0 and the states [batch, head, d_key, d_value], zero where h0 is None. ``at_stop`` is called
    at the positions ``stops``, in order. All tensors have one dtype.

    >>> ones = torch.ones(1, 3, 1, 1)
    >>> delta_rule(Written(ones, ones, ones, 0 * ones, 0 * ones), ones).flatten().tolist()
    [1.0, 2.0, 3.0]
    >>> delta_rule(Written(ones, ones, ones, ones, 0 * ones), ones).flatten().tolist()
    [1.0, 1.0, 1.0]
    """
    h = written.empty().expand(len(query), -1, -1, -1) if h0 is None else h0
    y = list[Tensor]()
    for (*parts, q), stopped in segments((*written.parts(), query), stops):
        read, h = _chunks(Written(*parts), q[:, :, None], h)
        if stopped:
            # The last token was read from the state before the call, so it is read again.
            seen, h = at_stop(h)
            y += [read[:, :-1, 0], _read(seen, q[:, -1])[:, None]]
        else:
            y.append(read[:, :, 0])
    return torch.cat(y, 1) if len(y) > 1 else y[0]


def delta_rule_packed(written: Written, query: Tensor, inside: Inside, at_stop: AtStop = lambda h: (h, h)) -> Tensor:
    """The rule for packed tokens, [1, token, ...]; see ``scan.scan_packed``.

    >>> from circuitry.models.packed import Inside, Scanned, Tokens
    >>> import numpy as np
    >>> tokens = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([0, 0]), whole=1, length=3)
    >>> inside = Inside(tokens, None, None, torch.zeros(4), Scanned(np.array([0, 1]), np.array([0, 2]), np.array([3, 3])))
    >>> ones = torch.ones(1, 4, 1, 1)
    >>> delta_rule_packed(Written(ones, ones, ones, 0 * ones, 0 * ones), ones, inside).flatten().tolist()
    [1.0, 2.0, 3.0, 3.0]
    """

    def kernel(tokens: Tensor, readers: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return _chunks(written.of(tokens), query[0, readers], h)

    def stopped(h: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen, carried = at_stop(h)
        return _read(seen, query[0, tokens]), carried

    return scan_rows(inside, written.empty(), written.value, lambda _: len(inside.tokens), kernel, stopped)


def _read(h: Tensor, query: Tensor) -> Tensor:
    return (query[..., None, :] @ h)[..., 0, :]


def _chunks(written: Written, query: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Chunk after chunk, heads first. ``query`` is [batch, pos, reader, head, d_key], and the values read are like it: several
    readers may read the state after one token."""
    size = CHUNK if written.decay.shape[-1] == 1 else CHUNK_BY_CHANNEL
    # Contiguous, so that a value that is written back unchanged gives the same bits, whatever its strides.
    parts = (part.transpose(1, 2).contiguous() for part in written.parts())
    query, y = query.permute(0, 3, 1, 2, 4).contiguous(), []
    # Split, not sliced: the gradient of a slice is as long as the whole.
    for *chunk, q in zip(*(torch.split(part, size, 2) for part in (*parts, query)), strict=True):
        read, h = _chunk(Written(*chunk), q, h)
        y.append(read)
    return torch.cat(y, 2).permute(0, 2, 3, 1, 4), h


def _chunk(written: Written, query: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """One chunk, [batch, head, pos, ...]: what its readers read, and the state after it.

    What a token erases depends on what the tokens before it erased, so these are the solution of a triangular system.
    """
    total, remains = written.decay.cumsum(-2), _remaining(written.decay)
    known = written.probe * total.exp() @ h + _products(written.probe, written.key, remains).tril(-1) @ written.value
    among = _products(written.probe, written.erase, remains)
    erased = torch.linalg.solve_triangular(among, known, upper=False, unitriangular=True)
    readers, queries = query.shape[3], query.flatten(2, 3)
    seen, reading = (t if readers == 1 else t.repeat_interleave(readers, 2) for t in (total, remains))
    y = queries * seen.exp() @ h + _products(queries, written.key, reading) @ written.value
    y = (y - _products(queries, written.erase, reading) @ erased).unflatten(2, (-1, readers))
    to_end = (total[..., -1:, :] - total).exp()
    h = h * total[..., -1, :, None].exp() + (written.key * to_end).mT @ written.value - (written.erase * to_end).mT @ erased
    return y, h


def _remaining(decay: Tensor) -> Tensor:
    """[..., t, s, 1 or d_key]: the factor by which what token s wrote has shrunk at token t; zero if s comes later."""
    # The steps between are added up: differences of sums from the start would cancel.
    size = decay.shape[-2]
    before = torch.ones(size, size, dtype=torch.bool, device=decay.device).tril(-1)[..., None]
    gap = decay[..., None, :].expand(*decay.shape[:-1], size, decay.shape[-1]).masked_fill(~before, 0).cumsum(-3)
    return gap.masked_fill(before.transpose(0, 1), -torch.inf).exp()


def _products(one: Tensor, other: Tensor, remains: Tensor) -> Tensor:
    """[..., t, s]: the product of a vector of each token t with one of each token s, which has shrunk until t."""
    if remains.shape[-1] == 1:
        return one @ other.mT * remains[..., 0]
    return (remains * one[..., :, None, :] * other[..., None, :, :]).sum(-1)
