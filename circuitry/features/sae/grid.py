"""The trainings of a sweep: all combinations of the values of its settings."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import CircuitryError
from .objectives import OBJECTIVES
from .recipe import Recipe

STREAM = ("batch", "order")
"""Settings that make other batches: trainings in which these differ need a pass each."""


@dataclass(frozen=True)
class Variant:
    """One training: its recipe, the seed of its weights, and the size and order of its batches. ``varied`` distinguishes it from others."""

    recipe: Recipe
    seed: int
    batch: int
    order: int
    varied: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its folder.

        >>> grid(None, {"l1": [1.0, 2.0]}, 1024)[1].name
        'l1=2.0'
        """
        return ",".join(f"{name}={value}" for name, value in self.varied.items()) or "all"


def grid(preset: str | None, settings: Mapping[str, Any], batch: int) -> list[Variant]:
    """A variant for every combination of values; a list or tuple has several, anything else is one value.

    ``settings`` are those of ``Recipe``, ``seed``, ``order`` and ``batch``. A setting that one kind does not use is left out for
    that kind if another kind of the sweep uses it. Raises CircuitryError for an unknown setting, or an empty list.

    >>> [variant.name for variant in grid(None, {"kind": ["relu", "topk"], "l1": [1, 2], "k": 8}, 1024)]
    ['kind=relu,l1=1', 'kind=relu,l1=2', 'kind=topk']
    """
    values = {name: list(value) if isinstance(value, list | tuple) else [value] for name, value in settings.items()}
    if empty := [name for name, several in values.items() if not several]:
        raise CircuitryError(f"{empty[0]} has no values; give at least one, or leave it out")
    kinds, kept = values.get("kind", [Recipe.kind]), dict[str, Variant]()
    used = {name for kind in kinds if kind in OBJECTIVES for name in OBJECTIVES[kind].reads}
    for combination in itertools.product(*values.values()):
        chosen = dict(zip(values, combination, strict=True))
        objective = OBJECTIVES.get(chosen.get("kind", Recipe.kind))
        idle = used - {*objective.reads} if objective else set()
        chosen = {name: value for name, value in chosen.items() if name not in idle}
        varied = {name: value for name, value in chosen.items() if len(values[name]) > 1}
        seed, order, size = (chosen.pop(name, usual) for name, usual in (("seed", 0), ("order", 0), ("batch", batch)))
        variant = Variant(Recipe.of(preset, **chosen), seed, size, order, varied)
        kept[variant.name] = variant  # without the settings that its kind does not use, a combination may come twice
    return list(kept.values())
