"""The kinds of instrumentation that an architecture may name: how each is attached to its blocks, and how much memory it needs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import (
    adapters,
    attention,
    delta_rule,
    gated_attention,
    linear_state,
    mamba,
    mamba2,
    rg_lru,
    rwkv,
    rwkv7,
    short_conv,
    ssd,
)
from .scan import BLOCK


@dataclass(frozen=True)
class Instrumentation:
    """``attach(model, blocks)`` adds the hook points and checks them. ``values(config, length)`` is the peak number of values that
    one row of ``length`` tokens has in one block. ``chunk`` is how many tokens the scan takes at a time, 0 without a scan."""

    attach: Callable[[Any, list[Any]], None]
    values: Callable[[Any, int], int]
    chunk: int = 0


INSTRUMENTATION = {
    "attention": Instrumentation(functools.partial(attention.attach, adapt=adapters.adapt), attention.values),
    "gated_attention": Instrumentation(gated_attention.attach, attention.values),
    "linear_state": Instrumentation(linear_state.attach, linear_state.values, delta_rule.CHUNK),
    "mamba": Instrumentation(mamba.attach, mamba.values, BLOCK),
    "mamba2": Instrumentation(mamba2.attach, mamba2.values, ssd.CHUNK),
    "rg_lru": Instrumentation(rg_lru.attach, rg_lru.values),
    "rwkv": Instrumentation(rwkv.attach, rwkv.values),
    "short_conv": Instrumentation(short_conv.attach, short_conv.values),
    "rwkv7": Instrumentation(rwkv7.attach, rwkv7.values, delta_rule.CHUNK_BY_CHANNEL),
}
