"""Reach between nodes by brute force: a way in the graph of nodes at positions."""

from __future__ import annotations

import functools

import networkx as nx

from circuitry.architecture import Graph
from circuitry.paths import Node

TOKENS = 7


@functools.cache
def by_position(graph: Graph) -> nx.DiGraph[tuple[Node, str, int]]:
    """The position-level graph; beside a node stands the part of its value by which it was entered.

    That part is all that has changed, and all that its ports see of it.
    """
    full: nx.DiGraph[tuple[Node, str, int]] = nx.DiGraph()
    parts = {"", *(rule.part for _, _, rule in graph.edges)}
    for start, stop, rule in graph.edges:
        port = rule.part and (start.family, start.indices) == (stop.family, stop.indices)
        pairs = [(p, q) for p in range(TOKENS) for q in range(p, TOKENS) if rule.reaches(q - p)]
        for via in {"", rule.part} if port else parts:
            full.add_edges_from(((start, via, p), (stop, "" if port else rule.part, q)) for p, q in pairs)
    return full


def distances(graph: Graph, source: Node, without: set[Node]) -> dict[Node, set[int]]:
    """The oracle: how many tokens later each node can be reached, by looking for a way in the position-level graph."""
    start, full = (source, "", 0), by_position(graph)
    if start not in full:
        return {source: {0}}
    live = nx.subgraph_view(full, filter_node=lambda state: state[0] not in without or state == start)
    found: dict[Node, set[int]] = {source: {0}}
    for node, _, position in nx.descendants(live, start):
        found.setdefault(node, set()).add(position)
    return found
