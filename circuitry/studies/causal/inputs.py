"""What features are patched on: the prompts of a task, the same for all features, or text, for each feature where it fires."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ...features.activations.corpus import Corpus
from ...planning.interventions import Intervention
from ...prompting.task import Task
from ...results.statistics import Array
from .measure import How, Measured, Part, on_task
from .pairs import activity
from .sides import Side, shared_prompts
from .text import NAME, OPTIONS, Firing, on_text

Sizes = Mapping[tuple[str, int], float]


@dataclass
class OnTask:
    """A task, with the options of ``ct.patch`` and the position that is patched, None for all."""

    task: Task
    intervention: Intervention
    metric: Any
    at: str | None
    executor: Any

    @property
    def record(self) -> dict[str, Any]:
        """What was asked."""
        name = getattr(self.metric, "name", getattr(self.metric, "__name__", self.metric))  # a function's text has its address
        return {
            "task": self.task.record,
            "intervention": str(self.intervention),
            "metric": str(name or "logit"),
            "position": self.at or "every position",
            "prompts": self.task.examples,
            "effects": "normalized: 1 is the effect of exchanging the whole prompt in the same model",
        }

    def sizes(self, sides: Sequence[Side]) -> Sizes:
        """How much a patch of each feature of the first side can write. Raises CircuitryError for sides with other prompts."""
        self._prompts = shared_prompts([side.model for side in sides], self.task)
        return _by_feature(sides[0], activity(sides[0], self._prompts, self.intervention, self.at))

    def able(self, side: Side, _: pd.DataFrame) -> list[Array]:
        """By layer and feature of another side, whether a patch can change anything."""
        return activity(side, self._prompts, self.intervention, self.at)

    def measured(self, side: Side, letter: str, tables: Sequence[pd.DataFrame], part: Part) -> Measured:
        """The effects of one side of these pairs."""
        options = {"intervention": self.intervention, "metric": self.metric, "executor": self.executor}
        return on_task(side, letter, tables, self.task, How(options, self.at, part))


@dataclass
class OnText:
    """A corpus, and how many tokens are drawn for each feature among those where it fires."""

    corpus: Corpus
    intervention: Intervention
    prompts: int
    seed: int
    executor: Any
    _firing: Firing | None = field(default=None, repr=False)

    @property
    def record(self) -> dict[str, Any]:
        """What was asked."""
        task = {"name": NAME, "source": self.corpus.digest, "options": {}, "examples": self.prompts, "seed": self.seed}
        return {
            "task": task,
            "text": self.corpus.source,
            "intervention": str(self.intervention),
            "metric": OPTIONS["metric"],
            "position": "every position",
            "prompts": self.prompts,
            "effects": "nats by which the loss at the next token rises if the feature is ablated where it fires",
        }

    def sizes(self, sides: Sequence[Side]) -> Sizes:
        """Random numbers, so that pairs are drawn; 0 for features that fire on too few tokens."""
        self._firing, rng = Firing.of(sides[0], self.corpus), np.random.default_rng(self.seed)
        enough = [self._firing.counts(str(node)) >= self.prompts for node in sides[0].nodes]
        return _by_feature(sides[0], [np.where(able, 1 - rng.random(len(able)), 0.0) for able in enough])

    def able(self, side: Side, reverse: pd.DataFrame) -> list[Array]:
        """By layer and feature of another side, on how many tokens it fires."""
        return [rows.sort_values("feature_a")["count_a"].to_numpy(float) for _, rows in reverse.groupby("layer_a")]

    def measured(self, side: Side, letter: str, tables: Sequence[pd.DataFrame], part: Part) -> Measured:
        """The effects of one side of these pairs."""
        options = {**OPTIONS, "intervention": self.intervention, "executor": self.executor}
        assert self._firing is not None
        return on_text(side, letter, tables, self._firing, self.prompts, self.seed, How(options, None, part))


def _by_feature(side: Side, rows: Sequence[Array]) -> Sizes:
    """Numbers by node and feature, from arrays by layer."""
    return {(str(node), k): float(value) for node, row in zip(side.nodes, rows, strict=True) for k, value in enumerate(row)}
