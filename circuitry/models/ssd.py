"""Mamba-2's scan (SSD) in plain torch: products of chunks and a carried state, or the stock operations; never storing all states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .packed import Inside
from .segments import segments
from .stretches import AtStop, scan_rows

CHUNK = 64
"""Tokens in a chunk of the fast scan. Memory grows with its square, the number of steps with its inverse."""


def ssd(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    stops: Sequence[int] = (),
    at_stop: AtStop = lambda h: (h, h),
    h0: Tensor | None = None,
    exact: int = 0,
) -> Tensor:
    """y_t = h_t C_t with h_t = exp(delta_t A) h_{t-1} + delta_t x_t B_t, for every head.

    Shapes: x, y [batch, pos, head, d_head]; delta [batch, pos, head]; A [head]; B, C [batch, pos, head, d_state]; h0 and the
    states [batch, head, d_head, d_state], zero where h0 is None. ``at_stop`` is called at the positions ``stops``, in order.
    ``exact`` is the stock model's chunk length: then its operations are used in its order, for the same bits; 0 is the fast
    scan. All is computed in the dtype of A, which is wider than the rest in a half-precision model.

    >>> ones = torch.ones(1, 3, 1, 1)
    >>> ssd(ones, ones[..., 0], torch.zeros(1), ones, ones).flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    x, delta, B, C = (t.to(A.dtype) for t in (x, delta, B, C))
    h = A.new_zeros(len(x), *x.shape[2:], B.shape[-1]) if h0 is None else h0
    tensors, y = (x * delta[..., None], A * delta, B, C), list[Tensor]()
    for (x, decay, B, C), stopped in segments(tensors, stops):
        read, h = _stock(x, decay, B, C, h, exact) if exact else _one_reader(x, decay, B, C, h)
        if stopped:
            # The last token was read from the state before the call, so it is read again.
            seen, h = at_stop(h)
            y += [read[:, :-1], (seen @ C[:, -1, :, :, None])[:, None, ..., 0]]
        else:
            y.append(read)
    return torch.cat(y, 1) if len(y) > 1 else y[0]


def ssd_packed(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, inside: Inside, at_stop: AtStop = lambda h: (h, h)
) -> Tensor:
    """The scan of packed tokens, [1, token, ...]; see ``scan.scan_packed``.

    >>> from circuitry.models.packed import Inside, Scanned, Tokens
    >>> import numpy as np
    >>> tokens = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([0, 0]), whole=1, length=3)
    >>> inside = Inside(tokens, None, None, torch.zeros(4), Scanned(np.array([0, 1]), np.array([0, 2]), np.array([3, 3])))
    >>> ones = torch.ones(1, 4, 1, 1)
    >>> ssd_packed(ones, ones[..., 0], torch.zeros(1), ones, ones, inside).flatten().tolist()
    [1.0, 2.0, 3.0, 3.0]
    """
    x, delta, B, C = (t.to(A.dtype) for t in (x, delta, B, C))
    x, decay = x * delta[..., None], A * delta

    def kernel(tokens: Tensor, readers: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        return _chunks(x[0, tokens], decay[0, tokens], B[0, tokens], C[0, readers], h)

    def stopped(h: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen, carried = at_stop(h)
        return (seen @ C[0, tokens, :, :, None])[..., 0], carried

    return scan_rows(inside, x.new_zeros(*x.shape[2:], B.shape[-1]), x, lambda _: len(inside.tokens), kernel, stopped)


def _one_reader(x: Tensor, decay: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    y, last = _chunks(x, decay, B, C[:, :, None], h)
    return y[:, :, 0], last


def _chunks(x: Tensor, decay: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Chunk after chunk, heads first; ``decay`` is the logarithm of the factor by which each token shrinks the state.

    C is [batch, pos, reader, head, d_state], and so is y: several readers may read the state after one token.
    """
    # Contiguous, so that a value that is written back unchanged gives the same bits, whatever its strides.
    x, B = (t.transpose(1, 2).contiguous() for t in (x, B))
    C, decay, y = C.permute(0, 3, 1, 2, 4).contiguous(), decay.transpose(1, 2).contiguous(), []
    # Split, not sliced: the gradient of a slice is as long as the whole.
    for chunk in zip(*(torch.split(t, CHUNK, 2) for t in (x, decay, B, C)), strict=True):
        read, h = _chunk(chunk, h)
        y.append(read)
    return torch.cat(y, 2).permute(0, 2, 3, 1, 4), h


def _chunk(inputs: tuple[Tensor, ...], h: Tensor) -> tuple[Tensor, Tensor]:
    """One chunk, [batch, head, pos, ...]: what its tokens read from each other and from the state before it; the state after it."""
    x, decay, B, C = inputs
    total, remains = decay.cumsum(-1), _remaining(decay)
    readers, queries = C.shape[3], C.flatten(2, 3)
    seen = total if readers == 1 else total.repeat_interleave(readers, -1)
    scores = queries @ B.mT * (remains if readers == 1 else remains.repeat_interleave(readers, -2))
    y = (scores @ x + queries @ h.mT * seen.exp()[..., None]).unflatten(2, (-1, readers))  # type: ignore[no-untyped-call]
    to_end = (total[..., -1:] - total).exp()[..., None]
    return y, h * total[..., -1, None, None].exp() + (x * to_end).mT @ B


def _remaining(decay: Tensor) -> Tensor:
    """[..., t, s]: the factor by which the value that token s wrote has shrunk at token t; zero if s comes later."""
    # As in the stock model, the steps between are added up: differences of sums from the start would cancel.
    size = decay.shape[-1]
    before = torch.ones(size, size, dtype=torch.bool, device=decay.device).tril(-1)
    gap = decay[..., None].expand(*decay.shape, size).masked_fill(~before, 0).cumsum(-2)
    return gap.masked_fill(before.mT, -torch.inf).exp()


def _stock(x: Tensor, decay: Tensor, B: Tensor, C: Tensor, h: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """transformers' ``mamba2_chunk_scan`` step by step: all chunks at once, the last padded with tokens that change nothing."""
    length = x.shape[1]
    fill = -length % chunk
    x, B, C = (F.pad(t, (0, 0, 0, 0, 0, fill)).reshape(len(t), -1, chunk, *t.shape[2:]) for t in (x, B, C))
    decay = F.pad(decay, (0, 0, 0, fill)).reshape(len(decay), -1, chunk, decay.shape[2]).permute(0, 3, 1, 2)
    total = decay.cumsum(-1)
    scores = torch.einsum("bclhn,bcshn->bclsh", C, B) * _remaining(decay).permute(0, 2, 3, 4, 1)
    y = torch.einsum("bclsh,bcshp->bclhp", scores, x)
    to_end = (total[:, :, :, -1:] - total).exp()
    written = torch.einsum("bclhn,bclhp->bchpn", B * to_end.permute(0, 2, 3, 1)[..., None], x)
    between = _remaining(F.pad(total[:, :, :, -1], (1, 0))).transpose(1, 3)
    states = torch.einsum("bzch,bzhpn->bchpn", between, torch.cat([h[:, None], written], 1))
    read = torch.einsum("bclhn,bchpn->bclhp", C, states[:, :-1])
    y = (y + read * total.exp().permute(0, 2, 3, 1)[..., None]).contiguous()
    return y.flatten(1, 2)[:, :length], states[:, -1]
