"""Integrated gradients over the input: gradients at embeddings between the clean and the corrupted ones."""

from __future__ import annotations

from dataclasses import dataclass

from ..question import Question, Scores
from ..rows import Point, legendre
from ..schemes import OfInput
from .by_gradient import scored


@dataclass(frozen=True)
class EapIgInputs:
    """(corrupted - clean) times the mean gradient of runs whose embeddings lie between the two (EAP-IG, Hanna et al. 2024,
    arXiv:2403.17806, equation 4), at ``points``, by default those of Gauss and Legendre."""

    name: str = "eap-ig-inputs"
    points: tuple[Point, ...] = legendre(5)

    def scores(self, question: Question) -> Scores:
        """Estimated effects [example, item, label]."""
        return scored(question, OfInput(self.points), self.name)

    def passes(self, question: Question) -> float:
        """Two runs, and one with its gradient for every step."""
        return 2 + 3 * len(self.points)
