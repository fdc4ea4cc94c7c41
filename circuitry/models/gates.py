"""Modules with a forward of ours: on the class, so that it stays theirs whoever wraps the module, and a gate around each block.

A gate lets a block compute only the tokens for which it gives something new (``packed.Inside``); outside of such a run it does nothing.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from .packed import Inside

PACKED = "circuitry_packed"
"""What a gated block is told for one run."""


def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Give one module another forward. ``stock_forward`` is what it had.

    >>> module = nn.Identity()
    >>> replace_forward(module, lambda self, x: stock_forward(self)(x) + 1)
    >>> module(torch.zeros(1)).item(), type(module).__name__
    (1.0, 'Identity')
    """
    _become(module, _with(cast(Any, type(module)), forward))


def _become(module: Any, kind: Any) -> None:
    """Change a module's class, also where accelerate has kept the forward of the one it had, to call it between its hooks."""
    module.__class__ = kind
    if "_old_forward" in vars(module):
        module._old_forward = types.MethodType(kind.forward, module)


@functools.cache
def _with(stock: Any, forward: Callable[..., Any]) -> type:
    return type(stock.__name__, (stock,), {"forward": forward, "circuitry_stock": stock, "__module__": stock.__module__})


def stock_forward(module: Any) -> Callable[..., Any]:
    """The forward that ``replace_forward`` replaced.

    >>> module = nn.Identity()
    >>> replace_forward(module, lambda self, x: x + 1)
    >>> stock_forward(module)(torch.zeros(1)).item()
    0.0
    """
    return functools.partial(module.circuitry_stock.forward, module)


class Gate:
    """Stands before a block's class."""

    circuitry_packed: Inside | None = None

    def forward(self, *args: Any, **options: Any) -> Any:
        """The block's forward, of the tokens that are live in it; of the others, what their base row has."""
        inside = self.circuitry_packed
        if inside is None:
            return super().forward(*args, **options)  # type: ignore[misc]
        name = None if args else next(iter(options))
        x = args[0] if name is None else options[name]
        batch, size = (inside.batch, inside.position), inside.tokens.length
        given = x if inside.live is None else x[:, inside.live]
        rest = [_of_tokens(value, *batch, size) for value in args[1:]]
        named = {key: given if key == name else _of_tokens(value, *batch, size) for key, value in options.items()}
        made = super().forward(*([] if name else [given]), *rest, **named)  # type: ignore[misc]
        if inside.out is None:
            return made
        return (made[0][:, inside.out], *made[1:]) if isinstance(made, tuple) else made[:, inside.out]


def _of_tokens(value: Any, batch: Tensor, position: Tensor, length: int) -> Any:
    """What a block is told of every position of every row, such as rotary embeddings, as it is of these tokens. Masks stay as they are."""
    if isinstance(value, tuple | list):
        return type(value)(_of_tokens(one, batch, position, length) for one in value)
    if not isinstance(value, Tensor) or value.dim() not in (2, 3) or value.shape[1] != length:
        return value
    return value[batch if len(value) > 1 else torch.zeros_like(batch), position][None]


@functools.cache
def _gated(stock: Any) -> type:
    return type(stock.__name__, (Gate, stock), {"__module__": stock.__module__})


def put_gate(module: nn.Module) -> None:
    """Put a gate before a block, once.

    >>> block = nn.Linear(2, 2)
    >>> put_gate(block)
    >>> isinstance(block, Gate), isinstance(block, nn.Linear)
    (True, True)
    """
    if not isinstance(module, Gate):
        _become(module, _gated(cast(Any, type(module))))


@dataclass(frozen=True)
class Wanted:
    """The logits that are wanted: of the first ``count`` tokens, and of each of these only ``columns`` [token, n], or all (None)."""

    count: int
    columns: Tensor | None


class Narrow:
    """Stands before the class of an output layer that may be asked for a few of its logits."""

    circuitry_packed: Wanted | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[batch, token, vocabulary], or [1, token, column] of what is wanted."""
        wanted = self.circuitry_packed
        if wanted is None:
            return super().forward(x)  # type: ignore[misc,no-any-return]
        x = x.flatten(0, 1)[None, : wanted.count]  # a model may have cut packed tokens into rows again
        if wanted.columns is None:
            return super().forward(x)  # type: ignore[misc,no-any-return]
        weight, bias = self.weight[wanted.columns], getattr(self, "bias", None)  # type: ignore[attr-defined]
        made = (weight @ x[0, :, :, None])[None, ..., 0]
        return made if bias is None else made + bias[wanted.columns]  # type: ignore[no-any-return]


@functools.cache
def _narrowed(stock: Any) -> type:
    return type(stock.__name__, (Narrow, stock), {"__module__": stock.__module__})


def put_narrow(module: nn.Module) -> None:
    """Let an output layer be asked for a few of its logits.

    >>> layer = nn.Linear(2, 5, bias=False)
    >>> put_narrow(layer)
    >>> x, whole = torch.ones(1, 1, 2), layer(torch.ones(1, 1, 2))
    >>> layer.circuitry_packed = Wanted(1, torch.tensor([[3, 1]]))
    >>> bool(torch.allclose(layer(x), whole[..., [3, 1]]))
    True
    """
    if not isinstance(module, Narrow):
        _become(module, _narrowed(cast(Any, type(module))))
