"""Attribution from gradients: the change of a value times the derivative of the metric, from one pass or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from ...architecture.rules import NEXT
from ...paths.values import Node
from ..gradient import Gradients
from ..latents import by_term
from ..question import Question, Scores
from ..rows import Rows
from ..schemes import Scheme
from ..wiring import Edge

Ints = NDArray[np.int64]
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
        del passed  # or the next batch would be computed while all activations of this one are still kept
    return scores


def fill(scores: Scores, question: Question, passed: Gradients, examples: Ints, items: Sequence[int]) -> None:
    """Fill in the scores of some items, given by number, from one pass."""
    labels, wiring, wanted = question.labels.take(examples), question.wiring, set(items)
    over_stream = [item for number in items if isinstance(item := question.items[number], Edge) and item.source in wiring.after]
    for stage in sorted({wiring.before[edge.target] for edge in over_stream}):
        for reader, by_source in passed.into(stage).items():
            numbers = [wiring.number[Edge(source, reader)] for source in wiring.sources(reader)]
            chosen = [k for k, number in enumerate(numbers) if number in wanted]
            gathered = labels.gathered(_numpy(by_source)[chosen])
            where = np.array([numbers[k] for k in chosen], np.int64)
            scores[np.ix_(examples, where)] = gathered.swapaxes(0, 1)
    for host, numbers in _terms(question, items).items():
        by_token = by_term(passed, question.model.saes[host], [question.terms[number] for number in numbers])
        scores[np.ix_(examples, np.array(numbers))] = labels.gathered(_numpy(by_token)).swapaxes(0, 1)
    for number in items:
        item = question.items[number]
        if item.term is not None if isinstance(item, Node) else item.source in wiring.after:
            continue
        values = _numpy(passed.of(item.source if isinstance(item, Edge) else item))
        series = isinstance(item, Edge) and wiring.rule(item) == NEXT and item.source.family == item.target.family
        scores[examples, number] = (labels.strongest if series else labels.gathered)(values)


def _terms(question: Question, items: Sequence[int]) -> dict[Node, list[int]]:
    """The numbers of the items that are terms of each node."""
    found: dict[Node, list[int]] = {}
    for number in items:
        if isinstance(item := question.items[number], Node) and item.term is not None:
            found.setdefault(item.host, []).append(number)
    return found


def _numpy(values: torch.Tensor) -> NDArray[np.float32]:
    return values.detach().float().cpu().numpy()
