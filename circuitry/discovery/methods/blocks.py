"""The default: each block's derivative is averaged between its own clean and its own corrupted input."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..question import Question, Scores
from ..rows import Point, Rows, legendre
from ..schemes import OfBlocks
from ..softmax import averaged, using
from .by_gradient import scored


def saturated(question: Question, rows: Rows) -> AbstractContextManager[None]:
    """The context in which attention patterns have derivatives averaged between their clean and corrupted scores."""
    return using(question.model, averaged(rows))


@dataclass(frozen=True)
class BlockIg:
    """(corrupted - clean) times a gradient whose factor for every block is the block's mean derivative along the straight line from
    its clean input to its corrupted input, at ``points``, by default those of Gauss and Legendre.

    Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) are applied to one block at a time, and the blocks are joined by
    the chain rule for multipliers of DeepLIFT (Shrikumar et al. 2017, arXiv:1704.02685, section 3.2). So what a block does with the
    difference of its inputs is right in sum, up to the error of few points, however saturated the block is at the clean run. Within
    attention the softmax is averaged by itself, with more points, since its steps may be steep. There the sum is only nearly right:
    pattern and values are averaged apart, and how they move together is left out.
    """

    name: str = "block-ig"
    points: tuple[Point, ...] = legendre(3)

    def scores(self, question: Question) -> Scores:
        """Estimated effects [example, item, label]."""
        return scored(question, OfBlocks(self.points), self.name, saturated)

    def passes(self, question: Question) -> float:
        """Two runs, and one with its gradient for every step."""
        return 2 + 3 * len(self.points)
