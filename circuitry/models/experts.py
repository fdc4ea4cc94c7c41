"""Mixtures of experts in float64."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .gates import replace_forward, stock_forward

_CASTS = (Tensor.to, Tensor.type, Tensor.float)


class Unrounded(TorchFunctionMode):
    """Within this context a cast of float64 to float32 does nothing.

    >>> with Unrounded():
    ...     torch.ones(1, dtype=torch.float64).float().dtype
    torch.float64
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch calls this in the place of each of its functions."""
        out = func(*args, **(kwargs or {}))
        rounded = func in _CASTS and args[0].dtype == torch.float64 and out.dtype == torch.float32
        return args[0] if rounded else out


def in_float64(model: Any, blocks: Iterable[Any]) -> None:
    """Let the MLPs ``blocks`` of a float64 model that have experts choose them in float64, and run them one after the other.

    Many stock routers compute in float32, and the rounding of such a product depends on which other tokens are in the batch. The
    grouped products of experts stop at float32.

    >>> from transformers import MixtralConfig, MixtralForCausalLM
    >>> sizes = {"hidden_size": 4, "intermediate_size": 8, "num_attention_heads": 1, "num_key_value_heads": 1}
    >>> hf = MixtralForCausalLM(MixtralConfig(vocab_size=9, num_hidden_layers=1, **sizes)).double()
    >>> in_float64(hf, [hf.model.layers[0].mlp])
    >>> hf(torch.zeros(1, 2, dtype=int)).logits.dtype
    torch.float64
    """
    model.set_experts_implementation("eager")
    for block in blocks:
        if hasattr(block, "experts") and not hasattr(block, "circuitry_stock"):
            replace_forward(block, _unrounded)


def _unrounded(self: Any, *args: Any, **options: Any) -> Any:
    with Unrounded():
        return stock_forward(self)(*args, **options)
