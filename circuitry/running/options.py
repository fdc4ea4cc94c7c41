"""What ``patch`` is asked for, checked before anything runs: numbers in their range, and no option that would have no effect."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from ..errors import CircuitryError, no_effect

RANDOM_NODES = 16
"""Random nodes that every table is compared with."""
MEMORY = "512MiB"
"""Bound for one batch, if none is given."""


def whole(name: str, value: Any, least: int = 0) -> int:
    """A whole number from ``least`` up. Raises CircuitryError for anything else.

    >>> whole("baseline", -1)
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: baseline must be at least 0, got -1
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise CircuitryError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise CircuitryError(f"{name} must be at least {least}, got {value}")
    return int(value)


def check_given(model: Any, task: Any) -> None:
    """Refuse a name in place of what it names.

    >>> check_given("bundled:mamba", None)
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: the model is the text 'bundled:mamba'; load it first: ct.load('bundled:mamba')
    """
    for what, given, how in (("model", model, "load"), ("task", task, "task")):
        if isinstance(given, str):
            make = "load it first" if how == "load" else "make it first"
            raise CircuitryError(f"the {what} is the text {given!r}; {make}: ct.{how}({given!r})")


def check_axis(path: Any, axis: str) -> None:
    """Refuse a name for the labels of several paths where there is one path.

    >>> check_axis("mlp[0] -> logits", "port")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: axis='port' has no effect: it names the labels of several paths, and there is one; give paths by label, or leave axis out
    """
    if not isinstance(path, Mapping) and axis != "path":
        why = "it names the labels of several paths, and there is one"
        raise no_effect("axis", axis, why, "give paths by label, or leave axis out")


def random_nodes(engine: str, baseline: int | None, seed: int, verify: int, memory: Any) -> int:
    """How many random nodes are patched beside the path. Raises CircuitryError for numbers out of range and idle options.

    >>> random_nodes("nnsight", None, 0, 0, None), random_nodes("reference", None, 0, 0, None)
    (16, 0)
    >>> random_nodes("reference", None, 0, 3, None)
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: verify=3 has no effect: engine='reference' is what it compares with; use engine='nnsight', or leave verify out
    """
    count, seed, verify = (
        whole("baseline", RANDOM_NODES if baseline is None else baseline),
        whole("seed", seed),
        whole("verify", verify),
    )
    if engine == "reference":
        count = 0 if baseline is None else count
        for name, value, why in (
            ("verify", verify, "engine='reference' is what it compares with"),
            ("baseline", count, "engine='reference' patches no random nodes"),
            ("memory", memory, "engine='reference' runs one cell at a time, with all examples at once"),
        ):
            if value:
                raise no_effect(name, value, why, f"use engine='nnsight', or leave {name} out")
    if seed and not count:
        raise no_effect("seed", seed, "it draws random nodes, and there are none", "ask for baseline=16, or leave seed out")
    return count
