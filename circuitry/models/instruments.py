"""The instruments an architecture may ask for: how each is attached to its blocks, and how much memory its values take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import attention, mamba, mamba2, rwkv


@dataclass(frozen=True)
class Instrument:
    """``attach(model, blocks)`` puts the taps in and checks them; ``values(config, length)`` is how many numbers one row of
    ``length`` tokens has in one block at its peak."""

    attach: Callable[[Any, list[Any]], None]
    values: Callable[[Any, int], int]


INSTRUMENTS = {
    "attention": Instrument(attention.attach, attention.values),
    "mamba": Instrument(mamba.attach, mamba.values),
    "mamba2": Instrument(mamba2.attach, mamba2.values),
    "rwkv": Instrument(rwkv.attach, rwkv.values),
}
