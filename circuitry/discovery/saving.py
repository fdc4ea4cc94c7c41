"""A discovery as one file, in the layout of EAP-IG's graphs, which other programs read too.

EAP-IG keeps one score for each edge, so the scores of positions are added up. Its reader ignores keys that it does not know, so
everything else is under the key "circuitry": positions, exact effects, effects by example, and provenance. Other models than
Transformers get a file of the same shape with circuitry's own names of nodes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import CircuitryError, expected
from ..paths.values import Node
from ..store.files import write_whole
from . import eap_ig
from .eap_ig_names import edge_names
from .question import Question
from .wiring import Edge

if TYPE_CHECKING:
    from .result import Discovery

FORMAT, KEY = 1, "circuitry"
"""The version of what a file holds under this key."""
SHOWN = 100
"""How many cells a table has at least, verified or not."""


def save(found: Discovery, path: str | Path, edges: int | None = None) -> None:
    """Write a discovery as .json, which ``circuitry.discovery.read`` reads, or the scores of a Transformer as .pt.

    ``edges``: how many of the best edges are marked as the circuit. As in EAP-IG, a score is positive where the circuit needs the
    edge: where corrupting it lowers the metric. Raises CircuitryError for another suffix, and for .pt if EAP-IG has no such model.

    >>> import json, tempfile
    >>> import circuitry as ct
    >>> found = ct.discover(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8), verify=0)
    >>> file = Path(tempfile.mkdtemp()) / "found.json"
    >>> save(found, file, edges=40)
    >>> json.loads(file.read_text())["edges"]["embed->conv_in[0]"]["in_graph"]
    True
    """
    file = Path(path)
    if file.suffix not in (".json", ".pt"):
        raise CircuitryError(expected("a file whose name ends with .json or .pt", file.name))
    graph, width = found.question.wiring.graph, int(found.question.model.hf.config.hidden_size)
    scores, inside = _summed(found), _inside(found, edges)
    if found.level == "edge" and _is_transformer(found.question):
        named = {edge: score for edge, score in scores.items() if isinstance(edge, Edge)}
        marked = [edge for edge in inside if isinstance(edge, Edge)]
        more = {KEY: to_data(found)} if file.suffix == ".json" else {}
        return eap_ig.write(file, graph, named, marked, d_model=width, more=more)
    if file.suffix == ".pt":
        raise CircuitryError(f"EAP-IG's .pt files hold edges of Transformers; save these {found.level}s of {graph.name} as .json")
    data = {"cfg": {"architecture": graph.name, **graph.sizes, "d_model": width}, **_layout(scores, inside)}
    return write_whole(file, json.dumps({**data, KEY: to_data(found)}))


def _is_transformer(question: Question) -> bool:
    try:
        return len(edge_names(question.wiring.graph)) == len(question.wiring.edges)
    except CircuitryError:
        return False


def _summed(found: Discovery) -> dict[Edge | Node, float]:
    """The score of every edge or node, positive where it is needed."""
    sign = -1 if found.question.direction == "noising" else 1
    return dict(zip(found.question.items, (sign * found.mean.sum(1)).tolist(), strict=True))


def _inside(found: Discovery, edges: int | None) -> set[Edge | Node]:
    """The edges (or nodes) of the circuit."""
    if edges is None:
        return set()
    if found.level != "edge":
        return {found.question.items[item] for item, _ in found.cells(edges)}
    return {found.question.wiring.find(text) for text, _ in found.circuit(edges).cells}


def _layout(scores: Mapping[Edge | Node, float], inside: set[Edge | Node]) -> dict[str, Any]:
    entries = {str(item).replace(" ", ""): {"score": score, "in_graph": item in inside} for item, score in scores.items()}
    if not any(isinstance(item, Edge) for item in scores):
        return {"nodes": entries, "edges": {}}
    ends = {end: None for item in scores if isinstance(item, Edge) for end in (item.source, item.target)}
    used = {end for item in inside if isinstance(item, Edge) for end in (item.source, item.target)}
    return {"nodes": {str(end): {"in_graph": end in used} for end in ends}, "edges": entries}


def to_data(found: Discovery) -> dict[str, Any]:
    """What EAP-IG's layout has no room for, as plain data.

    >>> import circuitry as ct
    >>> found = ct.discover(ct.load("bundled:mamba"), ct.task("induction", distance=4, examples=8), verify=0)
    >>> data = to_data(found)
    >>> data["labels"], len(data["mean"]) == len(data["items"])
    (['B', 'B+1', 'END-1', 'END'], True)
    """
    asked, graph = found.question, found.question.wiring.graph
    shown = dict.fromkeys([*found.cells(max(SHOWN, len(found.exact))), *found.exact])
    return {
        "format": FORMAT,
        "graph": {
            "name": graph.name,
            "sizes": graph.sizes,
            "windows": graph.windows,
            "layout": graph.layout,
            "experts": graph.experts,
            "latents": {str(host): count for host, count in graph.terms.latents.items()},
        },
        "level": found.level,
        "method": found.method,
        "metric": {"name": asked.metric.name, "unit": asked.metric.unit, "signed": asked.metric.signed},
        "direction": asked.direction,
        "seed": asked.seed,
        "items": [str(item) for item in asked.items],
        "labels": list(asked.labels.names),
        "mean": found.mean.tolist(),
        "cells": [{"item": item, "label": label, "effects": found.scores[:, item, label].tolist()} for item, label in shown],
        "exact": [{"item": item, "label": label, "effects": values.tolist()} for (item, label), values in found.exact.items()],
        "ends": [end.tolist() for end in found.ends],
        "ranked": _prompts(asked),
        "confirmed": None if found.confirming is asked else _prompts(found.confirming),
        "provenance": json.loads(json.dumps(found.provenance, default=str)),
    }


def _prompts(question: Question) -> dict[str, Any]:
    """Which examples a question is about, and the tokens of each label in each."""
    tokens = [[np.flatnonzero(row).tolist() for row in label] for label in question.labels.mask.swapaxes(0, 1)]
    return {"examples": question.numbers.tolist(), "length": question.labels.mask.shape[2], "tokens": tokens}
