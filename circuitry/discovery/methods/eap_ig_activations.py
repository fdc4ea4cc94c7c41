"""Integrated gradients over activations: for every block, gradients at outputs between its clean and its corrupted one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ...paths.values import Node
from ..gradient import Gradients
from ..question import Item, Question, Scores
from ..rows import Point, Rows, legendre
from ..schemes import OfActivations
from ..wiring import Edge
from .by_gradient import fill, unchanged


@dataclass(frozen=True)
class EapIgActivations:
    """(corrupted - clean) times the mean gradient of runs in which the output of the edge's source lies between the two, and
    everything else is clean (EAP-IG over activations; MIB, arXiv:2504.13151, appendix).

    In Hanna et al.'s code every edge gets the mean gradient over all sources that are moved; here it gets that of its own.

    Nodes inside a block are measured while the output of the block before it is moved.
    """

    name: str = "eap-ig-activations"
    points: tuple[Point, ...] = legendre(5)

    def within(self, question: Question, rows: Rows) -> AbstractContextManager[None]:
        """The context of the backward pass."""
        return unchanged(question, rows)

    def scores(self, question: Question) -> Scores:
        """Estimated effects [example, item, label]."""
        scores, points = question.empty(), self.points
        numbers = _numbers(question)
        for examples, prompts in question.batches(2 + len(self.points), self.name):
            for number in sorted(set(numbers)):
                scheme = OfActivations(points, number)
                passed = Gradients(
                    question.model, question.wiring, prompts, question.metric, scheme, lambda rows: self.within(question, rows)
                )
                fill(scores, question, passed, examples, [k for k, own in enumerate(numbers) if own == number])
                del passed  # or the next pass would begin while all activations of this one are still kept
        return scores

    def passes(self, question: Question) -> float:
        """For every block and the embedding: two runs, and one with its gradient for every step."""
        return (2 + 3 * len(self.points)) * len(set(_numbers(question)))


def _numbers(question: Question) -> list[int]:
    """For each item, the number of the block that is moved."""
    blocks = question.wiring.blocks
    after = {block: number for number, block in enumerate(blocks)}
    heads = {head: after[block] for block, parts in question.wiring.heads.items() for head in parts}
    stage = [
        max((after[b] for b in blocks if question.wiring.stage_after(b) <= k), default=-1)
        for k in range(len(question.wiring.stages))
    ]

    def number(item: Item) -> int:
        node: Node = item.source if isinstance(item, Edge) else item.host
        if question.model.graph.family(node.family).role == "embed":
            return -1
        if node in after or node in heads:
            return {**after, **heads}[node]
        return stage[question.wiring.layer_before(node)]

    return [number(item) for item in question.items]
