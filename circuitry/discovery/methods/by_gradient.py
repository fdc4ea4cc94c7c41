"""Attribution from gradients: the change of a value times the derivative of the metric, from one pass or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from ...architecture.rules import NEXT
from ...paths.values import Node
from ..gradient import Gradients
from ..question import Question, Scores
from ..rows import Rows
from ..schemes import Scheme
from ..wiring import Edge

Within = Callable[[Question, Rows], AbstractContextManager[None]]


def unchanged(question: Question, rows: Rows) -> AbstractContextManager[None]:
    """The context in which nothing about the model's backward pass is changed."""
    return nullcontext()


def scored(question: Question, scheme: Scheme, name: str, within: Within = unchanged) -> Scores:
    """Scores of all items from one pass for each batch.

    >>> from circuitry.discovery.search import asked
    >>> from circuitry.discovery.rows import legendre
    >>> from circuitry.discovery.schemes import OfInput
    >>> import circuitry as ct
    >>> question = asked(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2), level="node")
    >>> scored(question, OfInput(legendre(1)), "attribution").shape == (2, len(question.items), len(question.labels))
    True
    """
    scores = question.empty()
    for examples, prompts in question.batches(2 + len(scheme.points), name):
        passed = Gradients(question.model, question.wiring, prompts, question.metric, scheme, lambda rows: within(question, rows))
        fill(scores, question, passed, examples, range(len(question.items)))
    return scores


def fill(scores: Scores, question: Question, passed: Gradients, examples: object, items: Sequence[int]) -> None:
    """Fill in the scores of some items, given by number, from one pass."""
    seen: tuple[Node, torch.Tensor] | None = None
    labels = question.labels.take(examples)  # type: ignore[arg-type]
    for number in items:
        item = question.items[number]
        if isinstance(item, Edge) and item.source in question.wiring.after:
            if seen is None or seen[0] != item.target:  # edges come in order of their targets
                seen = item.target, passed.seen(item.target)
            values = passed.edge(item.source, item.target, seen[1])
        else:
            values = passed.of(item.source if isinstance(item, Edge) else item)
        by_token = values.detach().float().cpu().numpy()
        series = isinstance(item, Edge) and question.wiring.rule(item) == NEXT and item.source.family == item.target.family
        scores[examples, number] = (labels.strongest if series else labels.gathered)(by_token)  # type: ignore[index]
