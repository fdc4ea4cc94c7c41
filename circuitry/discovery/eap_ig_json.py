"""EAP-IG's graph as JSON. Files of 2024 have a truth value for each node, files of 2.0 an object."""

from __future__ import annotations

import json
from typing import Any

from ..architecture.graph import Graph
from ..errors import CircuitryError
from .eap_ig_layout import Marked, check_known, check_parts, config, edges_only, nodes_inside
from .eap_ig_names import sender_names


def from_json(text: str, graph: Graph) -> Marked:
    """The edges of a JSON file. Raises CircuitryError for a file of another kind or model.

    >>> import circuitry as ct
    >>> g = ct.graph("gpt2", layer=1, head=1)
    >>> from_json(json.dumps(to_json({"m0->logits": (0.5, True)}, g, d_model=8)), g)
    {'m0->logits': (0.5, True)}
    """
    try:
        data = json.loads(text, object_pairs_hook=_unrepeated)
    except json.JSONDecodeError as error:
        raise CircuitryError(f"it is not JSON: {error}") from error
    check_parts(data, graph, {"nodes": dict, "edges": dict})
    check_known(data["nodes"], [*sender_names(graph), "logits"])
    if any(isinstance(node, dict) and node.keys() != {"in_graph"} for node in data["nodes"].values()):
        raise edges_only()
    return {name: _mark(name, entry) for name, entry in data["edges"].items()}


def to_json(marked: Marked, graph: Graph, *, d_model: int) -> dict[str, Any]:
    """The parts of a JSON file in the layout of 2.0.

    >>> import circuitry as ct
    >>> to_json({"input->m0": (0.5, True)}, ct.graph("gpt2", layer=1, head=1), d_model=8)["nodes"]
    {'input': {'in_graph': True}, 'a0.h0': {'in_graph': False}, 'm0': {'in_graph': False}, 'logits': {'in_graph': True}}
    """
    inside = nodes_inside(marked)
    nodes = {name: {"in_graph": name in inside} for name in sender_names(graph)} | {"logits": {"in_graph": True}}
    edges = {name: {"score": score, "in_graph": within} for name, (score, within) in marked.items()}
    return {"cfg": {**config(graph), "d_model": d_model}, "nodes": nodes, "edges": edges}


def _mark(name: str, entry: Any) -> tuple[float | None, bool]:
    score, inside = (entry.get("score"), entry.get("in_graph")) if isinstance(entry, dict) else (None, None)
    if isinstance(score, bool) or not isinstance(score, int | float | None) or not isinstance(inside, bool):
        raise CircuitryError(f"expected a number 'score' and true or false for 'in_graph' at {name!r}, got {json.dumps(entry)}")
    return score, inside


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name, value in pairs:
        if name in entries:
            raise CircuitryError(f"{name!r} is given twice")
        entries[name] = value
    return entries
