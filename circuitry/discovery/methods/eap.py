"""Attribution patching: one gradient, at the clean run."""

from __future__ import annotations

from dataclasses import dataclass

from ..question import Question, Scores
from ..rows import Point
from ..schemes import OfInput
from .by_gradient import scored


@dataclass(frozen=True)
class Eap:
    """(corrupted - clean) times the gradient at the clean run, for nodes (attribution patching, Nanda 2023) and for edges (edge
    attribution patching, Syed et al. 2023, arXiv:2310.10348, equation 1)."""

    name: str = "eap"

    def scores(self, question: Question) -> Scores:
        """Estimated effects [example, item, label]."""
        return scored(question, OfInput((Point(0.0, 1.0),)), self.name)

    def passes(self, question: Question) -> float:
        """Two runs, and one with its gradient."""
        return 2 + 3
