"""What a task shows in a notebook: what it asks, its options and its positions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..html.output import caption, facts, heading

if TYPE_CHECKING:
    from .task import Task


def of_task(task: Task) -> Iterator[Markup]:
    """The description of a task, its options and its positions.

    >>> import circuitry as ct
    >>> "<dt>distance</dt><dd>8</dd>" in "".join(of_task(ct.task("induction", distance=8)))
    True
    """
    definition = task.definition
    yield heading(f"task {definition.name}", definition.source)
    yield caption(definition.description)
    yield facts([
        ("examples", task.examples),
        ("seed", task.seed),
        *((name, repr(value)) for name, value in task.options.items()),
        ("positions", ", ".join(definition.positions)),
        ("swept positions", ", ".join(definition.sweep)),
        ("own metrics", ", ".join(definition.metrics)),
    ])  # fmt: skip
