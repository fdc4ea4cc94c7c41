"""Relevance patching: attribution with the backward pass of layer-wise relevance propagation."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..question import Question, Scores
from ..relevance import rules
from ..rows import Point, Rows
from ..schemes import OfInput
from .by_gradient import scored


@dataclass(frozen=True)
class Relp:
    """(corrupted - clean) times the gradient at the clean run under the rules of layer-wise relevance propagation (RelP, Jafari et
    al. 2025, arXiv:2508.21258): the scale of a norm is constant, and so is an activation's output over its input; each of two
    factors gets half.

    Patterns of attention have their usual gradient, as in the paper's released code for discovery; with ``constant_patterns``
    they have none, nor have queries and keys, nor RWKV's keys (Ali et al. 2022). The step size, B and C of a scan are constants
    (MambaLRP, Jafari et al. 2024, arXiv:2406.07592), as are RWKV's gates. Constants get the attribution zero.
    """

    name: str = "relp"
    constant_patterns: bool = False

    def scores(self, question: Question) -> Scores:
        """Estimated effects [example, item, label]. Raises CircuitryError for a model with a part that no rule fits."""

        def within(question: Question, rows: Rows) -> AbstractContextManager[None]:
            return rules(question.model, self.constant_patterns)

        return scored(question, OfInput((Point(0.0, 1.0),)), self.name, within)

    def passes(self, question: Question) -> float:
        """Two runs, and one with its gradient."""
        return 2 + 3
