"""Read and write the scores of edges in the graph files of EAP-IG, which MIB's circuit track uses too (``importances.json``).

A file has one number for each edge, so the caller sums the scores of an edge over positions before writing them. The layouts of
2024 and of 2.0 are read, and 2.0 is written. MIB also accepts circuits without scores, and so does ``read``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..architecture.graph import Graph
from ..errors import CircuitryError, expected, whole
from ..store.files import write_whole
from .eap_ig_json import from_json, to_json
from .eap_ig_layout import Marked, check_known, check_same
from .eap_ig_names import edge_names
from .eap_ig_pt import from_pt, to_pt
from .wiring import Edge


@dataclass(frozen=True)
class EdgeFile:
    """What a file says about the edges of a model.

    ``scores`` has every edge of the model, or no edge if the file is a circuit without scores. ``in_graph`` are the edges of
    the circuit, and may be empty.
    """

    scores: Mapping[Edge, float]
    in_graph: frozenset[Edge]


def read(path: str | Path, graph: Graph) -> EdgeFile:
    """Read a graph file of EAP-IG (``.json`` or ``.pt``) for the model that ``graph`` describes.

    No code in a ``.pt`` file is run. The file also says which nodes are in the graph. This is not read, since EAP-IG derives it
    from the edges before it runs a circuit.

    Raises CircuitryError for a graph that is not a Transformer's, for a file that cannot be read or is of another model, for
    names that the model does not have, for missing or repeated edges, for scores that are missing at some edges or not finite,
    and for scores of nodes or neurons.

    >>> import tempfile
    >>> import circuitry as ct
    >>> from circuitry.discovery.wiring import edge
    >>> g = ct.graph("gpt2", layer=1, head=1)
    >>> file = Path(tempfile.mkdtemp()) / "graph.json"
    >>> write(file, g, {edge: 0.5 for edge in edge_names(g).values()}, d_model=8)
    >>> found = read(file, g)
    >>> found.scores[edge("mlp[0] -> logits")], len(found.in_graph)
    (0.5, 0)
    """
    file = Path(path)
    edges = edge_names(graph)
    try:
        marked = from_json(file.read_text(encoding="utf-8"), graph) if _is_json(file) else from_pt(file, graph)
        check_same(marked, edges)
        scores = _finite(_present({name: score for name, (score, _) in marked.items()}))
    except (OSError, UnicodeDecodeError, CircuitryError) as error:
        raise CircuitryError(f"{file} cannot be read: {error}") from error
    inside = frozenset(edges[name] for name, (_, within) in marked.items() if within)
    return EdgeFile({edges[name]: score for name, score in scores.items()}, inside)


def write(
    path: str | Path,
    graph: Graph,
    scores: Mapping[Edge, float],
    in_graph: Collection[Edge] = (),
    *,
    d_model: int,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write a graph file that EAP-IG and MIB's circuit track read: JSON or tensors, if its name ends with .json or .pt.

    ``scores`` has every edge of the model, ``in_graph`` the edges of a circuit. ``d_model`` is the width of the residual stream,
    which EAP-IG wants to know. ``more`` are further parts of a JSON file, which EAP-IG ignores, as ``read`` does. A node is marked as in the graph if edges in the graph enter and leave it. EAP-IG keeps scores
    in single precision.

    Raises CircuitryError for a graph that is not a Transformer's, for edges that the model does not have, for missing edges and
    for scores that are not finite; FileError if the file cannot be written.

    >>> import tempfile
    >>> import circuitry as ct
    >>> from circuitry.discovery.wiring import edge
    >>> g = ct.graph("gpt2", layer=1, head=1)
    >>> write(Path(tempfile.mkdtemp()) / "graph.pt", g, {edge("embed -> mlp[0]"): 0.5}, d_model=8)
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: edges of this model are missing: 'input->a0.h0<q>' (and 6 others)
    """
    file, width = Path(path), whole("d_model", d_model, 1)
    as_text, names = _is_json(file), {edge: name for name, edge in edge_names(graph).items()}
    check_same(_named(scores, names), names.values())
    check_known(_named(in_graph, names), names.values())
    inside = frozenset(in_graph)
    numbers = _finite({name: float(scores[edge]) for edge, name in names.items()})
    marked: Marked = {name: (numbers[name], edge in inside) for edge, name in names.items()}
    if as_text:
        write_whole(file, json.dumps({**to_json(marked, graph, d_model=width), **(more or {})}))
    else:
        write_whole(file, lambda place: to_pt(place, marked, graph, d_model=width))


def _is_json(file: Path) -> bool:
    if file.suffix not in (".json", ".pt"):
        raise CircuitryError(expected("a file whose name ends with .json or .pt", file.name))
    return file.suffix == ".json"


def _named(edges: Iterable[Edge], names: Mapping[Edge, str]) -> list[str]:
    return [names.get(edge) or str(edge) for edge in edges]


def _present(scores: Mapping[str, float | None]) -> dict[str, float]:
    """The scores, if every edge has one; none, if no edge has one."""
    present = {name: score for name, score in scores.items() if score is not None}
    if present and len(present) < len(scores):
        without = next(name for name, score in scores.items() if score is None)
        raise CircuitryError(f"some edges have a score and {without!r} has none")
    return present


def _finite(scores: dict[str, float]) -> dict[str, float]:
    for name, score in scores.items():
        if not math.isfinite(score):
            raise CircuitryError(expected(f"a finite score at {name!r}", score))
    return scores
