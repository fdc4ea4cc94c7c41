"""The gradient of the WKV recurrence, block by block from the end, with the states of one block at a time computed again.

What is read depends on numerator n, denominator d and maximum m only through n e^m and d e^m. So its gradients satisfy
dm = n dn + d dd, and the weights e^... need no gradient of their maximum. Only a loss that reads a state itself can break the
equation: what it has in excess, dm - n dn - d dd, goes back to whichever exponent was the maximum.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

Inputs: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Keys and values that are written, keys and values that are read at their own token, each [pos, row, channel]."""


def group_gradients(
    inputs: Inputs, decay: Tensor, first: Tensor, read: Tensor, states: Tensor, block: int, dy: Tensor, dh: Tensor
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The gradients of the inputs, of decay and first, and of the first token's two states, for a group of rows of ``wkv.wkv``.

    ``dy`` [pos, row, channel] is the gradient of what is read, ``dh`` [3, row, channel] that of the last state. ``read`` is the
    state that the first token reads; ``states`` [block + 1, 3, row, channel] are those carried to each ``block`` tokens, and the
    last.

    >>> zero, start = torch.zeros(2, 1, 1), torch.tensor([0, 0, -1e38]).view(3, 1, 1)
    >>> value, last = torch.tensor([1.0, 2.0]).view(2, 1, 1), torch.tensor([3.0, 2.0, 0.0]).view(3, 1, 1)
    >>> inputs, states = (zero, value, zero, value), torch.stack([start, last])
    >>> found = group_gradients(inputs, zero[0, 0], zero[0, 0], start, states, 2, zero + 1, 0 * start)
    >>> [gradient.flatten().tolist() for gradient in found[0]], [gradient.item() for gradient in found[1]]
    ([[-0.25, 0.0], [0.5, 0.0], [0.0, 0.25], [1.0, 0.5]], [0.0, 0.25])
    """
    gradients, ddecay, dread = [torch.empty_like(t) for t in inputs], torch.zeros_like(decay), torch.zeros_like(read)
    dpair, excess = dh[:2], dh[2] - (dh[:2] * states[-1, :2]).sum(0)
    for number in reversed(range(len(states) - 1)):
        part = slice(number * block, (number + 1) * block)
        key, value, own_key, own_value = (t[part] for t in inputs)
        pairs, maxima, kept, added, won = _recompute(states[number], key, value, decay)
        seen, largest = pairs[:-1], maxima[:-1]
        if number == 0:
            seen, largest = torch.cat([read[None, :2], seen[1:]]), torch.cat([read[None, 2], largest[1:]])
        dpairs, gradients[2][part], gradients[3][part] = _read_out(seen, largest, own_key + first, own_value, dy[part])
        if number == 0:
            # The first token may read another state than the one that is carried on.
            dread, dpairs[0] = _of_state(dpairs[0], read), 0
        dpairs = torch.cat([dpairs, dpair[None]])
        for t in reversed(range(len(key))):
            dpairs[t].addcmul_(kept[t], dpairs[t + 1])
        dpair = dpairs[0]
        left = torch.empty_like(key)  # what remains of the excess
        for t in reversed(range(len(key))):
            left[t], excess = excess, excess * won[t]
        by_new = dpairs[1:] * added[:, None]
        gradients[1][part] = by_new[:, 0]
        gradients[0][part] = by_new[:, 0] * value + by_new[:, 1] + (1 - won) * left
        ddecay += (kept * (dpairs[1:] * pairs[:-1]).sum(1) + won * left).sum((0, 1))
    return gradients, [ddecay, gradients[2].sum((0, 1))], [dread, _of_state(dpair, states[0], excess)]


def _recompute(start: Tensor, key: Tensor, value: Tensor, decay: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of every token: numerator and denominator [pos + 1, 2, row, channel] before it, their maximum, the factors of what it keeps
    and of what it adds, and whether what it keeps has the maximum: 1, 0, or 0.5 for both (as ``torch.maximum`` divides it)."""
    pairs, maxima = key.new_empty(len(key) + 1, *start[:2].shape), key.new_empty(len(key) + 1, *start[2].shape)
    pairs[0], maxima[0], decayed = start[:2], start[2], torch.empty_like(key)
    for t in range(len(key)):
        torch.maximum(torch.add(maxima[t], decay, out=decayed[t]), key[t], out=maxima[t + 1])
    kept, added = torch.exp(decayed - maxima[1:]), torch.exp(key - maxima[1:])
    torch.mul(added, value, out=pairs[1:, 0])
    pairs[1:, 1] = added
    for t in range(len(key)):
        pairs[t + 1].addcmul_(kept[t], pairs[t])
    return pairs, maxima, kept, added, torch.heaviside(decayed - key, decay.new_tensor(0.5))


def _read_out(pairs: Tensor, maxima: Tensor, key: Tensor, value: Tensor, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of numerator and denominator [pos, 2, row, channel], of the key with its bonus, and of the value."""
    top = torch.maximum(maxima, key)
    old, new = torch.exp(maxima - top), torch.exp(key - top)
    numerator, denominator = (old[:, None] * pairs).unbind(1)
    denominator = denominator + new
    y, scaled = (numerator + new * value) / denominator, dy / denominator
    dvalue, dnumerator = new * scaled, old * scaled
    return torch.stack([dnumerator, -dnumerator * y], 1), dvalue * (value - y), dvalue


def _of_state(dpair: Tensor, state: Tensor, excess: Tensor | float = 0.0) -> Tensor:
    """The gradient of a state [3, row, channel], with that of its maximum."""
    return torch.cat([dpair, (dpair * state[:2]).sum(0, keepdim=True) + excess])
