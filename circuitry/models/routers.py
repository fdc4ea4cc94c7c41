"""Routers of experts in float64: stock ones compute in float32, so a token's weights would depend on what shares its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .gates import replace_forward, stock_forward

_ROUNDS = (Tensor.type, Tensor.to, Tensor.float)


class _Unrounded(TorchFunctionMode):
    """Within this mode a float64 tensor stays what it is where it would be rounded to float32."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        to_float = function is Tensor.float or torch.float32 in args[1:]
        if function in _ROUNDS and to_float and args[0].dtype == torch.float64:
            return args[0]
        return function(*args, **(options or {}))


def _forward(self: Any, *args: Any, **options: Any) -> Any:
    with _Unrounded():
        return stock_forward(self)(*args, **options)


def compute_in_float64(model: nn.Module) -> None:
    """Let every router of a model in float64 compute in float64.

    >>> class TopKRouter(nn.Linear):
    ...     def forward(self, x):
    ...         return nn.functional.linear(x.float(), self.weight.float())
    >>> model = nn.Sequential(TopKRouter(2, 2).double())
    >>> compute_in_float64(model)
    >>> model(torch.ones(1, 2, dtype=torch.float64)).dtype
    torch.float64
    """
    for module in model.modules():
        if type(module).__name__.endswith("Router") and not hasattr(module, "circuitry_stock"):
            replace_forward(module, _forward)
