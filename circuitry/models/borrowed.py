"""A module that a caller built: borrowed while models use it, then restored to exactly its earlier state."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch

from ..errors import ModelError
from .spread import is_spread

_HERE = "circuitry_borrowed"
_MADE_OF = ("_modules", "_parameters", "_buffers")


class Borrowed:
    """What a module is when it comes: everything that loading, nnsight or a change of dtype puts elsewhere or adds.

    The class and the attributes of every module (its mode, its submodules), of every config, and the data of every tensor: a
    change of dtype gives a parameter other data, so the original ones are kept and not computed back. ``holders`` are the
    models made of it; the last one that is released gives it back.
    """

    def __init__(self, hf: Any) -> None:
        modules = list(hf.modules())
        self._classes = [(m, type(m)) for m in modules]
        self._modules = [(vars(m), dict(vars(m)), {name: dict(vars(m)[name]) for name in _MADE_OF}) for m in modules]
        configs = {id(c): c for m in modules for c in _configs(getattr(m, "config", None))}
        self._configs = [(vars(config), dict(vars(config))) for config in configs.values()]
        tensors = (*hf.parameters(), *hf.buffers())
        self._tensors = [(t, t.data, t.grad, None if t.grad is None else t.grad.data) for t in tensors]
        self.holders: weakref.WeakSet[Any] = weakref.WeakSet()

    def give_back(self) -> None:
        """Put everything back.

        >>> module = torch.nn.Linear(2, 2)
        >>> kept = Borrowed(module)
        >>> _ = module.double().eval()
        >>> kept.give_back()
        >>> module.weight.dtype, module.training
        (torch.float32, True)
        """
        for module, stock in self._classes:
            module.__class__ = stock
        for attributes, before, parts in self._modules:
            attributes.clear()
            attributes.update(before)
            for name, part in parts.items():
                before[name].clear()
                before[name].update(part)
        for attributes, before in self._configs:
            attributes.clear()
            attributes.update(before)
        for tensor, data, grad, grad_data in self._tensors:
            tensor.grad = None  # a gradient must have its tensor's dtype
            tensor.data = data
            if grad is not None:
                grad.data = grad_data
                tensor.grad = grad

    def release(self, model: Any = None) -> None:
        """Drop one of the models that use the module; when none is left, the module is given back.

        >>> Borrowed(torch.nn.Linear(2, 2)).release()
        """
        if model is not None:
            self.holders.discard(model)
        if not self.holders:
            self.give_back()

    def move(self, hf: Any, dtype: torch.dtype | None, device: torch.device | str | None) -> None:
        """Give the module the dtype and the device that are asked for; None leaves what it has.

        Raises ModelError if a model already uses it with another dtype or device, or if accelerate has spread it.

        >>> module = torch.nn.Linear(2, 2)
        >>> Borrowed(module).move(module, torch.float64, None)
        >>> module.weight.dtype
        torch.float64
        """
        wanted: dict[str, Any] = {name: value for name, value in (("dtype", dtype), ("device", device)) if value is not None}
        if self.holders and any(_differs(tensor, **wanted) for tensor in hf.parameters()):
            raise ModelError(
                f"this module is already loaded in {hf.dtype} on {hf.device}, and cannot also be loaded in "
                f"{' and '.join(map(str, wanted.values()))}; release the first model, or give each a copy of the module"
            )
        if wanted and is_spread(hf):
            raise ModelError(
                f"{type(hf).__name__} is spread over devices by accelerate, and cannot be moved to {' and '.join(map(str, wanted.values()))}; "
                "load it as it is"
            )
        if wanted:
            hf.to(**wanted)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy of the module is not borrowed."""
        return type(None), ()


def borrow(hf: Any) -> Borrowed:
    """Borrow a module, once for all models that use it; if none of them is left, it is given back and borrowed anew.

    >>> module, model = torch.nn.Linear(2, 2), torch.nn.Identity()
    >>> kept = borrow(module)
    >>> kept.holders.add(model)
    >>> borrow(module) is kept
    True
    """
    kept: Borrowed | None = vars(hf).get(_HERE)
    if kept is not None and not kept.holders:
        kept.give_back()
        kept = None
    if kept is None:
        kept = Borrowed(hf)
        vars(hf)[_HERE] = kept
    return kept


def _differs(tensor: torch.Tensor, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> bool:
    other = dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype
    return other or (device is not None and tensor.device != torch.empty(0, device=device).device)


def _configs(config: Any) -> Iterator[Any]:
    """A config and those inside it."""
    from transformers import PreTrainedConfig

    if isinstance(config, PreTrainedConfig):
        yield config
        for value in vars(config).values():
            yield from _configs(value)
