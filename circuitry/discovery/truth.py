"""Exact effects of single edges and nodes, by patching paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import PathError
from ..patching.experiment import patch
from ..paths.labelled import labelled
from ..paths.parse import parse
from ..planning.plan import plan
from ..results.table import PatchingTable
from .positions import EVERYWHERE
from .question import Item, Question
from .wiring import Edge


def path_of(question: Question, item: Item, label: str) -> str:
    """The path whose effect is that of an edge or a node at one position, or at all.

    An edge inside a block is cut at its source, which has no other consumer.

    >>> import circuitry as ct
    >>> from circuitry.discovery.discover import asked
    >>> question = asked(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> path_of(question, question.wiring.find("head[0,1] -> head[1,0].k"), "B")
    'head[0,1] @ B -> head[1,0].k @ B directly -> logits'
    """
    at = "" if label == EVERYWHERE else f" @ {label}"
    if not isinstance(item, Edge):
        return f"{item}{at} -> logits"
    if item.source not in question.wiring.after:
        return f"{item.source}{at} -> logits"
    if question.wiring.graph.family(item.target.family).role == "logits":
        return f"{item.source}{at} -> logits directly"
    return f"{item.source}{at} -> {item.target}{at} directly -> logits"


def table_of(question: Question, cells: Sequence[tuple[int, int]]) -> PatchingTable | None:
    """The effects of cells (numbers of an item and a label) that can have one; None if none can. Axes: item (edge or node), position."""
    paths = {}
    for number, label in cells:
        item, name = question.items[number], question.labels.names[label]
        path = path_of(question, item, name)
        if _possible(question, path):
            paths[f"{item} @ {name}"] = path
    if not paths:
        return None
    return patch(
        question.model, question.task, labelled("cell", paths), metric=question.metric, direction=question.direction, baseline=0,
        executor=question.executor, lint=False,
    )  # fmt: skip


def patched(question: Question, cells: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], NDArray[np.float64]]:
    """The effect [example] of each cell that can have one."""
    table = table_of(question, cells)
    if table is None:
        return {}
    names = {f"{question.items[number]} @ {question.labels.names[label]}": (number, label) for number, label in cells}
    values = table.values()
    return {names[str(name)]: values[k] for k, name in enumerate(table.mean().index)}


def _possible(question: Question, path: str) -> bool:
    """Whether the graph lets a path have an effect; a path that cannot have one has the effect zero."""
    prompts = question.prompts
    try:
        plan(
            parse(path), question.wiring.graph, where=prompts.where, length=prompts.stops.tolist(), changed=prompts.differing,
            sweep=question.task.definition.sweep, axes=None, intervention="resample", direction=question.direction,
        )  # fmt: skip
    except PathError:
        return False
    return True
