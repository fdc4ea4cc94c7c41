"""Attribution patching in which attention's softmax is computed again instead of differentiated."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..question import Question, Scores
from ..rows import Point, Rows
from ..schemes import OfInput
from ..secant import secant
from ..softmax import using
from .by_gradient import scored


def recomputed(question: Question, rows: Rows) -> AbstractContextManager[None]:
    """The context in which patterns have the exact change for every single query and key as their gradient."""
    return using(question.model, secant(rows))


@dataclass(frozen=True)
class AtpStar:
    """(corrupted - clean) times the gradient at the clean run, where the pattern that a corrupted query or key would give is
    computed exactly: for a query its row, for a key its column (AtP*, Kramár et al. 2024, arXiv:2403.00745, section 3.1).

    The paper defines this for nodes: queries, keys, and by the gradient whatever comes after. Here it enters the chain rule: the
    multiplier of a query or key is its exact effect over its change, so nodes before it and edges into it get the part of this
    effect that the change they cause in it would have, were the effect proportional. The paper's GradDrop (section 3.2) is
    left out: it adds up magnitudes over the layers that are dropped, and so gives no sign.
    """

    name: str = "atp-star"

    def scores(self, question: Question) -> Scores:
        """Estimated effects [example, item, label]."""
        return scored(question, OfInput((Point(0.0, 1.0),)), self.name, recomputed)

    def passes(self, question: Question) -> float:
        """Two runs, and one with its gradient; patterns alone are computed several times."""
        return 2 + 3
