"""Float64 models whose stock blocks round to float32: mixtures of experts, and a rotary embedding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .gates import replace_forward, stock_forward


class Unrounded(TorchFunctionMode):
    """Within this context, what would become float32 becomes float64.

    >>> with Unrounded():
    ...     print(torch.zeros(1).float().dtype, torch.zeros(1).to(torch.float32).dtype)
    torch.float64 torch.float64
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Torch calls this in the place of each of its functions."""
        wide = [torch.float64 if value is torch.float32 else value for value in args]
        named = {name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()}
        widened: Any = Tensor.double if func is Tensor.float else func
        return widened(*wide, **named)


_ROUNDING = ("DeepseekV2Attention",)
"""Attention whose rotary embedding is a product of complex numbers in single precision."""


def in_float64(model: Any, blocks: Iterable[Any]) -> None:
    """Let the MLPs ``blocks`` of a float64 model that have experts choose them in float64, and run them one after the other. So too the
    attention of types that round in it.

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
    routing = [block for block in blocks if any(map(_routes, block.modules()))]
    for block in (*routing, *(module for module in model.modules() if type(module).__name__ in _ROUNDING)):
        if not hasattr(block, "circuitry_stock"):  # once, if several models share it
            replace_forward(block, _unrounded)


def _routes(module: Any) -> bool:
    return any(word in type(module).__name__ for word in ("Router", "Experts", "TopK"))


def _unrounded(self: Any, *args: Any, **options: Any) -> Any:
    with Unrounded():
        return stock_forward(self)(*args, **options)
