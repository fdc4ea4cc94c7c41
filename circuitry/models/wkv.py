"""The WKV recurrence of RWKV-4: a decaying weighted mean of values, in the stock model's operations and order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .packed import Inside
from .segments import segments
from .stretches import scan_rows
from .threads import on_threads
from .wkv_gradient import group_gradients

AtStop: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Called at a stop with the state [batch, channel, 3]; returns the one that the next token reads and the one carried on."""
State: TypeAlias = tuple[Tensor, Tensor, Tensor]
"""Numerator, denominator and running maximum, each [batch, channel]; the first two are scaled by exp(-maximum)."""
Pair: TypeAlias = Sequence[Tensor]
"""Keys and values, each [batch, pos, channel]."""

_ROWS = 1 << 15
"""Numbers for one token of a group of rows: few enough for the cache of one thread, and for torch not to split the work."""
BLOCK = 16
"""Tokens whose states the backward pass computes again at a time."""


def wkv(
    written: Pair, bonus: Pair, decay: Tensor, first: Tensor, stops: Sequence[int] = (), at_stop: AtStop = lambda h: (h, h)
) -> Tensor:
    """The mean of all values so far, weighted by exp(key) and by exp(decay) for every token that has passed.

    y_t = (n + e^(first + k_t) v_t) / (d + e^(first + k_t)), with n and d those of the state after token t - 1; then n <- e^decay
    n + e^(k_t) v_t, and d likewise with 1 for v_t. ``written`` are the keys and values that go into the state, ``bonus`` those in
    this token's own read-out; ``decay`` (negative) and ``first`` are [channel]. ``at_stop`` is called with the state after each
    position in ``stops``, in order. The state is float32, or float64 with float64 keys; y has the keys' dtype. Every tensor has a
    gradient, but no second derivatives.

    >>> pair = torch.zeros(1, 3, 1), torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1)
    >>> wkv(pair, pair, torch.zeros(1), torch.zeros(1)).flatten().tolist()
    [1.0, 1.5, 3.0]
    """
    key = bonus[0]
    wide = torch.promote_types(key.dtype, torch.float32)
    zero = torch.zeros_like(key[:, 0], dtype=wide)
    # Two states, which differ only for the token after a stop: ``at_stop`` may change either.
    read = carried = (zero, zero, zero - 1e38)  # the stock model's maximum of no tokens
    y = []
    for (write_key, write_value, key, value), stopped in segments((*written, *bonus), stops):
        out, carried = _segment((write_key, write_value), (key, value), decay, first, read, carried)
        y.append(out)
        read = carried
        if stopped:
            read, carried = (_parts(h) for h in at_stop(torch.stack(carried, -1)))
    return torch.cat(y, 1) if len(y) > 1 else y[0]


def wkv_packed(
    written: Pair, bonus: Pair, decay: Tensor, first: Tensor, inside: Inside, at_stop: AtStop = lambda h: (h, h)
) -> Tensor:
    """The recurrence of packed tokens, [1, token, channel]; see ``scan.scan_packed``.

    >>> from circuitry.models.packed import Inside, Scanned, Tokens
    >>> import numpy as np
    >>> tokens = Tokens(np.array([0, 0, 0, 1]), np.array([0, 1, 2, 2]), np.array([0, 0]), whole=1, length=3)
    >>> inside = Inside(tokens, None, None, torch.zeros(4), Scanned(np.array([0, 1]), np.array([0, 2]), np.array([3, 3])))
    >>> pair = torch.zeros(1, 4, 1), torch.tensor([1.0, 2.0, 6.0, 9.0]).view(1, 4, 1)
    >>> wkv_packed(pair, pair, torch.zeros(1), torch.zeros(1), inside).flatten().tolist()
    [1.0, 1.5, 3.0, 4.0]
    """
    wide = torch.promote_types(bonus[0].dtype, torch.float32)
    # Two states for each row: the one that the next token reads, and the one that is carried on.
    empty = torch.zeros(2, len(decay), 3, dtype=wide, device=decay.device)
    empty[..., 2] = -1e38

    def kernel(tokens: Tensor, readers: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        inputs = [t[0, tokens] for t in written], [t[0, readers] for t in bonus]
        out, end = _tokens(*inputs, decay, first, _parts(h[:, 0]), _parts(h[:, 1]))
        return out, torch.stack(end, -1)[:, None].expand_as(h)

    def stopped(h: Tensor, _: Tensor) -> tuple[None, Tensor]:
        return None, torch.stack(at_stop(h[:, 1]), 1)

    rows = max(1, _ROWS // len(decay)) if decay.device.type == "cpu" else len(inside.tokens)
    return scan_rows(inside, empty, bonus[0], lambda _: rows, kernel, stopped)


def _parts(state: Tensor) -> State:
    return _three(state.movedim(-1, 0))


def _three(state: Tensor) -> State:
    return state[0], state[1], state[2]


def _segment(written: Pair, bonus: Pair, decay: Tensor, first: Tensor, read: State, carried: State) -> tuple[Tensor, State]:
    """All tokens between two stops."""
    inputs = *written, *bonus, decay, first
    if torch.is_grad_enabled() and any(t.requires_grad for t in (*inputs, *read, *carried)):
        y, last = _Segment.apply(*inputs, torch.stack(read), torch.stack(carried))  # type: ignore[no-untyped-call]
        return y, _three(last)
    return _in_groups(written, bonus, decay, first, read, carried)


class _Segment(torch.autograd.Function):
    """The recurrence with a gradient. Between forward and backward it keeps its inputs and the states before every block."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        write_key, write_value, key, value, decay, first, read, carried = inputs
        states = carried.new_empty(math.ceil(key.shape[1] / BLOCK) + 1, *carried.shape)
        written, bonus = (write_key, write_value), (key, value)
        y, last = _in_groups(written, bonus, decay, first, _three(read), _three(carried), states)
        states[-1] = torch.stack(last)
        ctx.save_for_backward(*inputs[:-1], states)
        return y, states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dh: Tensor) -> tuple[Tensor, ...]:
        *by_token, decay, first, read, states = ctx.saved_tensors
        wide, rows = read.dtype, _rows(dy)
        inputs, weights, dy = [t.to(wide) for t in by_token], (decay.to(wide), first.to(wide)), dy.to(wide)
        into, of_states = [torch.empty_like(t) for t in inputs], dh.new_empty(2, *dh.shape)
        of_weights = dh.new_empty(2, math.ceil(len(dy) / rows), len(decay))

        def run(start: int) -> None:
            group = slice(start, start + rows)
            *of_tokens, of_read = (t[group].transpose(0, 1) for t in (*inputs, *into, dy))
            before = read[:, group], states[:, :, group]
            gradients = group_gradients(of_tokens[:4], weights, *before, BLOCK, of_read, dh[:, group], of_tokens[4:])
            of_weights[:, start // rows], of_states[:, :, group] = torch.stack(gradients[:2]), torch.stack(gradients[2:])

        on_threads(run, range(0, len(dy), rows), dy.device)
        return (*into, *of_weights.sum(1), *of_states)


def _rows(values: Tensor) -> int:
    """The number of rows in a group."""
    return max(1, _ROWS // values[0, 0].numel()) if values.device.type == "cpu" else len(values)


def _in_groups(
    written: Pair, bonus: Pair, decay: Tensor, first: Tensor, read: State, carried: State, states: Tensor | None = None
) -> tuple[Tensor, State]:
    """In groups of rows. The grouping does not change the values. ``states`` takes those that are carried to every block."""
    key = bonus[0]
    y, last = torch.empty_like(key), torch.empty(3, *carried[0].shape, dtype=carried[0].dtype, device=key.device)
    rows = _rows(key)

    def run(start: int) -> None:
        group = slice(start, start + rows)
        (wk, wv), (k, v) = ((keys[group], values[group]) for keys, values in (written, bonus))
        seen, continued = ((h[0][group], h[1][group], h[2][group]) for h in (read, carried))
        kept = None if states is None else states[:, :, group]
        y[group], end = _tokens((wk, wv), (k, v), decay, first, seen, continued, kept)
        last[:, group] = torch.stack(end)

    on_threads(run, range(0, len(key), rows), key.device)
    return y, _three(last)


def _tokens(
    written: Pair, bonus: Pair, decay: Tensor, first: Tensor, read: State, carried: State, states: Tensor | None = None
) -> tuple[Tensor, State]:
    y = []
    columns = (t.unbind(1) for t in (*written, *bonus))
    for t, (write_key, write_value, key, value) in enumerate(zip(*columns, strict=True)):
        if states is not None and t % BLOCK == 0:
            states[t // BLOCK] = torch.stack(carried)
        y.append(_read_by(read, key.to(carried[0].dtype), value, first).to(key.dtype))
        read = carried = _after(carried, decay, write_key.to(carried[0].dtype), write_value)
    return torch.stack(y, 1), carried


def _read_by(state: State, key: Tensor, value: Tensor, first: Tensor) -> Tensor:
    """The value that a token reads, or that each of several readers reads [row, reader, channel]."""
    numerator, denominator, maximum = state if key.dim() == 2 else (part[:, None] for part in state)
    return _read_out((numerator, denominator, maximum), key + first, value)


def _read_out(state: State, key: Tensor, value: Tensor) -> Tensor:
    numerator, denominator = _joined(state, key, value)[:2]
    return numerator / denominator


def _after(state: State, decay: Tensor, key: Tensor, value: Tensor) -> State:
    numerator, denominator, maximum = state
    return _joined((numerator, denominator, maximum + decay), key, value)


def _joined(state: State, key: Tensor, value: Tensor) -> State:
    """Add one value with the weight exp(key) to the state, scaled by the larger of the two exponents so that nothing overflows."""
    numerator, denominator, maximum = state
    top = torch.maximum(maximum, key)
    old, new = torch.exp(maximum - top), torch.exp(key - top)
    return old * numerator + new * value, old * denominator + new, top
