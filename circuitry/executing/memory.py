"""Bounds of memory, as people write them."""

from __future__ import annotations

import math
import re
from numbers import Real

from ..errors import CircuitryError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_memory(memory: float | str) -> int:
    """Bytes of a number or of text such as "512MiB" or "2GB" (powers of 1024).

    Raises CircuitryError for anything else.

    >>> parse_memory("2GiB") == 2 << 30, parse_memory(1e9)
    (True, 1000000000)
    """
    amount: float = math.nan
    if isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", memory.lower())
        amount = float(int(float(match[1]) * _UNITS[match[2]])) if match else math.nan
    elif isinstance(memory, Real) and not isinstance(memory, bool):
        amount = float(memory)
    if not (math.isfinite(amount) and amount >= 1 and amount == int(amount)):
        raise CircuitryError(f"memory={memory!r}: expected a number of bytes, or text such as '512MiB' or '2GB'")
    return int(amount)


def in_words(count: int) -> str:
    """A number of bytes, as people read it.

    >>> in_words(900 << 20), in_words(3 << 29), in_words(2048)
    ('900 MiB', '1.5 GiB', '2 KiB')
    """
    unit = next((unit for unit in ("GiB", "MiB") if count >= _UNITS[unit[0].lower()]), "KiB")
    return f"{count / _UNITS[unit[0].lower()]:.3g} {unit}"
