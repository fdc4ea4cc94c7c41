"""Settings of another library's file: each is read with its type, or listed as harmless; otherwise the file is refused."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from ...errors import CircuitryError

_ABSENT: Any = object()


class Settings:
    """Settings of one file, read by name. ``done`` raises CircuitryError for those that were never read.

    ``layout`` names the kind of file ("a sparsify file"). A setting without a default is required.

    >>> given = Settings("a sparsify file", {"k": 8, "seed": 1})
    >>> given.whole("k")
    8
    >>> given.done()
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: a sparsify file with seed 1 is not read: what it does is unknown
    """

    def __init__(self, layout: str, given: Mapping[str, Any]) -> None:
        self.layout, self._left = layout, dict(given)

    def refuse(self, name: str, value: object, why: str) -> CircuitryError:
        """The error for a value of a setting."""
        return CircuitryError(f"{self.layout} with {name} {value!r} is not read: {why}")

    def take(self, name: str, default: Any = _ABSENT) -> Any:
        """A setting of any type."""
        if name not in self._left and default is _ABSENT:
            raise CircuitryError(f"{self.layout} without {name} is not read: what it computes depends on that")
        return self._left.pop(name, default)

    def whole(self, name: str, default: Any = _ABSENT) -> Any:
        """A whole number above 0, or the default."""
        value = self.take(name, default)
        if value is not default and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise self.refuse(name, value, "it must be a whole number above 0")
        return value

    def number(self, name: str, default: Any = _ABSENT) -> float:
        """A finite number of at least 0."""
        value = self.take(name, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
            raise self.refuse(name, value, "it must be a finite number of at least 0")
        return float(value)

    def flag(self, name: str, default: Any = _ABSENT) -> bool:
        """True or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, value, "it must be true or false")
        return value

    def word(self, name: str, choices: Collection[str], default: Any = _ABSENT) -> str:
        """One of the ``choices``, in upper or lower case."""
        value = self.take(name, default)
        if not isinstance(value, str) or value.lower() not in choices:
            raise self.refuse(name, value, f"{' or '.join(choices)} is")
        return value.lower()

    def only(self, name: str, *harmless: Any, why: str) -> None:
        """A setting that may be missing or have a ``harmless`` value; ``why`` says what any other value would change."""
        value = self.take(name, harmless[0])
        if not any(type(value) is type(allowed) and value == allowed for allowed in harmless):  # False == 0 is not enough
            raise self.refuse(name, value, why)

    def size(self, name: str, actual: int, *, needed: bool = False) -> None:
        """A size that must equal that of the weights, and may be missing unless ``needed``."""
        value = self.whole(name, *([] if needed else [actual]))
        if value != actual:
            raise self.refuse(name, value, f"its weights have {actual}")

    def inside(self, name: str) -> Settings:
        """The settings nested in a setting; none if it is missing."""
        value = self.take(name, None)
        if not isinstance(value, Mapping | None):
            raise self.refuse(name, value, "it must be settings by name")
        return Settings(f"{self.layout}, in {name},", value or {})

    def harmless(self, names: str) -> None:
        """Drop settings (names separated by spaces) that never change what the file computes, whatever their values."""
        for name in names.split():
            self._left.pop(name, None)

    def drop_false(self) -> None:
        """Drop settings that are false, none or empty: they switch nothing on."""
        self._left = {name: value for name, value in self._left.items() if value}

    def done(self) -> None:
        """Raise CircuitryError for any setting that is left."""
        for name, value in sorted(self._left.items()):
            raise self.refuse(name, value, "what it does is unknown")


def chosen(layout: str, weights: Mapping[str, Tensor], wanted: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors that are ``wanted`` (a mapping from names in the file to our names), by our names.

    Raises CircuitryError if one is missing, or if one is left over, since its effect is unknown.
    """
    for name, value in weights.items():
        if name not in wanted:
            raise CircuitryError(f"{layout} with a tensor {name} {tuple(value.shape)} is not read: what it does is unknown")
    if missing := sorted(wanted.keys() - weights.keys()):
        raise CircuitryError(f"{layout} without {', '.join(missing)} is not read: it must have {', '.join(wanted)}")
    for name, ours in wanted.items():
        if weights[name].ndim != (2 if ours.startswith("W_") else 1):
            raise CircuitryError(
                f"{layout} with a tensor {name} {tuple(weights[name].shape)} is not read: it has the wrong number of dimensions"
            )
    return {ours: weights[name] for name, ours in wanted.items()}
