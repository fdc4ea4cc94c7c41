"""The definition of a task, from a file in ``tasks/`` or from a table of prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import several
from .prompts import Prompts


@dataclass(frozen=True)
class TaskDefinition:
    """The one constant of a file in ``tasks/``.

    ``make(vocabulary, rng, **options)`` returns Prompts; ``options`` are its keyword arguments with their defaults. ``positions``
    are the names of token positions, and ``sweep`` those over which an open position axis runs. ``copied``: the linter requires
    the answer in the prompt; False for a task whose prompt does not contain it, such as a fact. ``metrics``: the task's own
    metrics by name, each a function from the vocabulary to a metric for ``circuitry.patch``. ``examples`` is the default number
    of prompts; ``source`` distinguishes two tasks of one name.
    Raises CircuitryError if positions or sweep is text instead of a list.
    """

    name: str
    description: str
    make: Callable[..., Prompts]
    positions: tuple[str, ...]
    sweep: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    copied: bool = True
    metrics: Mapping[str, Callable[[Any], Callable[..., Any]]] = field(default_factory=dict)
    examples: int = 128
    source: str = ""

    def __post_init__(self) -> None:
        several(f"positions of task {self.name!r}", self.positions)
        several(f"sweep of task {self.name!r}", self.sweep)
