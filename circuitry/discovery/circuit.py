"""A circuit of edges at positions: what is drawn is what is scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
from numpy.typing import NDArray

from ..architecture.graph import Graph
from ..drawing.circuit import Circuit, CircuitEdge, CircuitNode
from ..errors import CircuitryError, suggest
from ..paths.values import Node
from .positions import Labels
from .wiring import Edge, Wiring, edge

Cell = tuple[str, str]
"""An edge and the position of its source, as text: ("head[0,1] -> head[1,0].k", "B")."""


@dataclass(frozen=True)
class EdgeCircuit(Circuit):
    """A circuit whose edges are those of the graph at token positions, with their estimated or exact effects.

    ``cells`` are these edges. The picture has more arrows: those that join two of them inside one node or block, such as a key to
    the output of its head, have no effect of their own (NaN). ``circuitry.score`` runs the model with these edges alone.
    """

    cells: tuple[Cell, ...] = ()

    def mask(self, wiring: Wiring, labels: tuple[str, ...]) -> NDArray[np.bool_]:
        """The edges as a mask [edge, label]. Raises CircuitryError for an edge or a position that is not there."""
        mask = np.zeros((len(wiring.edges), len(labels)), bool)
        for text, position in self.cells:
            if position not in labels:
                raise CircuitryError(f"the circuit has an edge at {position!r}; {suggest(position, labels)}")
            mask[wiring.number[wiring.find(text)], labels.index(position)] = True
        return mask


def edge_circuit(
    wiring: Wiring, effects: Mapping[Cell, float], labels: Labels, *, title: str, unit: str, prune: bool = True
) -> EdgeCircuit:
    """A circuit of edges at positions with their ``effects``.

    ``prune``: edges that are on no way from the embedding to the logits are left out, since nothing that differs between the
    prompts passes through them. Raises CircuitryError if none is left.
    """
    routes = _Routes(wiring, labels)
    cells = [(edge(text), position) for text, position in effects]
    joined = routes.joined(cells)
    if prune:
        live = _between(joined, routes)
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
    return EdgeCircuit(title, shown, nodes, tuple(drawn), unit, kept)


End = tuple[Node, str]


class _Routes:
    """How the edges of a circuit join: the target of one and the source of another, in one block."""

    def __init__(self, wiring: Wiring, labels: Labels) -> None:
        self.wiring, self.labels, self.graph = wiring, labels, wiring.graph
        self._cache: dict[Node, dict[Node, tuple[float, float]]] = {}
        self.sources = {each.source for each in wiring.inner} | set(wiring.senders)

    def source(self, cell: tuple[Edge, str]) -> End:
        return cell[0].source, cell[1]

    def target(self, cell: tuple[Edge, str]) -> End:
        """The end of an edge; one to the next token is drawn at its own token if the next has no name."""
        edge, position = cell
        if self.wiring.rule(edge).least == 1:
            position = next((name for name in self.labels.names if self.labels.apart(position, name).tolist() == [1]), position)
        return edge.target, position

    def name(self, node: Node, position: str) -> str:
        return f"{node} @ {position}"

    def joined(self, cells: list[tuple[Edge, str]]) -> nx.DiGraph[End]:
        """The ends of all edges, with an edge for each cell and for each way inside a block from a target to a source."""
        whole: nx.DiGraph[End] = nx.DiGraph()
        for cell in cells:
            whole.add_edge(self.source(cell), self.target(cell), inside=False)
        sources = {self.source(cell) for cell in cells}
        for target in {self.target(cell) for cell in cells}:
            for source in sources - {target}:
                if source[0] in self._reached(target[0]) and self._later(target, source, self._reached(target[0])[source[0]]):
                    whole.add_edge(target, source, inside=True)
        return whole

    def _reached(self, node: Node) -> dict[Node, tuple[float, float]]:
        """The sources of edges that a node leads to inside its block, with the least and the most tokens in between."""
        if node not in self._cache:
            found: dict[Node, tuple[float, float]] = {}
            # A node that is itself the source of an edge is where both edges meet: nothing lies between.
            open_ = [(member, 0.0, 0.0) for member in self.graph.members(node) if member not in self.sources]
            while open_:
                here, least, most = open_.pop()
                for after in self.graph.nx.successors(here):
                    if after in self.wiring.stages:
                        continue
                    rule = self.graph.nx.edges[here, after]["rule"]
                    span = least + rule.least, most + rule.most
                    if after in self.sources:
                        found[after] = span
                    elif after != here:
                        open_.append((after, *span))
            self._cache[node] = found
        return self._cache[node]

    def _later(self, target: End, source: End, span: tuple[float, float]) -> bool:
        """Whether a source is as many tokens after a target as the way between them takes, in any example."""
        apart = self.labels.apart(target[1], source[1])
        return bool(((span[0] <= apart) & (apart <= span[1])).any())


def _between(joined: nx.DiGraph[End], routes: _Routes) -> set[End]:
    """The ends on a way from the embedding to the logits."""
    graph = routes.graph
    starts = [end for end in joined if graph.family(end[0].family).role == "embed"]
    stops = [end for end in joined if graph.family(end[0].family).role == "logits"]
    after = set(starts).union(*(nx.descendants(joined, end) for end in starts))
    before = set(stops).union(*(nx.ancestors(joined, end) for end in stops))
    return after & before


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


def cells_of(mask: NDArray[np.bool_], edges: tuple[Edge, ...], labels: tuple[str, ...]) -> Iterator[Cell]:
    """The cells of a mask [edge, label]."""
    for number, label in zip(*np.nonzero(mask), strict=True):
        yield str(edges[number]), labels[label]
