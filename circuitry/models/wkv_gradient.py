"""The gradient of the WKV recurrence, block by block from the end, with the states of one block at a time computed again.

What is read depends on numerator n, denominator d and maximum m only through n e^m and d e^m. So its gradients satisfy
dm = n dn + d dd, and the weights e^... need no gradient of their maximum. Only a loss that reads a state itself can break the
equation: what it has in excess, dm - n dn - d dd, goes back to whichever exponent was the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def group_gradients(
    inputs: Sequence[Tensor],
    weights: tuple[Tensor, Tensor],
    read: Tensor,
    states: Tensor,
    block: int,
    dy: Tensor,
    dh: Tensor,
    into: Sequence[Tensor],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of decay and first, and of the first token's two states, for a group of rows of ``wkv.wkv``.

    ``inputs`` are the keys and values that are written, and those that are read at their own token; ``into`` takes their
    gradients, and ``dy`` is that of what is read; all are [pos, row, channel]. ``weights`` are decay and first, [channel].
    ``dh`` [3, row, channel] is the gradient of the last state, ``read`` the state that the first token reads. ``states``
    [block + 1, 3, row, channel] are those carried to each ``block`` tokens, and the last.

    >>> zero, start = torch.zeros(2, 1, 1), torch.tensor([0, 0, -1e38]).view(3, 1, 1)
    >>> value, last = torch.tensor([1.0, 2.0]).view(2, 1, 1), torch.tensor([3.0, 2.0, 0.0]).view(3, 1, 1)
    >>> inputs, states, into = (zero, value, zero, value), torch.stack([start, last]), torch.zeros(4, 2, 1, 1)
    >>> found = group_gradients(inputs, (zero[0, 0], zero[0, 0]), start, states, 2, zero + 1, 0 * start, into.unbind())
    >>> into.flatten(1).tolist(), found[0].item(), found[1].item()
    ([[-0.25, 0.0], [0.5, 0.0], [0.0, 0.25], [1.0, 0.5]], 0.0, 0.25)
    """
    decay, first = weights
    ddecay, dfirst, dread = torch.zeros_like(decay), torch.zeros_like(first), torch.zeros_like(read)
    dpair, excess = dh[:2], dh[2] - (dh[:2] * states[-1, :2]).sum(0)
    for number in reversed(range(len(states) - 1)):
        part = slice(number * block, (number + 1) * block)
        key, value, own_key, own_value = (t[part] for t in inputs)
        dkey, dvalue, down_key, down_value = (t[part] for t in into)
        pairs, maxima, kept, added, won = _recompute(states[number], key, value, decay)
        if number == 0:  # the first token may read another state than the one that is carried on
            pairs[0], maxima[0] = read[:2], read[2]
        dpairs = _read_out(pairs[:-1], maxima[:-1], own_key + first, own_value, dy[part], (down_key, down_value))
        dfirst += down_key.sum((0, 1))
        if number == 0:
            dread, dpairs[0], pairs[0] = _of_state(dpairs[0], read), 0, states[0, :2]
        dpairs[-1] = dpair
        for t in reversed(range(len(key))):
            dpairs[t].addcmul_(kept[t], dpairs[t + 1])
        dpair = dpairs[0].clone()
        left = torch.empty_like(won)  # what remains of the excess
        for t in reversed(range(len(key))):
            left[t] = excess
            excess = excess * won[t]
        torch.mul(added, dpairs[1:, 0], out=dvalue)
        dkey.copy_(dvalue * value + added * dpairs[1:, 1] + (1 - won) * left)
        ddecay += (kept * (dpairs[1:] * pairs[:-1]).sum(1) + won * left).sum((0, 1))
    return ddecay, dfirst, dread, _of_state(dpair, states[0], excess)


def _recompute(start: Tensor, key: Tensor, value: Tensor, decay: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of every token: numerator and denominator [pos + 1, 2, row, channel] before it, their maximum, the factors of what it keeps
    and of what it adds, and whether what it keeps has the maximum: 1, 0, or 0.5 for both (as ``torch.maximum`` divides it)."""
    pairs, maxima = key.new_empty(len(key) + 1, *start[:2].shape), key.new_empty(len(key) + 1, *start[2].shape)
    pairs[0], maxima[0], decayed = start[:2], start[2], torch.empty_like(maxima[1:])
    for t in range(len(key)):
        torch.maximum(torch.add(maxima[t], decay, out=decayed[t]), key[t], out=maxima[t + 1])
    won = torch.sign(decayed - key).add_(1).div_(2)
    kept, added = decayed.sub_(maxima[1:]).exp_(), torch.exp(key - maxima[1:])
    torch.mul(added, value, out=pairs[1:, 0])
    pairs[1:, 1] = added
    for t in range(len(key)):
        pairs[t + 1].addcmul_(kept[t], pairs[t])
    return pairs, maxima, kept, added, won


def _read_out(pairs: Tensor, maxima: Tensor, key: Tensor, value: Tensor, dy: Tensor, into: tuple[Tensor, Tensor]) -> Tensor:
    """The gradient of numerator and denominator [pos + 1, 2, row, channel], without the last; ``key`` has its bonus.

    ``into`` takes the gradients of the key and the value.
    """
    top = torch.maximum(maxima, key)
    old, new = torch.exp(maxima - top), torch.exp(key - top)
    denominator = torch.addcmul(new, old, pairs[:, 1])
    y = torch.addcmul(new * value, old, pairs[:, 0]) / denominator
    scaled = dy / denominator
    dkey, dvalue = into
    torch.mul(new, scaled, out=dvalue)
    torch.mul(dvalue, value - y, out=dkey)
    dpairs = pairs.new_empty(len(pairs) + 1, *pairs.shape[1:])
    torch.mul(old, scaled, out=dpairs[:-1, 0])
    torch.mul(dpairs[:-1, 0], y.neg_(), out=dpairs[:-1, 1])
    return dpairs


def _of_state(dpair: Tensor, state: Tensor, excess: Tensor | float = 0.0) -> Tensor:
    """The gradient of a state [3, row, channel], with that of its maximum."""
    return torch.cat([dpair, (dpair * state[:2]).sum(0, keepdim=True) + excess])
