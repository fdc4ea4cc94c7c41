"""The kinds of edges, to say where an attribution fails."""

from __future__ import annotations

from ..architecture.graph import Graph
from ..paths.values import Node
from .question import Item
from .wiring import Edge

_BY_PORT = {"q": "into queries", "k": "into keys", "v": "into values"}
_BY_ROLE = {
    "logits": "to the logits, through the last norm",
    "mlp": "into MLPs",
    "mlp_input": "into MLPs",
    "gate": "gates",
    "attn_gate": "gates",
    "mlp_gate": "gates",
    "step": "step sizes",
    "decay": "decays",
    "conv_input": "into convolutions and shifts",
    "conv_edge": "taps of convolutions and shifts",
    "mlp_edge": "taps of convolutions and shifts",
    "state": "states",
    "write_input": "what states are written and read by",
}


def kind(graph: Graph, item: Item) -> str:
    """The kind of an edge, by what it enters or, inside a block, by what it leaves; of a node, what it is; of a term, its name.

    >>> import circuitry as ct
    >>> from circuitry.discovery.wiring import edge
    >>> graph = ct.graph("gpt2")
    >>> kind(graph, edge("head[0,1] -> head[1,0].k")), kind(graph, edge("mlp[0] -> logits"))
    ('into keys', 'to the logits, through the last norm')
    """
    if not isinstance(item, Edge):
        return _named(graph, item) if item.term is None else item.term.name
    over_stream = graph.family(item.source.family).adds or graph.family(item.source.family).role in ("head", "embed")
    return _named(graph, item.target if over_stream else item.source)


def _named(graph: Graph, node: Node) -> str:
    role = graph.family(node.family).role
    return _BY_PORT.get(node.port or "", _BY_ROLE.get(role, role)) if role == "head" else _BY_ROLE.get(role, f"{node.family}")
