"""Whether the model does the task of a table: how often the answer has the largest logit, for each of its tasks, and the label for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from ..thresholds import DOES_TASK

Top1: TypeAlias = float | dict[str, float | None] | None
"""The share of clean prompts in which the answer is on top; None if it was not measured. By the values of axes, as text, if it differs."""
_JOINED = ", "


def stacked(by_value: Mapping[Any, Top1]) -> Top1:
    """Of several tables, by the value of their new axis: one share if all have the same.

    >>> stacked({8: 1.0, 128: 0.08}), stacked({"logit": 0.5, "kl": 0.5})
    ({'8': 1.0, '128': 0.08}, 0.5)
    >>> stacked({"mamba": {"8": 1.0, "128": 0.08}, "rwkv": 0.7})
    {'mamba, 8': 1.0, 'mamba, 128': 0.08, 'rwkv': 0.7}
    """
    first, *others = by_value.values()
    if all(other == first for other in others):
        return first
    by_name: dict[str, float | None] = {}
    for value, top_1 in by_value.items():
        inner = top_1 if isinstance(top_1, Mapping) else {"": top_1}
        by_name |= {_JOINED.join(filter(None, (str(value), name))): share for name, share in inner.items()}
    return by_name


def selected(top_1: Top1, value: Any) -> Top1:
    """Of the part of a table that has one value of an axis; all of it if shares do not depend on this axis.

    >>> selected({"mamba, 8": 1.0, "mamba, 128": 0.08}, 128), selected({"8": 1.0}, "logit"), selected(0.5, 8)
    ({'mamba': 0.08}, {'8': 1.0}, 0.5)
    """
    if not isinstance(top_1, Mapping):
        return top_1
    names = {name: name.split(_JOINED) for name in top_1}
    having = {name: parts for name, parts in names.items() if str(value) in parts}
    if not having:
        return top_1
    rest = {_JOINED.join(part for part in parts if part != str(value)): top_1[name] for name, parts in having.items()}
    return rest[""] if list(rest) == [""] else rest


def below_threshold(top_1: Top1) -> str:
    """What a reader must know if the model does not do the task: nothing if it does, or if that was not measured.

    >>> below_threshold(0.06)
    'below threshold: the answer is on top in 6% of the clean prompts, and a model does the task from 25%'
    >>> below_threshold({"8": 1.0, "128": 0.08}), below_threshold(0.98)
    ('below threshold for 128: the answer is on top in 8% of the clean prompts, and a model does the task from 25%', '')
    """
    by_task = top_1 if isinstance(top_1, Mapping) else {"": top_1}
    low = {name: share for name, share in by_task.items() if share is not None and share < DOES_TASK}
    if not low:
        return ""
    which = f" for {'; '.join(low)}" if isinstance(top_1, Mapping) else ""
    shares = _JOINED.join(f"{share:.0%}" for share in low.values())
    return f"below threshold{which}: the answer is on top in {shares} of the clean prompts, and a model does the task from {DOES_TASK:.0%}"
