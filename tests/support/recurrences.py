"""The recurrences token by token, as they are written, so that autograd gives their gradients; and random inputs of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from circuitry.models.delta_rule import Written, delta_rule
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


def plain_delta(
    written: Written, query: Tensor, stops: Any = (), at_stop: AtStop = _unchanged, h0: Tensor | None = None
) -> Tensor:
    h, y = written.empty().expand(len(query), -1, -1, -1) if h0 is None else h0, []
    for t in range(query.shape[1]):
        key, value, erase, probe, decay = (part[:, t] for part in written.parts())
        h = decay.exp()[..., None] * h
        found = (probe[..., None] * h).sum(2)
        h = h - erase[..., None] * found[:, :, None] + key[..., None] * value[:, :, None]
        read, h = at_stop(h) if t in stops else (h, h)
        y.append((read * query[:, t, :, :, None]).sum(2))
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


def _draw_delta(decays: int) -> Callable[[int, int, int], list[Tensor]]:
    def drawn(seed: int, rows: int, length: int) -> list[Tensor]:
        draw = _random(seed)
        key, erase = (value / value.norm(dim=-1, keepdim=True) for value in (draw(rows, length, 2, 3), draw(rows, length, 2, 3)))
        written = [
            key,
            draw(rows, length, 2, 4),
            erase,
            2 * draw(rows, length, 2, 1).sigmoid() * erase + 0.1 * draw(rows, length, 2, 3),
            -0.3 * draw(rows, length, 2, decays).exp(),
        ]
        return [*written, draw(rows, length, 2, 3), draw(rows, 2, 3, 4)]

    return drawn


def _of_parts(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: rule(Written(*given[:5]), given[5], *given[7:], h0=given[6])


def _with_start(scan: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: scan(*given[:5], *given[6:], h0=given[5])


def _in_pairs(wkv: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: wkv(given[:2], given[2:4], *given[4:])


RECURRENCES = {
    "scan": Recurrence(_with_start(scan), plain_scan, _draw_scan),
    "delta": Recurrence(_of_parts(delta_rule), _of_parts(plain_delta), _draw_delta(1)),
    "delta by channel": Recurrence(_of_parts(delta_rule), _of_parts(plain_delta), _draw_delta(3)),
    "ssd": Recurrence(_with_start(ssd), plain_ssd, _draw_ssd),
    "wkv": Recurrence(_in_pairs(wkv), _in_pairs(plain_wkv), _draw_wkv),
}
