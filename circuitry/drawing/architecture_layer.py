"""One layer of an architecture with its indices collapsed: all heads are ``head[l,0..11]``, all taps ``conv_tap[l,0..3]``."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from ..architecture.graph import Graph
from ..architecture.rules import SAME, Rule
from ..errors import CircuitryError
from ..paths.values import Node


@dataclass(frozen=True)
class Key:
    """What becomes one box: a family or one of its ports, ``above`` layers after the one drawn."""

    family: str
    port: str | None
    above: int = 0


@dataclass(frozen=True)
class Layer:
    """Boxes with the nodes they stand for, in order of computation, and the position rules of each arrow."""

    graph: Graph
    nodes: dict[Key, list[Node]]
    edges: dict[tuple[Key, Key], set[Rule]]

    @functools.cached_property
    def rows(self) -> dict[Key, int]:
        """The longest way to each box, in arrows; an arrow back, against the order of computation, does not count."""
        found = dict.fromkeys(self.nodes, 0)
        for source in self.nodes:
            for target in (b for a, b in self.edges if a == source and not self.backward((a, b))):
                found[target] = max(found[target], found[source] + 1)
        return found

    def backward(self, edge: tuple[Key, Key]) -> bool:
        """Whether an arrow runs against the order of computation: a state's way to its own next position."""
        keys = list(self.nodes)
        return keys.index(edge[0]) > keys.index(edge[1])

    def in_stream(self, key: Key) -> bool:
        """Whether a box is the residual stream at some point of the layer."""
        return self.graph.family(key.family).role == "resid"

    def label(self, key: Key) -> str:
        """The name of a box as a path writes it, with ``l`` for the layer and ranges for the other indices."""
        others = list(zip(*(node.indices for node in self.nodes[key]), strict=True))[1:]
        indices = ",".join(["l" if key.above == 0 else f"l+{key.above}", *map(_range, others)])
        return f"{key.family}[{indices}]" + (f".{key.port}" if key.port else "")

    def shape(self, key: Key) -> str:
        """What the node holds for one token of one example; a port says nothing of its own."""
        axes = () if key.port else self.graph.family(key.family).shape.split()
        return " × ".join(axis for axis in axes if axis not in ("batch", "pos"))

    def rule(self, edge: tuple[Key, Key]) -> str:
        """How an arrow moves along the tokens: ``causal``, ``lag 0..3``; nothing for the same position."""
        rules = self.edges[edge]
        if len(rules) == 1:
            return next("" if rule == SAME else rule.name for rule in rules)
        least, most = min(rule.least for rule in rules), max(rule.most for rule in rules)
        return f"lag {least:g}..{most:g}" if most < float("inf") else "causal"


def collapse(graph: Graph, layer: int = 0) -> Layer:
    """One layer of a graph, with the stream it hands on.

    Raises CircuitryError for a layer the model does not have.

    >>> import circuitry as ct
    >>> found = collapse(ct.graph("mamba"), 3)
    >>> [found.label(key) for key in found.nodes][:3], [found.rule(edge) for edge in found.edges if found.rule(edge)]
    (['resid[l]', 'conv_in[l]', 'conv_tap[l,0..3]'], ['lag 0..3', 'next position'])
    """
    if layer not in range(graph.sizes["layer"]):
        raise CircuitryError(f"{graph.name} has no layer {layer}; its layers are 0 to {graph.sizes['layer'] - 1}")
    nodes: dict[Key, list[Node]] = {}
    edges: dict[tuple[Key, Key], set[Rule]] = {}
    for node in graph.nodes(ports=True):
        if (key := _key(graph, node, layer)) is not None:
            nodes.setdefault(key, []).append(node)
    for source, target, known in graph.nx.edges(data=True):
        a, b = _key(graph, source, layer), _key(graph, target, layer)
        if a is not None and b is not None and a.above == 0:
            edges.setdefault((a, b), set()).add(known["rule"])
    return Layer(graph, nodes, edges)


def _key(graph: Graph, node: Node, layer: int) -> Key | None:
    """The box of a node: none outside the layer, but for the next layer's stream."""
    family = graph.family(node.family)
    if family.indices[:1] != ("layer",) or not isinstance(node.indices[0], int):
        return None
    above = node.indices[0] - layer
    handed_on = above == 1 and family.role == "resid" and any(_layer(before) == layer for before in graph.nx.predecessors(node))
    return Key(family.name, node.port, above) if above == 0 or handed_on else None


def _layer(node: Node) -> object:
    return node.indices[0] if node.indices else None


def _range(values: Iterable[object]) -> str:
    numbers = sorted({value for value in values if isinstance(value, int)})
    contiguous = len(numbers) > 1 and numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}..{numbers[-1]}" if contiguous else ",".join(map(str, numbers))
