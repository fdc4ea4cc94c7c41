"""Experts' routers in float64. Stock routers round to float32, whose products differ with the number of tokens that are computed at once."""

from __future__ import annotations

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

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        wide = [torch.float64 if value is torch.float32 else value for value in args]
        named = {name: torch.float64 if value is torch.float32 else value for name, value in (kwargs or {}).items()}
        widened: Any = Tensor.double if function is Tensor.float else function
        return widened(*wide, **named)


def _unrounded(self: Any, *args: Any, **options: Any) -> Any:
    with Unrounded():
        return stock_forward(self)(*args, **options)


def widen_routers(model: Any) -> None:
    """Let the routers of a model compute in float64.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> widen_routers(GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=4, n_layer=1, n_head=1)))
    """
    for module in model.modules():
        if "Router" in type(module).__name__ and not hasattr(module, "circuitry_stock"):  # once, if several models share it
            replace_forward(module, _unrounded)
