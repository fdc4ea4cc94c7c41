"""What a file in ``tasks/`` defines, and what a table of prompts is read into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .prompts import Prompts


@dataclass(frozen=True)
class TaskDefinition:
    """The one constant of a file in ``tasks/``.

    ``make(vocabulary, rng, **options)`` returns Prompts; ``options`` are its keyword arguments with their defaults.
    ``positions`` are the names of token positions, ``sweep`` those an open position axis runs over. ``copied``: the answer
    is in the prompt, and the linter insists on it; False for what the prompt does not say, such as a fact. ``metrics``: the
    task's own metrics by name, each a function from the vocabulary to a metric as ``circuitry.patch`` takes one. ``examples``
    is their number by default; ``source`` tells two tasks of one name apart.
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
