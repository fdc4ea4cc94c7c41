"""Names that tell two tables apart: the first entry of their records that differs, without what is the same."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from ..prompting.record import option, settings, text, title

KEYS = ("model", "task", "path", "intervention", "base", "unit", "title")
"""The entries that are compared, in order; ``base`` is the input that is patched, clean or corrupted."""


def told_apart(first: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[str, str]:
    """Two names from the records of two tables: the models, the options of the tasks, or the words that differ in another entry.

    >>> told_apart(*({"task": {"name": "ioi", "options": {"order": order}, "seed": 0}} for order in ("both", "ABBA")))
    ("order='both'", "order='ABBA'")
    >>> told_apart({"path": "h[{layer}] @ B+1 -> logits"}, {"path": "h[{layer}] @ B+2 -> logits"})
    ('B+1', 'B+2')
    >>> told_apart({}, {})
    ('first', 'second')
    """
    for key in KEYS:
        first_text, second_text = (
            text(provenance.get(key)) if key == "task" else str(provenance.get(key) or "") for provenance in (first, second)
        )
        if first_text and second_text and first_text != second_text:
            names = (
                _options(first[key], second[key])
                if key == "task"
                else _words(first_text, second_text)
                if key != "model"
                else (first_text, second_text)
            )
            return names if all(names) else (first_text, second_text)
    return "first", "second"


def _options(first: Any, second: Any) -> tuple[str, str]:
    """What differs between two tasks: their names, or the options that only one of them has; empty if one has no other options."""
    if not (isinstance(first, Mapping) and isinstance(second, Mapping)):
        return "", ""  # several tasks, or an old record: the whole text tells them apart
    if title(first) != title(second):
        return title(first), title(second)
    ours, theirs = ([option(name, values) for name, values in settings(task).items()] for task in (first, second))
    return ", ".join(o for o in ours if o not in theirs), ", ".join(o for o in theirs if o not in ours)


def _words(first: str, second: str) -> tuple[str, str]:
    """Two texts without the words that both begin or end with; empty if one of them has no other words."""
    words = first.split(), second.split()
    start = _alike(*words)
    end = _alike(*(side[start:][::-1] for side in words))
    first, second = (" ".join(side[start : len(side) - end]).strip(",;") for side in words)
    return first, second


def _alike(first: list[str], second: list[str]) -> int:
    """How many words two lists begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))
