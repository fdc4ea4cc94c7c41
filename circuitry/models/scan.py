"""The selective scan in plain torch: fast in blocks, or in the stock order bit for bit; never storing all states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .packed import Inside
from .scan_gradient import group_gradients
from .segments import segments
from .stretches import AtStop, scan_rows
from .threads import on_threads

BLOCK, _CACHE = 16, 1 << 21
"""Tokens in a block, and bytes of one group of rows, such that a block stays in the processor's cache."""


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    stops: Sequence[int] = (),
    at_stop: AtStop = lambda h: (h, h),
    h0: Tensor | None = None,
    exact: bool = False,
) -> Tensor:
    """y_t = C_t h_t with h_t = exp(delta_t A) h_{t-1} + delta_t u_t B_t.

    Shapes: u, delta, y [batch, pos, d_inner]; A [d_inner, d_state]; B, C [batch, pos, d_state]; h0 and the states
    [batch, d_inner, d_state], zero where h0 is None. ``at_stop`` is called at the positions ``stops``, in order. ``exact``
    uses the operations of the stock model in its order: slower, more memory, same bits. States have the dtype of A, which is
    wider than the rest in a half-precision model. Every tensor has a gradient; only ``exact`` has second derivatives.

    >>> ones = torch.ones(1, 3, 1)
    >>> scan(ones, ones, torch.zeros(1, 1), ones, ones).flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    h = A.new_zeros(len(u), *A.shape) if h0 is None else h0
    kernel, tensors, y = _exact if exact else _fast, (u, delta, B, C), list[Tensor]()
    for (u, delta, B, C), stopped in segments(tensors, stops):
        read, h = kernel(u, delta, A, B, C, h)
        if stopped:
            # The kernel read this token from the state before the call, so it is read again.
            seen, h = at_stop(h)
            read[:, -1] = (seen.to(C.dtype) @ C[:, -1, :, None])[..., 0]
        y.append(read)
    return torch.cat(y, 1) if len(y) > 1 else y[0]


def _exact(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """The stock loop, channels first: discretise everything, then one product for each token."""
    u, delta = u.transpose(1, 2), delta.transpose(1, 2)
    decay = torch.exp(A[None, :, None, :] * delta[:, :, :, None])
    drive = delta[:, :, :, None] * B.to(A.dtype)[:, None, :, :] * u.to(A.dtype)[:, :, :, None]
    y = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + drive[:, :, t]
        y.append(torch.matmul(h.to(C.dtype), C[:, t, :].unsqueeze(-1))[:, :, 0])
    return torch.stack(y, -1).transpose(1, 2), h


def scan_packed(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, inside: Inside, at_stop: AtStop = lambda h: (h, h)
) -> Tensor:
    """The scan of packed tokens, [1, token, ...]: each row starts from its base row's state (``stretches``).

    A token that its row does not scan reads the state of its base row. ``at_stop`` gets the states [row, d_inner, d_state] of the
    rows that are scanned at a position (``Stop.rows``), once for each of ``Scanned.calls``.

    >>> from circuitry.models.packed import Inside, Scanned, Tokens
    >>> import numpy as np
    >>> tokens = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([0, 0]), whole=1, length=3)
    >>> inside = Inside(tokens, None, None, torch.zeros(4), Scanned(np.array([0, 1]), np.array([0, 2]), np.array([3, 3])))
    >>> ones = torch.ones(1, 4, 1)
    >>> scan_packed(ones, ones, torch.zeros(1, 1), ones, ones, inside).flatten().tolist()
    [1.0, 2.0, 3.0, 3.0]
    """

    powers = _powers(A)

    def kernel(tokens: Tensor, readers: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        time_first = [t[tokens.T] for t in (u[0], delta[0], B[0])] + [C[0, readers.transpose(0, 1)]]
        read, end = _group(powers, h, None, *(t.to(A.dtype) for t in time_first))
        return read.transpose(0, 1), end

    def stopped(h: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        seen, carried = at_stop(h)
        return (seen.to(C.dtype) @ C[0, tokens, :, None])[..., 0], carried

    return scan_rows(inside, A.new_zeros(A.shape), u, lambda length: _rows(A, length), kernel, stopped)


def _fast(*inputs: Tensor) -> tuple[Tensor, Tensor]:
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return _Blocks.apply(*inputs)  # type: ignore[no-untyped-call, no-any-return]
    return _blocks(*inputs)


class _Blocks(torch.autograd.Function):
    """The fast scan with a gradient. Between forward and backward it keeps its inputs and the states before every block."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        starts = h.new_empty(math.ceil(u.shape[1] / BLOCK), *h.shape)
        ctx.save_for_backward(u, delta, A, B, C, starts)
        return _blocks(u, delta, A, B, C, h, starts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dh: Tensor) -> tuple[Tensor, ...]:
        u, delta, A, B, C, starts = ctx.saved_tensors
        by_token, rows = [torch.empty_like(t) for t in (u, delta, B, C)], _rows(A, u.shape[1])
        by_A, by_start = A.new_empty(math.ceil(len(u) / rows), *A.shape), torch.empty_like(dh)

        def run(start: int) -> None:
            group = slice(start, start + rows)
            time_first = [t[group].transpose(0, 1).to(A.dtype).contiguous() for t in (u, delta, B, C, dy)]
            gradients, by_A[start // rows], by_start[group] = group_gradients(A, time_first, starts[:, group], BLOCK, dh[group])
            for whole, part in zip(by_token, gradients, strict=True):
                whole[group] = part.transpose(0, 1)

        on_threads(run, range(0, len(u), rows), u.device)
        return by_token[0], by_token[1], by_A.sum(0), by_token[2], by_token[3], by_start


def _blocks(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor, starts: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The fast scan in groups of rows small enough for the cache, time first, so that one token's states are contiguous.

    One thread computes a whole group. torch's own threads would divide the loop's many small operations and mostly wait for each
    other, above all on a busy machine. ``starts`` [block, row, d_inner, d_state] takes the states before every block.
    """
    y, last, powers, rows = torch.empty_like(u), torch.empty_like(h), _powers(A), _rows(A, u.shape[1])

    def run(start: int) -> None:
        group = slice(start, start + rows)
        time_first = (t[group].transpose(0, 1).to(A.dtype).contiguous() for t in (u, delta, B, C[:, :, None]))
        read, last[group] = _group(powers, h[group], None if starts is None else starts[:, group], *time_first)
        y[group] = read[:, :, 0].transpose(0, 1)

    on_threads(run, range(0, len(u), rows), u.device)
    return y, last


def _rows(A: Tensor, length: int) -> int:
    """The number of rows in a group."""
    return max(1, _CACHE // (min(BLOCK, length) * A.numel() * A.element_size()))


def _powers(A: Tensor) -> Tensor:
    """A as exponents of two, since ``exp2`` takes a third of the time of ``exp`` on a CPU."""
    return A / math.log(2)


def _group(
    powers: Tensor, h: Tensor, starts: Tensor | None, u: Tensor, delta: Tensor, B: Tensor, C: Tensor
) -> tuple[Tensor, Tensor]:
    """All tokens of one group of rows; arguments are [pos, rows, ...], C is [pos, rows, reader, d_state] and so is what is read."""
    y = u.new_empty(*C.shape[:3], u.shape[2])
    for start in range(0, len(u), BLOCK):
        block = slice(start, start + BLOCK)
        if starts is not None:
            starts[start // BLOCK] = h
        decay = torch.mul(delta[block, :, :, None], powers).exp2_()
        states = (delta[block] * u[block])[..., None] * B[block, :, None, :]
        # ``states`` begins as what each token writes. In place it becomes the state after the token, so no second copy is stored.
        for state, factor in zip(states.unbind(0), decay.unbind(0), strict=True):
            h = state.addcmul_(factor, h)
        y[block] = torch.matmul(C[block], states.mT)
    return y, h
