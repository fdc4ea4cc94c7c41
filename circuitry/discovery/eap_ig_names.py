"""The edges of a Transformer as EAP-IG counts and names them: ``a0.h1->m1`` is head[0,1] -> mlp[1]."""

from __future__ import annotations

from collections.abc import Iterator

from ..architecture.graph import Graph
from ..errors import CircuitryError
from ..paths.values import Node
from .wiring import Edge

LETTERS = ("q", "k", "v")


def edge_names(graph: Graph) -> dict[str, Edge]:
    """Every edge of a Transformer by its name in EAP-IG.

    Senders are ``embed``, ``head[l,h]`` and ``mlp[l]``; receivers are ``head[l,h].q``, ``.k`` and ``.v``, ``mlp[l]`` and
    ``logits``. A receiver has an edge from every sender that writes to the stream before it, so in a parallel model ``mlp[l]``
    has none from the heads of its own layer. Where several heads share a key and a value, EAP-IG ungroups them: as in circuitry,
    every query head has its own ``.k`` and ``.v``.

    Raises CircuitryError for a graph that is not a Transformer's.

    >>> import circuitry as ct
    >>> list(edge_names(ct.graph("gpt2", layer=1, head=1)))
    ['input->a0.h0<q>', 'input->a0.h0<k>', 'input->a0.h0<v>', 'input->m0', 'a0.h0->m0', 'input->logits', 'a0.h0->logits', 'm0->logits']
    >>> str(edge_names(ct.graph("gpt2", layer=2, head=1))["a0.h0->a1.h0<k>"])
    'head[0,0] -> head[1,0].k'
    >>> len(edge_names(ct.graph("gpt2")))
    32491
    """
    senders, receivers = sender_names(graph), _receivers(graph)
    return {
        f"{sender}->{receiver}": Edge(senders[sender], node)
        for receiver, (node, before) in receivers.items()
        for sender in list(senders)[:before]
    }


def sender_names(graph: Graph) -> dict[str, Node]:
    """The senders in the order of the rows of EAP-IG's matrices: the embedding, then of each layer the heads and the MLP.

    >>> import circuitry as ct
    >>> list(sender_names(ct.graph("gpt2", layer=1, head=2)))
    ['input', 'a0.h0', 'a0.h1', 'm0']
    """
    layers, heads, _ = sizes(graph)
    named = {"input": Node("embed")}
    for layer in range(layers):
        named |= {f"a{layer}.h{head}": Node("head", (layer, head)) for head in range(heads)}
        named[f"m{layer}"] = Node("mlp", (layer,))
    return named


def receiver_names(graph: Graph) -> dict[str, Node]:
    """The receivers in the order of the columns: of each layer the queries of all heads, the keys, the values, and the MLP.

    >>> import circuitry as ct
    >>> list(receiver_names(ct.graph("gpt2", layer=1, head=2)))
    ['a0.h0<q>', 'a0.h1<q>', 'a0.h0<k>', 'a0.h1<k>', 'a0.h0<v>', 'a0.h1<v>', 'm0', 'logits']
    """
    return {name: node for name, (node, _) in _receivers(graph).items()}


def sizes(graph: Graph) -> tuple[int, int, bool]:
    """Layers, heads of a layer, and whether attention and MLP run in parallel.

    Raises CircuitryError unless every layer has as many heads as the others, one MLP, and nothing else that writes to the stream, and
    heads are added to it as they are.

    >>> import circuitry as ct
    >>> sizes(ct.graph("gpt_neox"))
    (12, 12, True)
    """
    layers, heads = graph.sizes.get("layer", 0), graph.sizes.get("head", 0)
    writers = {Node(family, (layer,)) for family in ("attn", "mlp") for layer in range(layers)}
    if graph.adding != writers:
        raise CircuitryError(
            f"EAP-IG's files describe Transformers, whose every layer is attention and an MLP; {graph.name} has other blocks"
        )
    if any(map(graph.normed, writers)):
        raise CircuitryError(
            f"EAP-IG's files have heads that add to the stream; in {graph.name} a norm comes between its heads and the stream"
        )
    return layers, heads, bool(graph.sizes["parallel"])


def _receivers(graph: Graph) -> dict[str, tuple[Node, int]]:
    """By name: the receiver, and how many of the senders write to the stream before it."""
    return dict(_each_receiver(*sizes(graph)))


def _each_receiver(layers: int, heads: int, parallel: bool) -> Iterator[tuple[str, tuple[Node, int]]]:
    for layer in range(layers):
        before = 1 + layer * (heads + 1)
        for letter in LETTERS:
            for head in range(heads):
                yield f"a{layer}.h{head}<{letter}>", (Node("head", (layer, head), letter), before)
        yield f"m{layer}", (Node("mlp", (layer,)), before if parallel else before + heads)
    yield "logits", (Node("logits"), 1 + layers * (heads + 1))
