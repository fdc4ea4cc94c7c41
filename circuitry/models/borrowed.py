"""A module that a caller built: borrowed while models use it, then restored to exactly its earlier state."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Any

import torch

from ..errors import ModelError
from .spread import is_spread

_ATTRIBUTE = "circuitry_borrowed"
_PARTS = ("_modules", "_parameters", "_buffers")


class Borrowed:
    """The state of a module before it was loaded: everything that loading, nnsight or a change of dtype replaces or adds.

    That is the class and the attributes of every module (its mode, its submodules), the attributes of every config, and the data
    of every tensor. A change of dtype gives a parameter other data, so the original data is stored, not computed back.
    ``holders`` are the models that use the module; when the last one is released, the module is given back.
    """

    def __init__(self, hf: Any) -> None:
        modules = list(hf.modules())
        self._classes = [(m, type(m)) for m in modules]
        self._modules = [(vars(m), dict(vars(m)), {name: dict(vars(m)[name]) for name in _PARTS}) for m in modules]
        configs = {id(c): c for m in modules for c in _configs(getattr(m, "config", None))}
        self._configs = [(vars(config), dict(vars(config))) for config in configs.values()]
        tensors = (*hf.parameters(), *hf.buffers())
        self._tensors = [(t, t.data, t.grad, None if t.grad is None else t.grad.data) for t in tensors]
        self.holders: weakref.WeakSet[Any] = weakref.WeakSet()

    def give_back(self) -> None:
        """Put everything back.

        >>> module = torch.nn.Linear(2, 2)
        >>> borrowed = Borrowed(module)
        >>> _ = module.double().eval()
        >>> borrowed.give_back()
        >>> module.weight.dtype, module.training
        (torch.float32, True)
        """
        for module, stock in self._classes:
            module.__class__ = stock
        # ``before`` holds the original dictionaries of submodules and tensors, whose contents may have changed as well.
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
        """Give the module this dtype and this device; None leaves what it has.

        Raises ModelError if a model already uses it with another dtype or device, or if accelerate has spread it.

        >>> module = torch.nn.Linear(2, 2)
        >>> Borrowed(module).move(module, torch.float64, None)
        >>> module.weight.dtype
        torch.float64
        """
        wanted: dict[str, Any] = {name: value for name, value in (("dtype", dtype), ("device", device)) if value is not None}
        if self.holders and any(_differs(tensor, **wanted) for tensor in hf.parameters()):
            raise ModelError(
                f"this module is already loaded in {hf.dtype} on {hf.device} and cannot also be loaded in "
                f"{' and '.join(map(str, wanted.values()))}; release the first model, or give each a copy of the module"
            )
        if wanted and is_spread(hf):
            raise ModelError(
                f"{type(hf).__name__} is spread over devices by accelerate and cannot be moved to {' and '.join(map(str, wanted.values()))}; "
                "load it as it is"
            )
        if wanted:
            hf.to(**wanted)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """A copy of the module is not borrowed."""
        return type(None), ()


def borrow(hf: Any) -> Borrowed:
    """Borrow a module, once for all models that use it. If no model uses it any longer, it is given back and borrowed again.

    >>> module, model = torch.nn.Linear(2, 2), torch.nn.Identity()
    >>> borrowed = borrow(module)
    >>> borrowed.holders.add(model)
    >>> borrow(module) is borrowed
    True
    """
    borrowed: Borrowed | None = vars(hf).get(_ATTRIBUTE)
    if borrowed is not None and not borrowed.holders:
        borrowed.give_back()
        borrowed = None
    if borrowed is None:
        borrowed = Borrowed(hf)
        vars(hf)[_ATTRIBUTE] = borrowed
    return borrowed


def _differs(tensor: torch.Tensor, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> bool:
    other_dtype = dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype
    return other_dtype or (device is not None and tensor.device != torch.empty(0, device=device).device)


def _configs(config: Any) -> Iterator[Any]:
    """A config and those inside it."""
    from transformers import PreTrainedConfig

    if isinstance(config, PreTrainedConfig):
        yield config
        for value in vars(config).values():
            yield from _configs(value)
