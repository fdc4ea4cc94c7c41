"""What both halves of the induction suite share: the model, the task at each distance, thresholds, and patching by text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch

from ..models import Model
from ..prompting import Task
from ..results import PatchingTable
from ..running import patch
from .result import stacked, titled

KEY_SHARE = 0.05
"""A component is named if patching it alone has at least this share of the whole effect."""
MOST_KEYS = 8


@dataclass
class Study:
    """One model under one suite. ``say`` is told what runs next; ``options`` go to ``patch``."""

    model: Model
    task: Task
    distances: Sequence[int]
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _: None

    @property
    def distance(self) -> int:
        """The distance at which the circuit is taken apart in detail: the task's own."""
        return int(self.task.options["distance"])

    def patch(self, title: str, path: str, corruption: str = "B", distance: int | None = None, **axes: Any) -> PatchingTable:
        """One table at one distance."""
        self.say(f"{title}: {path}")
        task = self.task.but(corruption=corruption, distance=distance or self.distance)
        return titled(patch(self.model, task, path, axes=axes, **{"lint": False, **self.options}), title)

    def by_distance(self, title: str, path: str, corruption: str = "B", **axes: Any) -> PatchingTable:
        """The same table at every distance, stacked."""
        made = {d: self.patch(f"{title}, distance {d}", path, corruption, d, **axes) for d in self.distances}
        return stacked(made, "distance", title)

    def at_distance(self, table: PatchingTable) -> pd.Series:
        """Cell means of a stacked table at the detailed distance, as shares of the whole effect there."""
        return at(table, "distance", self.distance).share()

    def baseline(self) -> dict[str, float]:
        """At every distance, top-1 accuracy on clean prompts and what corruption costs the answer's logit: what is explained."""
        found = {}
        for distance in self.distances:
            prompts = self.task.but(distance=distance).prompts(self.model.vocabulary)
            clean, corrupted = (self._last(ids) for ids in (prompts.clean, prompts.corrupted))
            rows, answer = range(len(prompts)), prompts.answer
            right = (clean.argmax(-1).numpy() == answer).mean()
            found[f"top-1 accuracy, distance {distance}"] = float(right)
            found[f"answer's logit, clean less corrupted, distance {distance}"] = (clean - corrupted)[rows, answer].mean().item()
        return found

    @torch.no_grad()
    def _last(self, ids: Any) -> torch.Tensor:
        """Logits at the last token, [example, vocab]; one prompt at a time, so that memory does not grow."""
        rows = (torch.from_numpy(row)[None].to(self.model.device) for row in ids)
        return torch.cat([self.model.hf(row, use_cache=False, logits_to_keep=1).logits[:, -1].cpu() for row in rows])


def at(table: PatchingTable, axis: str, value: Any) -> PatchingTable:
    """The part of a stacked table with one value of one axis.

    >>> import numpy as np
    >>> one = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
    >>> at(stacked({8: one, 16: one}, "distance", ""), "distance", 8).axes
    ('layer',)
    """
    rows = table.frame[table.frame[axis] == value].drop(columns=axis)
    return PatchingTable(rows, tuple(a for a in table.axes if a != axis), table.unit, {**table.about, axis: value})


def keys(shares: pd.Series) -> list[Any]:
    """Cells whose share of the effect reaches the threshold, the strongest first.

    >>> keys(pd.Series([0.05, 0.6, 0.2], index=["a", "b", "c"]))
    ['b', 'c', 'a']
    """
    strong = shares[shares >= KEY_SHARE].sort_values(ascending=False)
    return list(strong.index[:MOST_KEYS])


def normalised(shares: pd.Series) -> dict[str, float]:
    """Positive shares that sum to 1, by position, in order.

    >>> normalised(pd.Series([0.0, 0.3, -0.1, 0.1], index=["A", "B", "B+1", "B+2"]))
    {'A': 0.0, 'B': 0.75, 'B+1': 0.0, 'B+2': 0.25}
    """
    kept = shares.clip(lower=0)
    total = float(kept.sum())
    return {str(k): round(float(v) / total, 6) for k, v in kept.items()} if total > 0 else {}
