"""The effect of exchanging the whole prompt: what the logits of a suite's circuit have, and what all normalized effects are shares of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..results.cells import CellView
from ..results.statistics import describe
from ..results.table import PatchingTable
from .file import significant


@dataclass(frozen=True)
class Whole:
    """The mean effect of exchanging the whole prompt with its interval, in ``unit``, and that of every prompt; NaN if not measured."""

    unit: str = ""
    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    prompts: Sequence[float] = field(default=(), repr=False)

    @property
    def none(self) -> bool:
        """Whether its interval holds 0, so that there is nothing to find.

        >>> Whole("logit", 0.1, -0.2, 0.4).none, Whole("logit", 0.3, 0.2, 0.4).none, Whole().none
        (True, False, False)
        """
        return self.low <= 0 <= self.high

    def logits(self, effect: float) -> dict[str, Any]:
        """What the node of the logits shows: its effect, 1 by definition, and what this stands for; the interval is of the latter.

        >>> Whole("change of logit", -2.0, -3.0, -1.0, [-1.0, -3.0]).logits(1.0)["prompts"]
        [0.5, 1.5]
        """
        if not math.isfinite(self.mean):
            return {"effect": effect}
        told = {"unit": self.unit, "mean": self.mean, "low": self.low, "high": self.high}
        if not self.mean:
            return {"effect": math.nan, "whole": told}  # nothing is a share of nothing
        return {"effect": effect, "whole": told, "prompts": [significant(value / self.mean) for value in self.prompts]}


def whole_effect(task: Any, views: Sequence[tuple[PatchingTable, Sequence[CellView]]]) -> Whole:
    """The effect of exchanging the whole prompt, from a cell on the prompts of the run's own task.

    >>> whole_effect(None, []).mean
    nan
    """
    options = task.get("options", {}) if isinstance(task, Mapping) else {}
    for table, cells in views:
        own = table.provenance.get("task")
        told, varied = (own.get("options", {}), own.get("varies", {})) if isinstance(own, Mapping) else (options, {})
        same = all(told.get(name) == value for name, value in options.items() if name not in varied)
        for number, cell in enumerate(cells if same else ()):
            if all(cell.values.get(name) == options.get(name) for name in varied):
                gaps = table.values("source")[number] - table.values("base")[number]
                [[low, high]] = describe(gaps[None])[["low", "high"]].to_numpy(np.float64).tolist()
                return Whole(table.unit, float(gaps.mean()), low, high, [significant(float(gap)) for gap in gaps])
    return Whole()
