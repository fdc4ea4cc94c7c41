"""Exact effects of every edge or node, by patching each of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..question import Question, Scores
from ..verify import patched


@dataclass(frozen=True)
class Exact:
    """Every edge or node is patched by itself, and everything after it is recomputed (Wang et al. 2023, arXiv:2211.00593, section 3.1)."""

    name: str = "exact"

    def scores(self, question: Question) -> Scores:
        """Effects [example, item, label]; zero where the graph says that nothing can have an effect."""
        cells = [(number, label) for number in range(len(question.items)) for label in range(len(question.labels))]
        scores = question.empty()
        for (number, label), effects in patched(question, cells).items():
            scores[:, number, label] = effects
        return scores

    def passes(self, question: Question) -> float:
        """One run for each item and position, and the two."""
        return 2 + len(question.items) * len(question.labels)
