"""EAP-IG's graph as tensors, senders x receivers. Files of 2024 call the scores ``edges``, files of 2.0 ``edges_scores``."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from ..architecture.graph import Graph
from ..errors import CircuitryError
from .eap_ig_layout import Marked, check_parts, config, edges_only, nodes_inside
from .eap_ig_names import edge_names, receiver_names, sender_names

BEYOND_EDGES = {"nodes_scores", "neurons_scores", "neurons_in_graph"}


def from_pt(file: Path, graph: Graph) -> Marked:
    """The edges of a ``.pt`` file, and none of its code is run. Raises CircuitryError for a file of another kind or model.

    >>> import tempfile
    >>> import circuitry as ct
    >>> g, file = ct.graph("gpt2", layer=1, head=1), Path(tempfile.mkdtemp()) / "graph.pt"
    >>> to_pt(file, {"m0->logits": (0.5, True)}, g, d_model=8)
    >>> from_pt(file, g)["m0->logits"]
    (0.5, True)
    """
    data = _loaded(file)
    scores_part = "edges_scores" if "edges_scores" in data else "edges"
    check_parts(data, graph, {scores_part: torch.Tensor, "edges_in_graph": torch.Tensor})
    if data.keys() & BEYOND_EDGES:
        raise edges_only()
    rows, columns = list(sender_names(graph)), list(receiver_names(graph))
    for part, order in (("src_nodes", rows), ("dst_nodes", columns)):
        if list(data.get(part, order)) != order:
            raise CircuitryError(f"{part!r} differs from the nodes of this model in EAP-IG's order")
    scores, inside = data[scores_part], data["edges_in_graph"]
    if not scores.shape == inside.shape == (len(rows), len(columns)):
        shapes = f"{tuple(scores.shape)} and {tuple(inside.shape)}"
        raise CircuitryError(f"expected two matrices of {len(rows)} x {len(columns)}, got {shapes}")
    return _marked(_names(rows, columns), scores, inside, edge_names(graph).keys())


def to_pt(file: Path, marked: Marked, graph: Graph, *, d_model: int) -> None:
    """Write a ``.pt`` file in the layout of 2.0, with scores in double precision.

    >>> import tempfile
    >>> import circuitry as ct
    >>> file = Path(tempfile.mkdtemp()) / "graph.pt"
    >>> to_pt(file, {"m0->logits": (0.5, True)}, ct.graph("gpt2", layer=1, head=1), d_model=8)
    >>> torch.load(file, weights_only=True)["edges_scores"][-1].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.5]
    """
    rows, columns, inside = list(sender_names(graph)), list(receiver_names(graph)), nodes_inside(marked)
    table = [marked.get(name, (0.0, False)) for name in _names(rows, columns)]
    torch.save(
        {
            "cfg": {**config(graph), "d_model": d_model},
            "src_nodes": rows,
            "dst_nodes": columns,
            "edges_scores": torch.tensor([score for score, _ in table], dtype=torch.float64).view(len(rows), -1),
            "edges_in_graph": torch.tensor([within for _, within in table]).view(len(rows), -1),
            "nodes_in_graph": torch.tensor([row in inside for row in rows]),
        },
        file,
    )


def _names(rows: list[str], columns: list[str]) -> list[str]:
    return [f"{row}->{column}" for row in rows for column in columns]


def _marked(names: list[str], scores: torch.Tensor, inside: torch.Tensor, known: Any) -> Marked:
    """The matrices also have room for edges that lead back to earlier nodes. There they must be empty, or the caller refuses them."""
    marks = zip(names, scores.flatten().tolist(), inside.flatten().bool().tolist(), strict=True)
    return {name: (score, within) for name, score, within in marks if name in known or score != 0 or within}


def _loaded(file: Path) -> dict[str, Any]:
    try:
        data = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CircuitryError("it is damaged, or has more than tensors and plain values; none of its code was run") from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise CircuitryError(f"torch cannot load it: {str(error).splitlines()[0]}") from error
    return data if isinstance(data, dict) else {}
