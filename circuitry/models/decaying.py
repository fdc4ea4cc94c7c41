"""A recurrence with one number for each channel, which shrinks by a factor of its own at every token, as in RecurrentGemma."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .packed import Inside
from .segments import segments
from .stretches import AtStop, scan_rows


def decaying(value: Tensor, decay: Tensor, stops: Sequence[int] = (), at_stop: AtStop = lambda h: (h, h)) -> Tensor:
    """h_t = decay_t h_{t-1} + value_t for every channel; the states are also what is read.

    ``value``, ``decay`` and what is returned are [batch, pos, channel]. ``at_stop`` is called with the state [batch, channel] after
    each position in ``stops``, in order. The state is float32, or float64 with float64 values. Every tensor has a gradient.

    >>> ones = torch.ones(1, 3, 1)
    >>> decaying(ones, ones / 2).flatten().tolist()
    [1.0, 1.5, 1.75]
    """
    h, y = value.new_zeros(value[:, 0].shape, dtype=torch.promote_types(value.dtype, torch.float32)), list[Tensor]()
    for (written, factor), stopped in segments((value, decay), stops):
        states = _states(written, factor, h)
        h = states[-1]
        if stopped:
            states[-1], h = at_stop(h)
        y += states
    return torch.stack(y, 1).to(value.dtype)


def decaying_packed(value: Tensor, decay: Tensor, inside: Inside, at_stop: AtStop = lambda h: (h, h)) -> Tensor:
    """The recurrence of packed tokens, [1, token, channel]; see ``scan.scan_packed``.

    >>> from circuitry.models.packed import Inside, Scanned, Tokens
    >>> import numpy as np
    >>> tokens = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([0, 0]), whole=1, length=3)
    >>> inside = Inside(tokens, None, None, torch.zeros(4), Scanned(np.array([0, 1]), np.array([0, 2]), np.array([3, 3])))
    >>> ones = torch.ones(1, 4, 1)
    >>> decaying_packed(ones, ones, inside).flatten().tolist()
    [1.0, 2.0, 3.0, 3.0]
    """

    def kernel(tokens: Tensor, readers: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        states = _states(value[0, tokens], decay[0, tokens], h)
        # Every reader reads the state itself.
        return torch.stack(states, 1)[:, :, None].expand(*readers.shape, h.shape[-1]), states[-1]

    def stopped(h: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
        return at_stop(h)

    empty = value.new_zeros(value.shape[-1], dtype=torch.promote_types(value.dtype, torch.float32))
    return scan_rows(inside, empty, value, lambda _: len(inside.tokens), kernel, stopped)


def _states(value: Tensor, decay: Tensor, h: Tensor) -> list[Tensor]:
    """The states after each token, in the dtype of the one before them."""
    states = []
    # Unbound, not indexed: the gradient of an index is as long as the whole.
    for written, factor in zip(value.unbind(1), decay.unbind(1), strict=True):
        h = factor.to(h.dtype) * h + written.to(h.dtype)
        states.append(h)
    return states
