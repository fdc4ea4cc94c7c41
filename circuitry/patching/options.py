"""Options of ``patch`` that are checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import CircuitryError, no_effect, whole

RANDOM_NODES = 16
"""How many random nodes a table is compared with by default."""


@dataclass(frozen=True)
class RandomNodes:
    """How many random nodes are patched beside a path, and the seed that they are drawn with."""

    count: int = RANDOM_NODES
    seed: int = 0


def random_nodes(count: int = RANDOM_NODES, seed: int = 0) -> RandomNodes:
    """Random nodes that a table is compared with, drawn with the given seed: ``baseline=ct.random_nodes(16, seed=3)``.

    Raises CircuitryError for numbers out of range, and for a seed if there is nothing to draw.

    >>> random_nodes(0, seed=3)
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: seed=3 has no effect: it draws random nodes, and there are none; ask for 16, or leave seed out
    """
    nodes = RandomNodes(whole("baseline", count), whole("seed", seed))
    if nodes.seed and not nodes.count:
        raise no_effect("seed", nodes.seed, "it draws random nodes, and there are none", "ask for 16, or leave seed out")
    return nodes


def check_given(model: Any, task: Any) -> None:
    """Refuse the name of a model or a task in place of the model or task.

    >>> check_given("bundled:mamba", None)
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: the model is the text 'bundled:mamba'; load it first: ct.load('bundled:mamba')
    """
    for kind, value, function in (("model", model, "load"), ("task", task, "task")):
        if isinstance(value, str):
            make = "load it first" if function == "load" else "make it first"
            raise CircuitryError(f"the {kind} is the text {value!r}; {make}: ct.{function}({value!r})")
