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
from ..prompting.prompts import Prompts
from .curve import measured
from .positions import ALL, REST
from .question import Item, Question
from .wiring import Edge


def path_of(question: Question, item: Item, label: str) -> str:
    """The path whose effect is that of an edge or a node at one position, or at all.

    An edge inside a block is cut at its source, which has no other consumer.

    >>> import circuitry as ct
    >>> from circuitry.discovery.search import asked
    >>> question = asked(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> path_of(question, question.wiring.find("head[0,1] -> head[1,0].k"), "B")
    'head[0,1] @ B -> head[1,0].k @ B directly -> logits'
    """
    at = "" if label == ALL else f" @ {label}"
    if not isinstance(item, Edge):
        return f"{item}{at} -> logits"
    if item.source not in question.wiring.after:
        return f"{item.source}{at} -> logits"
    if question.wiring.graph.family(item.target.family).role == "logits":
        return f"{item.source}{at} -> logits directly"
    return f"{item.source}{at} -> {item.target}{at} directly -> logits"


def patched(question: Question, cells: Sequence[tuple[int, int]]) -> Mapping[tuple[int, int], NDArray[np.float64]]:
    """The effect [example] of each cell (numbers of an item and a label) that can have one.

    >>> import circuitry as ct
    >>> from circuitry.discovery.search import asked
    >>> question = asked(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> number = question.wiring.number[question.wiring.find("embed -> mlp[0]")]
    >>> list(patched(question, [(number, 0)])) == [(number, 0)]
    True
    """
    paths: dict[tuple[int, ...], dict[str, tuple[int, int]]] = {}
    several: list[tuple[int, int]] = []
    for cell in cells:
        item, label = question.items[cell[0]], question.labels.names[cell[1]]
        if label == REST:
            several.append(cell)
        elif examples := able(question, path := path_of(question, item, label)):
            paths.setdefault(examples, {})[path] = cell
    found = _by_subgraph(question, several)
    for examples, some in paths.items():
        found |= _by_path(question, np.array(examples), some)
    return found


def _by_path(
    question: Question, examples: NDArray[np.int64], paths: Mapping[str, tuple[int, int]]
) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Effects of paths that can have one in some of the examples; in the others they have none."""
    part = question if len(examples) == len(question.prompts) else question.part(examples)
    table = patch(
        part.model, part.task, labelled("path", {path: path for path in paths}), metric=part.metric,
        direction=part.direction, baseline=0, executor=part.executor, lint=False,
    )  # fmt: skip
    effects = np.zeros((len(paths), len(question.prompts)))
    effects[:, examples] = table.values()
    return {paths[str(path)]: effects[row] for row, path in enumerate(table.mean().index)}


def _by_subgraph(question: Question, cells: Sequence[tuple[int, int]]) -> dict[tuple[int, int], NDArray[np.float64]]:
    """Cells of several tokens that no path names: the run that keeps every other edge. Nodes at such tokens are left out."""
    if not cells or question.level != "edge":
        return {}
    kept = np.ones((len(cells), len(question.items), len(question.labels)), bool)
    for row, cell in enumerate(cells):
        kept[(row, *cell)] = False
    got = measured(question, list(kept), "verifying")
    return {cell: got.values[row] - got.clean for row, cell in enumerate(cells)}


def able(question: Question, path: str) -> tuple[int, ...]:
    """The examples in which the graph lets a path have an effect: all or none, unless the order of positions differs among prompts.

    >>> import circuitry as ct
    >>> from circuitry.discovery.search import asked
    >>> question = asked(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2))
    >>> able(question, "mixer_out[0] @ END -> logits directly"), able(question, "mixer_out[0] @ B -> logits directly")
    ((0, 1), ())
    """
    prompts = question.prompts
    every = tuple(range(len(prompts)))
    if _possible(question, path, prompts):
        return every
    alike: dict[object, list[int]] = {}
    for k, differing in enumerate(prompts.differing):
        alike.setdefault((differing, *(int(at[k]) for at in prompts.where.values())), []).append(k)
    if len(alike) == 1:
        return ()
    return tuple(sorted(k for some in alike.values() if _possible(question, path, prompts.take(np.array(some))) for k in some))


def _possible(question: Question, path: str, prompts: Prompts) -> bool:
    try:
        plan(
            parse(path), question.wiring.graph, where=prompts.where, length=prompts.stops.tolist(), changed=prompts.differing,
            sweep=question.task.definition.sweep, axes=None, intervention="resample", direction=question.direction,
        )  # fmt: skip
    except PathError:
        return False
    return True
