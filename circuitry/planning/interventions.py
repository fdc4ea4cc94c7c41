"""Interventions: what a source becomes when it is patched. No other code compares their names.

An entry either takes the value that the node has on the source input, or says how to make one that all examples share.
Makers work with whatever tensors an executor passes, so this module imports no torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ..errors import CircuitryError, suggest
from ..html.shown import Shown

if TYPE_CHECKING:
    from markupsafe import Markup


class Source(Protocol):
    """What a maker may ask about the node that it makes a value for, at the position where the value is written."""

    def mean(self) -> Any:
        """The node's mean over the corrupted prompts: [...] of its own shape, [position, ...] if it is written at every position."""
        ...


Maker: TypeAlias = Callable[[Source, Any], Any]
"""(source, the value that the user gave) -> a number, or a tensor of the node's shape."""


@dataclass(frozen=True, eq=False)
class Intervention(Shown):
    """What a source becomes.

    ``phrase`` names the new value in ``explain`` and reports. Without ``make``, it is the node's value on the source input.
    ``by_position``: the made value has an entry for every position, padding included. ``needs_value``: it is made from a
    ``value`` that the user gives.

    >>> import circuitry as ct
    >>> negated = Intervention("negated", "the mean over the corrupted prompts, negated", lambda source, _: -source.mean())
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> ct.patch(model, task, "gate[0] @ END -> logits", intervention=negated, lint=False).provenance["intervention"]
    'negated'
    """

    name: str
    phrase: str
    make: Maker | None = None
    by_position: bool = True
    needs_value: bool = False
    value: Any = None

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_intervention

        return of_intervention(self)

    @property
    def from_source(self) -> bool:
        """Whether the values come from the source input.

        >>> INTERVENTIONS["resample"].from_source, INTERVENTIONS["zero"].from_source
        (True, False)
        """
        return self.make is None

    def of(self, value: Any) -> Intervention:
        """The same intervention with a value. Raises CircuitryError if it takes none.

        >>> INTERVENTIONS["zero"].of(2.0)
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: intervention 'zero' takes no value; use ct.given(2.0)
        """
        if not self.needs_value:
            raise CircuitryError(f"intervention {self.name!r} takes no value; use ct.given({_shown(value)})")
        return replace(self, value=value)

    def __str__(self) -> str:
        return f"{self.name}({_shown(self.value)})" if self.needs_value else self.name

    __repr__ = __str__


INTERVENTIONS: dict[str, Intervention] = {
    entry.name: entry
    for entry in (
        Intervention("resample", "the value it has on the source prompt of the pair (resample ablation)", by_position=False),
        Intervention("zero", "zeros (zero ablation)", lambda source, value: 0.0, by_position=False),
        Intervention("mean", "its mean over the corrupted prompts (mean ablation)", lambda source, value: source.mean()),
        Intervention("given", "a given value", lambda source, value: value, needs_value=True),
    )
}
"""By name: what ``intervention=`` takes as text. A name added here is known to ``patch`` and to the command line."""

RESAMPLE = INTERVENTIONS["resample"]


def given(value: Any) -> Intervention:
    """The intervention that puts a custom value in place: a number, or a tensor of the node's shape.

    A tensor may have one value for every position before that, [position, ...]; it is the same in all examples.

    >>> import circuitry as ct
    >>> ct.given(2.0)
    given(2.0)
    """
    return INTERVENTIONS["given"].of(value)


def intervention(what: Intervention | str) -> Intervention:
    """An intervention by name; an Intervention is returned as it is. Raises CircuitryError for an unknown name or a missing value.

    >>> intervention("zero").phrase
    'zeros (zero ablation)'
    >>> intervention("given")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: intervention 'given' needs a value: ct.given(2.0), or ct.given(a tensor of the node's shape)
    """
    if not isinstance(what, Intervention):
        if not isinstance(what, str) or what not in INTERVENTIONS:
            raise CircuitryError(f"no intervention {what!r}; {suggest(str(what), INTERVENTIONS)}")
        what = INTERVENTIONS[what]
    if what.needs_value and what.value is None:
        raise CircuitryError(
            f"intervention {what.name!r} needs a value: ct.given(2.0), or ct.given(a tensor of the node's shape)"
        )
    return what


def _shown(value: Any) -> str:
    """A value in one word. A tensor is its shape with a digest, so that saved tables distinguish two tensors."""
    if not getattr(value, "shape", None):
        return str(value)
    numbers = value.tolist()
    return f"{'x'.join(map(str, value.shape))} {hashlib.sha256(repr(numbers).encode()).hexdigest()[:8]}"
