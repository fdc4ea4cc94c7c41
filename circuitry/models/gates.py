"""Modules with a forward of ours, and a gate around each block. Both are on the class, where no wrapper overwrites them.

A gate lets a block compute only the tokens whose output it changes (``packed.Inside``). In any other run it does nothing.
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
"""The attribute that tells a block about the packed tokens of one run."""


def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> None:
    """Give one module another forward. ``stock_forward`` still returns the one it had.

    >>> module = nn.Identity()
    >>> replace_forward(module, lambda self, x: stock_forward(self)(x) + 1)
    >>> module(torch.zeros(1)).item(), type(module).__name__
    (1.0, 'Identity')
    """
    replace_method(module, "forward", forward)


def replace_method(module: nn.Module, name: str, method: Callable[..., Any]) -> None:
    """Give one module another method.

    >>> module = nn.Identity()
    >>> replace_method(module, "extra_repr", lambda self: "ours")
    >>> module
    Identity(ours)
    """
    _become(module, _with(cast(Any, type(module)), name, method))


def _become(module: Any, kind: Any) -> None:
    """Change a module's class."""
    module.__class__ = kind
    # accelerate calls the bound method that it stored here, between its hooks; it would still be the old class's forward.
    if "_old_forward" in vars(module):
        module._old_forward = types.MethodType(kind.forward, module)


@functools.cache
def _with(stock: Any, name: str, method: Callable[..., Any]) -> type:
    return type(stock.__name__, (stock,), {name: method, "circuitry_stock": stock, "__module__": stock.__module__})


def put_before(module: nn.Module, base: type) -> None:
    """Put a base class before a module's own class, once.

    >>> module = nn.Identity()
    >>> put_before(module, Gate)
    >>> [kind.__name__ for kind in type(module).mro()[:3]]
    ['Identity', 'Gate', 'Identity']
    """
    if not isinstance(module, base):
        _become(module, _preceded(base, cast(Any, type(module))))


@functools.cache
def _preceded(base: Any, stock: Any) -> type:
    return type(stock.__name__, (base, stock), {"__module__": stock.__module__})


def stock_forward(module: Any) -> Callable[..., Any]:
    """The forward that ``replace_forward`` replaced.

    >>> module = nn.Identity()
    >>> replace_forward(module, lambda self, x: x + 1)
    >>> stock_forward(module)(torch.zeros(1)).item()
    0.0
    """
    return functools.partial(module.circuitry_stock.forward, module)


class Gate:
    """A base class put before a block's own class."""

    circuitry_packed: Inside | None = None
    circuitry_rows: Tensor | None = None
    """The rows of a batch to compute, if not all; the output of the others is zero. For a block that returns one tensor."""

    def forward(self, *args: Any, **options: Any) -> Any:
        """The block's forward for the tokens that are live in it; the others take the output of their base row's token."""
        inside = self.circuitry_packed
        if inside is None:
            return self._some_rows(*args, **options) if self.circuitry_rows is not None else super().forward(*args, **options)  # type: ignore[misc]
        # The stream is the first argument, and some models pass it by name.
        name = None if args else next(iter(options))
        x = args[0] if name is None else options[name]
        batch, size = (inside.batch, inside.position), inside.tokens.length
        live = x if inside.live is None else x[:, inside.live]
        others = [_of_tokens(value, *batch, size) for value in args[1:]]
        named = {key: live if key == name else _of_tokens(value, *batch, size) for key, value in options.items()}
        out = super().forward(*([] if name else [live]), *others, **named)  # type: ignore[misc]
        if inside.out is None:
            return out
        return (out[0][:, inside.out], *out[1:]) if isinstance(out, tuple) else out[:, inside.out]

    def _some_rows(self, x: Tensor, *args: Any, **options: Any) -> Any:
        out = super().forward(x[self.circuitry_rows], *args, **options)  # type: ignore[misc]
        if isinstance(out, tuple):  # RWKV's channel mixing returns its state as well
            return (_spread(out[0], x, self.circuitry_rows), *out[1:])
        return _spread(out, x, self.circuitry_rows)


def _spread(out: Tensor, x: Tensor, rows: Tensor | None) -> Tensor:
    whole = out.new_zeros(len(x), *out.shape[1:])
    whole[rows] = out
    return whole


def _of_tokens(value: Any, batch: Tensor, position: Tensor, length: int) -> Any:
    """An argument with a value for every position of every row, such as rotary embeddings, for these tokens; others unchanged."""
    if isinstance(value, tuple | list):
        return type(value)(_of_tokens(item, batch, position, length) for item in value)
    if not isinstance(value, Tensor) or value.dim() not in (2, 3) or value.shape[1] != length:
        return value
    return value[batch if len(value) > 1 else torch.zeros_like(batch), position][None]


def put_gate(module: nn.Module) -> None:
    """Put a gate before a block, once.

    >>> block = nn.Linear(2, 2)
    >>> put_gate(block)
    >>> isinstance(block, Gate), isinstance(block, nn.Linear)
    (True, True)
    """
    put_before(module, Gate)


@dataclass(frozen=True)
class Wanted:
    """The logits to compute: of the first ``count`` tokens, and for each of these only ``columns`` [token, n], or all (None)."""

    count: int
    columns: Tensor | None


class Narrow:
    """A base class put before an output layer's own class, to compute only some of its logits."""

    circuitry_packed: Wanted | None = None
    circuitry_positions: Tensor | None = None
    """The positions [row, n] of a batch of rows whose logits are wanted; None for all."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits [batch, token, vocabulary], or only those wanted: [1, token, column], or [batch, n, vocabulary]."""
        wanted, positions = self.circuitry_packed, self.circuitry_positions
        if wanted is None:
            x = x if positions is None else x[torch.arange(len(x), device=x.device)[:, None], positions]
            return super().forward(x)  # type: ignore[misc,no-any-return]
        x = x.flatten(0, 1)[None, : wanted.count]  # a model may have cut packed tokens into rows again
        if wanted.columns is None:
            return super().forward(x)  # type: ignore[misc,no-any-return]
        weight, bias = self.weight[wanted.columns], getattr(self, "bias", None)  # type: ignore[attr-defined]
        logits = (weight @ x[0, :, :, None])[None, ..., 0]
        return logits if bias is None else logits + bias[wanted.columns]  # type: ignore[no-any-return]


def put_narrow(module: nn.Module) -> None:
    """Let an output layer compute only some of its logits.

    >>> layer = nn.Linear(2, 5, bias=False)
    >>> put_narrow(layer)
    >>> x, logits = torch.ones(1, 1, 2), layer(torch.ones(1, 1, 2))
    >>> layer.circuitry_packed = Wanted(1, torch.tensor([[3, 1]]))
    >>> bool(torch.allclose(layer(x), logits[..., [3, 1]]))
    True
    """
    put_before(module, Narrow)
