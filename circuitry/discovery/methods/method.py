"""What a method of attribution is."""

from __future__ import annotations

from typing import Protocol

from ..question import Question, Scores


class Method(Protocol):
    """Estimates the effect of patching every edge or node at every position."""

    @property
    def name(self) -> str:
        """What ``discover`` calls it."""
        ...

    def scores(self, question: Question) -> Scores:
        """Estimated effects [example, item, label], in the metric's unit."""
        ...

    def passes(self, question: Question) -> float:
        """How many complete forward passes over all prompts an answer takes; a backward pass counts as two."""
        ...
