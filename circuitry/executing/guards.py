"""Checks that run with every experiment and refuse to report: a wrong number is worse than none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from ..errors import GuardError
from ..models.model import Model

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.05}
EXAMPLES = 2
"""Examples that a guard looks at."""
_CELLS = 6
NOTHING = "patching nothing does not give the unpatched run"
EVERYTHING = "patching the whole input does not give the source run"
"""What the error of a failed guard says."""


def sampled(count: int) -> list[int]:
    """The cells that a guard looks at, spread over a table.

    >>> sampled(100)
    [0, 19, 39, 59, 79, 99]
    """
    return np.unique(np.linspace(0, count - 1, _CELLS).astype(int)).tolist()  # type: ignore[no-any-return]


def check_same(model: Model, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], problem: str) -> None:
    """Raise GuardError if a value is not the expected one, up to rounding.

    >>> import circuitry as ct
    >>> check_same(ct.load("bundled:mamba"), [(torch.ones(2), torch.zeros(2))], "one is not zero")
    Traceback (most recent call last):
    circuitry.errors.GuardError: one is not zero (off by 1 of the largest value); no result is reported
    """
    for value, expected in pairs:
        scale = max(1.0, expected.abs().max().item())
        error = (value - expected).abs().max().item() / scale
        if not error <= _TOLERANCE.get(model.dtype, 2e-3):
            raise GuardError(f"{problem} (off by {error:.2g} of the largest value); no result is reported")
