"""A graph as text for other programs: DOT for Graphviz, GraphML for Gephi and yEd, JSON in networkx's node-link form.

Nodes are named as in paths (``head[0,1].q``). GraphML knows only primitive values and JSON has no infinity, so an index
is text (``0,1``), and an edge that reaches forward without bound has no ``most``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeAlias

import networkx as nx

from ..paths.values import Node
from .graph import Graph
from .rules import FOREVER, SAME, Rule

Attributes: TypeAlias = dict[str, str | int | float]


def to_json(graph: Graph) -> str:
    """The graph as JSON, readable with ``networkx.node_link_graph(data, edges="edges")``.

    >>> import circuitry as ct
    >>> data = json.loads(to_json(ct.graph("mamba", layer=1)))
    >>> data["edges"][1]["source"], data["edges"][1]["rule"]
    ('resid[0]', 'same position')
    """
    plain = _plain(graph)
    nodes = [{"id": node, **attributes} for node, attributes in plain.nodes(data=True)]
    edges = [{"source": source, "target": target, **attributes} for source, target, attributes in plain.edges(data=True)]
    return json.dumps({"directed": True, "multigraph": False, "graph": plain.graph, "nodes": nodes, "edges": edges}, indent=1)


def to_graphml(graph: Graph) -> str:
    """The graph as GraphML, readable with ``networkx.parse_graphml``.

    >>> import circuitry as ct
    >>> back = nx.parse_graphml(to_graphml(ct.graph("gpt2", layer=1, head=2)))
    >>> back.nodes["head[0,1].q"]["family"], back.edges["head[0,1].v", "head[0,1]"]["rule"]
    ('head', 'causal')
    """
    return "\n".join(nx.generate_graphml(_plain(graph)))


def to_dot(graph: Graph) -> str:
    """The graph in Graphviz's DOT language, one cluster a layer, inputs at the bottom; edges that move along the tokens say how.

    >>> import circuitry as ct
    >>> '"head[0,0].v" -> "head[0,0]" [label="causal"];' in to_dot(ct.graph("gpt2", layer=1, head=1))
    True
    """
    nodes = graph.nodes(ports=True)
    lines = [f"digraph {quoted(graph.name)} {{", "  rankdir=BT;", '  node [shape=box, style=rounded, fontname="sans-serif"];']
    layers = [_layer(graph, node) for node in nodes]
    lines += [f"  {_dot_node(graph, node)}" for node, layer in zip(nodes, layers, strict=True) if layer is None]
    for layer in sorted({layer for layer in layers if layer is not None}):
        inside = [_dot_node(graph, node) for node, its in zip(nodes, layers, strict=True) if its == layer]
        lines += _dot_cluster(f"layer {layer}", f"cluster_{layer}", inside)
    lines += [_dot_edge(source, target, data["rule"]) for source, target, data in graph.nx.edges(data=True)]
    return "\n".join([*lines, "}"]) + "\n"


def quoted(text: str) -> str:
    r"""Text as a DOT string.

    >>> print(quoted('a "b"'))
    "a \"b\""
    """
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _plain(graph: Graph) -> nx.DiGraph[str]:
    """The graph with text for nodes and nothing but primitive attributes."""
    plain: nx.DiGraph[str] = nx.DiGraph()
    plain.graph.update(name=graph.name, **graph.sizes)
    for node in graph.nodes(ports=True):
        plain.add_node(str(node), **_node_attributes(graph, node))
    for source, target, data in graph.nx.edges(data=True):
        plain.add_edge(str(source), str(target), **_rule_attributes(data["rule"]))
    return plain


def _node_attributes(graph: Graph, node: Node) -> Attributes:
    family = graph.family(node.family)
    attributes: Attributes = {"family": family.name, "role": family.role, "meaning": family.meaning, "shape": family.shape}
    if family.indices:
        attributes["index"] = ",".join(map(str, node.indices))
    if (layer := _layer(graph, node)) is not None:
        attributes["layer"] = layer
    if node.port:
        # A port's shape is not its family's (a pattern is not a head output), and its meaning is the definition's to tell.
        return {**{k: v for k, v in attributes.items() if k not in ("meaning", "shape")}, "port": node.port}
    return {**attributes, "ports": " ".join(family.ports)} if family.ports else attributes


def _rule_attributes(rule: Rule) -> Attributes:
    attributes: Attributes = {"rule": rule.name, "least": int(rule.least)}
    return attributes if rule.most == FOREVER else {**attributes, "most": int(rule.most)}


def _layer(graph: Graph, node: Node) -> int | None:
    """The layer a node is in; none for the embedding, the logits and the stream after the last layer."""
    layer = node.indices[0] if graph.family(node.family).indices[:1] == ("layer",) else None
    return layer if isinstance(layer, int) and layer < graph.sizes["layer"] else None


def _dot_cluster(label: str, name: str, lines: Iterable[str]) -> list[str]:
    return [f"  subgraph {name} {{", f"    label={quoted(label)}; color=gray;", *(f"    {line}" for line in lines), "  }"]


def _dot_node(graph: Graph, node: Node) -> str:
    family = graph.family(node.family)
    meaning = f"port {node.port} of {node.family}" if node.port else family.meaning
    attributes = f"class={quoted(family.role or family.name)}, tooltip={quoted(meaning)}"
    return f"{quoted(str(node))} [{attributes}];"


def _dot_edge(source: Node, target: Node, rule: Rule) -> str:
    label = "" if rule == SAME else f" [label={quoted(rule.name)}]"
    return f"  {quoted(str(source))} -> {quoted(str(target))}{label};"
