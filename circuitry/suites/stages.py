"""Draws heads that act through other heads: a hub for each shared port, the heads that write it, the tokens that heads read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..drawing.circuit import EVERYWHERE, NORMALIZED, Circuit, CircuitEdge, CircuitNode
from .heads import Head, Sender


def named(node: str, position: str) -> str:
    """The name of a node in a circuit: with its position, unless it was patched everywhere.

    >>> named("head[0,3]", "B"), named("head[0,3]", EVERYWHERE)
    ('head[0,3] @ B', 'head[0,3]')
    """
    return node if position == EVERYWHERE else f"{node} @ {position}"


def with_nodes(positions: Sequence[str], nodes: Iterable[CircuitNode]) -> tuple[str, ...]:
    """The columns of a circuit: the positions that have nodes, and the last one.

    >>> with_nodes(("A", "B", "END"), [CircuitNode("mlp[0] @ B", "B", 0, 0.5)])
    ('B', 'END')
    """
    used = {node.position for node in nodes} | {positions[-1]}
    return tuple(position for position in positions if position in used)


@dataclass
class Drawing:
    """A circuit under construction. Names of nodes contain the position, because a head may act at two positions."""

    nodes: list[CircuitNode] = field(default_factory=list)
    edges: list[CircuitEdge] = field(default_factory=list)
    legend: list[str] = field(default_factory=list)

    def node(self, name: str, position: str, depth: float, effect: float, role: str) -> str:
        """Add a node unless it exists, and return its name.

        >>> Drawing().node("head[1,0] @ B", "B", 1, 0.5, "head")
        'head[1,0] @ B'
        """
        if name not in {node.name for node in self.nodes}:
            self.nodes.append(CircuitNode(name, position, depth, effect, role))
        return name

    def edge(self, source: str, target: str, effect: float, label: str = "", patched: str = "") -> None:
        """Add an arrow unless it exists; ``patched`` as in ``CircuitEdge``.

        >>> drawing = Drawing()
        >>> drawing.edge("a", "b", 1.0); drawing.edge("a", "b", 1.0); len(drawing.edges)
        1
        """
        if not any((e.source, e.target, e.label) == (source, target, label) for e in self.edges):
            self.edges.append(CircuitEdge(source, target, effect, label, patched))

    def hub(self, title: str, position: str, together: float, receivers: dict[str, float], layers: list[int]) -> str:
        """Add one node for a port of several heads; ``together`` is its joint effect, ``receivers`` has the effect of each head.

        >>> drawing = Drawing()
        >>> drawing.hub("k of these heads", "B", 0.9, {"head[1,0]": 0.4}, [1])
        'k of these heads @ B'
        """
        name = self.node(named(title, position), position, min(layers) - 0.4, together, "head")
        port = title.partition(" ")[0]
        meaning = f"{title}: not a node of the model, but the {port} of all heads that it points to, patched at once"
        self.legend += [meaning] * (meaning not in self.legend)
        for receiver, effect in receivers.items():
            self.edge(name, receiver, effect)
        return name

    def senders(self, family: str, heads: list[Sender], hub: str) -> dict[Head, str]:
        """Add the heads that write a hub, each at its position, and return their names.

        >>> drawing = Drawing()
        >>> drawing.senders("head", [((0, 3), "B", 0.8)], drawing.hub("k", "B", 0.9, {}, [1]))
        {(0, 3): 'head[0,3] @ B'}
        """
        names = {}
        for (layer, number), at, effect in heads:
            names[layer, number] = self.node(named(f"{family}[{layer},{number}]", at), at, layer, effect, "head")
            self.edge(names[layer, number], hub, effect)
        return names

    def token(self, position: str, reader: str, effect: float, port: str) -> None:
        """Add a token and an arrow to the head that reads it, whose ``port`` was patched at the token.

        >>> drawing = Drawing()
        >>> drawing.token("A", "head[0,3] @ B", 0.8, "v"); drawing.nodes[0].name, drawing.edges[0].patched
        ('token @ A', 'head[0,3].v @ A')
        """
        patched = f"{reader.partition(' @ ')[0]}.{port} @ {position}"
        self.edge(self.node(f"token @ {position}", position, -1, effect, "embed"), reader, effect, port, patched)

    def circuit(self, title: str, positions: tuple[str, ...]) -> Circuit:
        """The finished circuit, without the positions that have no nodes, except the last.

        >>> Drawing().circuit("nothing", ("A", "END")).positions
        ('END',)
        """
        return Circuit(
            title, with_nodes(positions, self.nodes), tuple(self.nodes), tuple(self.edges), NORMALIZED, legend=tuple(self.legend)
        )
