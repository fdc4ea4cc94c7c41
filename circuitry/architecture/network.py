"""The networkx graph of an architecture: made of its edges, put in order, and unrolled over tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import networkx as nx

from ..paths.values import Node
from .rules import CAUSAL, NEXT, Edge, Rule, window


def network(edges: Iterable[Edge], windows: Mapping[int, int]) -> nx.DiGraph[Node]:
    """Nodes and edges with their ``rule``; ``windows``: the width of each layer's sliding window, if it has one.

    >>> from circuitry.architecture.rules import SAME
    >>> network([(Node("a"), Node("b"), SAME)], {}).edges[Node("a"), Node("b")]["rule"].name
    'same position'
    """
    graph: nx.DiGraph[Node] = nx.DiGraph()
    for source, target, rule in edges:
        graph.add_edge(source, target, rule=_windowed(source, rule, windows))
    return graph


def _windowed(source: Node, rule: Rule, windows: Mapping[int, int]) -> Rule:
    """What a layer's attention reaches, by the sliding window that this model may have in that layer."""
    width = windows.get(int(source.indices[0])) if rule == CAUSAL else None  # type: ignore[arg-type]
    return rule if width is None else window(width)


def edges_of(network: nx.DiGraph[Node]) -> list[Edge]:
    """(source, target, rule) of every edge.

    >>> from circuitry.architecture.rules import SAME
    >>> [rule.name for _, _, rule in edges_of(nx.DiGraph([(Node("a"), Node("b"), {"rule": SAME})]))]
    ['same position']
    """
    return [(source, target, data["rule"]) for source, target, data in network.edges(data=True)]


def ranks(network: nx.DiGraph[Node]) -> dict[Node, int]:
    """Order of computation; a state's loop to its own next position is the one cycle, and is left out.

    >>> from circuitry.architecture.rules import SAME
    >>> list(ranks(nx.DiGraph([(Node("b"), Node("a"), {"rule": SAME})])))
    [b, a]
    """
    edges = ((s, t) for s, t, rule in edges_of(network) if rule != NEXT or s.family != t.family)
    acyclic: nx.DiGraph[Node] = nx.DiGraph(edges)
    acyclic.add_nodes_from(network)
    return {node: rank for rank, node in enumerate(nx.lexicographical_topological_sort(acyclic, key=_in_text_order))}


def _in_text_order(node: Node) -> tuple[str, tuple[int, ...], str]:
    return node.family, tuple(i for i in node.indices if isinstance(i, int)), node.port or ""


def unrolled(network: nx.DiGraph[Node], positions: int) -> nx.DiGraph[tuple[Node, int]]:
    """The graph over ``positions`` tokens: nodes are (node, position).

    >>> from circuitry.architecture.rules import lag
    >>> [(s[1], t[1]) for s, t in unrolled(nx.DiGraph([(Node("a"), Node("b"), {"rule": lag(1)})]), 3).edges]
    [(0, 1), (1, 2)]
    """
    full: nx.DiGraph[tuple[Node, int]] = nx.DiGraph()
    full.add_nodes_from((node, p) for node in network for p in range(positions))
    for source, target, rule in edges_of(network):
        pairs = ((p, q) for p in range(positions) for q in range(p, positions) if rule.reaches(q - p))
        full.add_edges_from(((source, p), (target, q)) for p, q in pairs)
    return full
