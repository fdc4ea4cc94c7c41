"""Scores that know nothing, to compare others with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..question import Question, Scores


@dataclass(frozen=True)
class Random:
    """One number from a normal distribution for each edge or node and position, the same in all examples."""

    name: str = "random"

    def scores(self, question: Question) -> Scores:
        """Random numbers [example, item, label]."""
        scores = question.empty()
        scores[:] = np.random.default_rng(question.seed).normal(size=scores.shape[1:])
        return scores

    def passes(self, question: Question) -> float:
        """None."""
        return 0
