"""A circuit of edges at positions: what is drawn is what is scored. Nodes and latents at positions are drawn without edges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..architecture.graph import Graph
from ..drawing.circuit import Circuit, CircuitEdge, CircuitNode
from ..errors import CircuitryError, suggest
from ..paths.values import Node
from .positions import Labels
from .routes import Routes
from .wiring import Wiring, edge

Cell: TypeAlias = tuple[str, str]
"""An edge and the position of its source, as text: ("head[0,1] -> head[1,0].k", "B")."""


_LEGEND = (
    "A box has the number of its strongest arrow. A grey arrow joins two arrows inside one node or block, such as a key to the output "
    "of its head.",
)


@dataclass(frozen=True)
class EdgeCircuit(Circuit):
    """A circuit whose edges are those of the graph at token positions, with their estimated or exact effects.

    ``cells`` are these edges. The picture has more arrows: those that join two of them inside one node or block, such as a key to
    the output of its head, have no effect of their own (NaN). ``circuitry.score`` runs the model with these edges alone.
    """

    cells: tuple[Cell, ...] = ()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote. Raises CircuitryError for anything else, such as a circuit without edges at positions.

        >>> made = EdgeCircuit("t", ("A",), (), (), "logit", (("embed -> logits", "A"),))
        >>> EdgeCircuit.from_json(made.to_json()).cells
        (('embed -> logits', 'A'),)
        """
        circuit = super().from_json(text)
        cells = json.loads(text).get("cells")
        if not isinstance(cells, list) or not all(isinstance(cell, list) and len(cell) == 2 for cell in cells):
            raise CircuitryError("this JSON has no edges at positions; EdgeCircuit.to_json writes them as 'cells'")
        return replace(circuit, cells=tuple((str(edge), str(position)) for edge, position in cells))

    def mask(self, wiring: Wiring, labels: tuple[str, ...]) -> NDArray[np.bool_]:
        """The edges as a mask [edge, label]. Raises CircuitryError for an edge or a position that is not there."""
        mask = np.zeros((len(wiring.edges), len(labels)), bool)
        for text, position in self.cells:
            if position not in labels:
                raise CircuitryError(f"the circuit has an edge at {position!r}; {suggest(position, labels)}")
            mask[wiring.number[wiring.find(text)], labels.index(position)] = True
        return mask


def edge_circuit(
    wiring: Wiring,
    effects: Mapping[Cell, float],
    labels: Labels,
    *,
    title: str,
    unit: str,
    prune: bool = True,
    whole: float | None = None,
) -> EdgeCircuit:
    """A circuit of edges at positions with their ``effects``; ``whole`` is that of exchanging the whole prompt.

    ``prune``: edges that are on no way from the embedding to the logits are left out, since nothing that differs between the
    prompts passes through them. Raises CircuitryError if none is left.

    >>> import circuitry as ct
    >>> found = ct.discover(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=4), verify=0)
    >>> effects = {("embed -> mlp[0]", "B"): -2.0, ("mlp[0] -> logits", "B"): -1.0, ("embed -> logits", "END"): -1.0}
    >>> edge_circuit(found.question.wiring, effects, found.question.labels, title="t", unit="logit").cells
    (('embed -> mlp[0]', 'B'), ('mlp[0] -> logits', 'B'), ('embed -> logits', 'END'))
    """
    routes = Routes(wiring, labels)
    cells = [(edge(text), position) for text, position in effects]
    joined = routes.joined(cells)
    if prune:
        live = routes.between(joined)
        cells = [cell for cell in cells if routes.source(cell) in live and routes.target(cell) in live]
        joined = joined.subgraph(live)
    if not cells:
        raise CircuitryError(
            "no edge of this circuit is on a way from the embedding to the logits; ask for more edges, or use prune=False"
        )
    drawn = [
        CircuitEdge(routes.name(*s), routes.name(*t), float("nan")) for s, t, data in joined.edges(data=True) if data["inside"]
    ]
    for cell in cells:
        value = effects[str(cell[0]), cell[1]]
        drawn.append(CircuitEdge(routes.name(*routes.source(cell)), routes.name(*routes.target(cell)), value))
    named = {routes.name(*end): end for end in joined}
    nodes = tuple(_node(wiring.graph, name, *named[name], drawn) for name in sorted(named))
    kept = tuple((str(each), position) for each, position in cells)
    shown = tuple(label for label in labels.names if any(node.position == label for node in nodes))
    return EdgeCircuit(title, shown, nodes, tuple(drawn), unit, kept, legend=_LEGEND, whole=whole)


def node_circuit(
    graph: Graph,
    effects: Mapping[Cell, float],
    notes: Mapping[str, str],
    positions: Sequence[str],
    *,
    title: str,
    unit: str,
    whole: float | None = None,
) -> Circuit:
    """Nodes, latents or errors at positions, with their ``effects`` and ``notes`` and without edges, as a picture.

    >>> import circuitry as ct
    >>> effects = {("resid[2].latent[17]", "B"): -1.0}
    >>> graph = ct.graph("mamba").attached({ct.Node("resid", (2,)): 64})
    >>> made = node_circuit(graph, effects, {"resid[2].latent[17]": "brackets"}, ("B", "END"), title="t", unit="logit")
    >>> made.positions, made.nodes[0].text.splitlines()
    (('B',), ['resid[2].latent[17]', 'brackets'])
    """
    order, nodes = graph.nodes(ports=True), []
    for (text, position), effect in effects.items():
        host = graph.node(text).host
        place = _depth(graph, host, order.index(host))
        role = graph.family(host.family).role
        nodes.append(CircuitNode(f"{text} @ {position}", position, place, effect, role, notes.get(text, "")))
    shown = tuple(position for position in positions if any(node.position == position for node in nodes))
    return Circuit(title, shown, tuple(nodes), (), unit, whole=whole)


def _node(graph: Graph, name: str, node: Node, position: str, edges: list[CircuitEdge]) -> CircuitNode:
    """A node of the picture; its effect is that of its strongest edge."""
    own = [each.effect for each in edges if name in (each.source, each.target) and each.effect == each.effect]
    rank = graph.nodes(ports=True).index(graph.members(node)[0])
    depth = _depth(graph, node, rank)
    return CircuitNode(name, position, depth, max(own, key=abs, default=float("nan")), graph.family(node.family).role)


def _depth(graph: Graph, node: Node, rank: int) -> float:
    layers = graph.sizes["layer"]
    layer = node.indices[0] if node.indices else (-1 if graph.family(node.family).role == "embed" else layers)
    assert isinstance(layer, int)
    within = [graph.nodes(ports=True).index(each) for each in graph.nodes(layer=layer, ports=True)] if node.indices else [rank]
    return layer + 0.05 + 0.9 * (rank - min(within)) / (max(within) - min(within) + 1)
