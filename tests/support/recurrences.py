"""The three recurrences token by token, as they are written, so that autograd gives their gradients; and random inputs of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuitry.models.scan import scan
from circuitry.models.ssd import ssd
from circuitry.models.wkv import wkv

AtStop = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Recurrence:
    """``ours`` and ``plain`` are functions of the same tensors, stops and at_stop; ``draw``, of seed, rows and tokens, makes them."""

    ours: Callable[..., Tensor]
    plain: Callable[..., Tensor]
    draw: Callable[[int, int, int], list[Tensor]]


def _unchanged(h: Tensor) -> tuple[Tensor, Tensor]:
    return h, h


def plain_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor, stops: Any = (), at_stop: AtStop = _unchanged
) -> Tensor:
    y = []
    for t in range(u.shape[1]):
        h = torch.exp(delta[:, t, :, None] * A) * h + (delta * u)[:, t, :, None] * B[:, t, None]
        read, h = at_stop(h) if t in stops else (h, h)
        y.append((read * C[:, t, None]).sum(-1))
    return torch.stack(y, 1)


def plain_ssd(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, h: Tensor, stops: Any = (), at_stop: AtStop = _unchanged
) -> Tensor:
    y = []
    for t in range(x.shape[1]):
        written = delta[:, t, :, None, None] * x[:, t, :, :, None] * B[:, t, :, None]
        h = torch.exp(delta[:, t] * A)[:, :, None, None] * h + written
        read, h = at_stop(h) if t in stops else (h, h)
        y.append((read * C[:, t, :, None]).sum(-1))
    return torch.stack(y, 1)


def plain_wkv(
    written: Sequence[Tensor],
    bonus: Sequence[Tensor],
    decay: Tensor,
    first: Tensor,
    stops: Any = (),
    at_stop: AtStop = _unchanged,
) -> Tensor:
    zero = torch.zeros_like(bonus[0][:, 0])
    read = carried = (zero, zero, zero - 1e38)
    y = []
    for t in range(bonus[0].shape[1]):
        numerator, denominator, _ = _added(read, bonus[0][:, t] + first, bonus[1][:, t])
        y.append(numerator / denominator)
        above, below, largest = carried
        read = carried = _added((above, below, largest + decay), written[0][:, t], written[1][:, t])
        if t in stops:
            read, carried = ((h[..., 0], h[..., 1], h[..., 2]) for h in at_stop(torch.stack(carried, -1)))
    return torch.stack(y, 1)


def _added(state: tuple[Tensor, Tensor, Tensor], key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    above, below, largest = state
    top = torch.maximum(largest, key)
    old, new = torch.exp(largest - top), torch.exp(key - top)
    return old * above + new * value, old * below + new, top


def _random(seed: int) -> Callable[..., Tensor]:
    make = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=make, dtype=torch.float64)


def _draw_scan(seed: int, rows: int, length: int) -> list[Tensor]:
    draw = _random(seed)
    by_channel = [draw(rows, length, 3), draw(rows, length, 3).exp()]
    return [*by_channel, -draw(3, 2).exp(), draw(rows, length, 2), draw(rows, length, 2), draw(rows, 3, 2)]


def _draw_ssd(seed: int, rows: int, length: int) -> list[Tensor]:
    draw = _random(seed)
    values = [draw(rows, length, 2, 3), draw(rows, length, 2).exp(), -draw(2).exp()]
    return [*values, draw(rows, length, 2, 2), draw(rows, length, 2, 2), draw(rows, 2, 3, 2)]


def _draw_wkv(seed: int, rows: int, length: int) -> list[Tensor]:
    draw = _random(seed)
    return [*(2 * draw(rows, length, 3) for _ in range(4)), -0.3 * draw(3).exp(), draw(3)]


def _with_start(scan: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: scan(*given[:5], *given[6:], h0=given[5])


def _in_pairs(wkv: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: wkv(given[:2], given[2:4], *given[4:])


RECURRENCES = {
    "scan": Recurrence(_with_start(scan), plain_scan, _draw_scan),
    "ssd": Recurrence(_with_start(ssd), plain_ssd, _draw_ssd),
    "wkv": Recurrence(_in_pairs(wkv), _in_pairs(plain_wkv), _draw_wkv),
}
