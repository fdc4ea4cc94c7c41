"""What the layers of RWKV-7 share beside the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class FirstValue:
    """Layer 0's values [batch, pos, d_model], which it leaves here for all later layers. If tokens are packed, ``tokens`` says which
    these are.

    >>> FirstValue().value is None
    True
    """

    value: Tensor | None = None
    tokens: Any = None
