"""The kinds of instrumentation that an architecture may name: how each is attached to its blocks, and how much memory it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import attention, delta_rule, gated_attention, linear_state, mamba, mamba2, rwkv, rwkv7, ssd
from .scan import BLOCK


@dataclass(frozen=True)
class Instrumentation:
    """``attach(model, blocks)`` adds the hook points and checks them. ``values(config, length)`` is the peak number of values that
    one row of ``length`` tokens has in one block. ``chunk`` is how many tokens the scan takes at a time, 0 without a scan."""

    attach: Callable[[Any, list[Any]], None]
    values: Callable[[Any, int], int]
    chunk: int = 0


INSTRUMENTATION = {
    "attention": Instrumentation(attention.attach, attention.values),
    "gated_attention": Instrumentation(gated_attention.attach, attention.values),
    "mamba": Instrumentation(mamba.attach, mamba.values, BLOCK),
    "mamba2": Instrumentation(mamba2.attach, mamba2.values, ssd.CHUNK),
    "linear_state": Instrumentation(linear_state.attach, linear_state.values, delta_rule.CHUNK),
    "rwkv": Instrumentation(rwkv.attach, rwkv.values),
    "rwkv7": Instrumentation(rwkv7.attach, rwkv7.values, delta_rule.CHUNK_BY_CHANNEL),
}
