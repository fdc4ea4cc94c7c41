"""The gradient of the selective scan, block by block from the end, with the states of one block at a time computed again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Gradients: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]


def group_gradients(
    A: Tensor, by_token: Sequence[Tensor], starts: Tensor, block: int, dh: Tensor
) -> tuple[Gradients, Tensor, Tensor]:
    """The gradients of u, delta, B and C, of A, and of the state before the first token, for a group of rows of ``scan.scan``.

    ``by_token`` has u, delta, B, C and the gradient of what is read, time first: [pos, row, d_inner], B and C [pos, row, d_state].
    ``starts`` [block, row, d_inner, d_state] are the states before each ``block`` tokens, ``dh`` [row, d_inner, d_state] is the
    gradient of the last state. All have the dtype of A.

    >>> ones, zero = torch.ones(2, 1, 1), torch.zeros(1, 1, 1)
    >>> gradients, dA, dh = group_gradients(zero[0], [ones] * 5, zero[None], 2, zero)
    >>> [gradient.flatten().tolist() for gradient in gradients], dA.item(), dh.item()
    ([[2.0, 1.0], [2.0, 1.0], [2.0, 1.0], [1.0, 2.0]], 1.0, 2.0)
    """
    u, delta, B, C, dy = by_token
    du, ddelta, dB, dC = (torch.empty_like(t) for t in (u, delta, B, C))
    # Channels last, so that a number of each channel or of each state is multiplied into rows of memory.
    rates, dh = A.T.contiguous(), dh.mT.clone(memory_format=torch.contiguous_format)
    powers, dA, written = rates / math.log(2), torch.zeros_like(dh), delta * u
    # Used again for every block: memory that is new to the process takes longer than the arithmetic.
    memory = A.new_empty(3, min(block, len(u)) + 1, *dh.shape)
    for number in reversed(range(len(starts))):
        part = slice(number * block, (number + 1) * block)
        size = len(u[part])
        states, decay, total = memory[0, : size + 1], memory[1, :size], memory[2, :size]
        states[0] = starts[number].mT
        _recompute(states, decay, powers, written[part], delta[part], B[part])
        dC[part] = (dy[part][:, :, None] @ states[1:].mT)[:, :, 0]
        torch.mul(dy[part][:, :, None], C[part][..., None], out=total)
        _go_back(total, dh, dA, decay, states, delta[part])
        dB[part] = (written[part][:, :, None] @ total.mT)[:, :, 0]
        by_written = (B[part][:, :, None] @ total)[:, :, 0]
        du[part] = by_written * delta[part]
        ddelta[part] = by_written * u[part] + decay.mul_(rates).sum(2)
    return (du, ddelta, dB, dC), dA.sum(0).T, dh.mT


def _recompute(states: Tensor, decay: Tensor, powers: Tensor, written: Tensor, delta: Tensor, B: Tensor) -> None:
    """Fill ``decay``, what each token leaves of the state, and ``states`` after the first, which is there already."""
    torch.mul(delta[:, :, None], powers, out=decay).exp2_()
    torch.mul(written[:, :, None], B[..., None], out=states[1:])
    h, *after = states.unbind(0)
    for state, factor in zip(after, decay.unbind(0), strict=True):
        h = state.addcmul_(factor, h)


def _go_back(total: Tensor, dh: Tensor, dA: Tensor, decay: Tensor, states: Tensor, delta: Tensor) -> None:
    """From the last token to the first, in place: ``total`` becomes the gradient of the state after each token.

    It begins as the part by way of what is read. ``dh`` is the gradient of the state after the last token by way of what follows,
    and becomes that before the first. ``decay`` becomes the gradient of its exponent, delta A, of which ``dA`` gets its part.
    """
    tokens = zip(*(t.unbind(0) for t in (total, decay, states[:-1], delta[:, :, None])), strict=True)
    for gradient, factor, before, step in reversed(list(tokens)):
        torch.mul(gradient.add_(dh), factor, out=dh)
        dA.addcmul_(torch.mul(dh, before, out=factor), step)
