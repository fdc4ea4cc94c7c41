"""What a leg holds at its clean value, as concrete nodes of the graph."""

from __future__ import annotations

from ..architecture import Graph
from ..paths import Leg, Node, Site
from .parts import Part


def ends(members: tuple[Site, ...], graph: Graph) -> list[Node]:
    """The nodes of a set of sites, under their full names.

    >>> import circuitry as ct
    >>> [str(n) for n in ends(ct.parse("h[1] -> logits").sources, ct.graph("mamba"))]
    ['ssm_state[1]']
    """
    return [graph.canonical(site.node) for site in members]


def frozen_nodes(graph: Graph, sources: list[Node], targets: list[Node], leg: Leg) -> set[Node]:
    """Named nodes, and for ``directly`` all that adds to the stream in between; never the leg's own two ends.

    >>> import circuitry as ct
    >>> g, path = ct.graph("mamba", layer=3), ct.parse("h[1] @ 4 -> logits freezing h")
    >>> sorted(map(str, frozen_nodes(g, [g.node("h[1]")], [g.node("logits")], path.legs[0])))
    ['ssm_state[0]', 'ssm_state[2]']
    """
    held = {node for pattern in leg.frozen for node in matching(graph, pattern)}
    if leg.directly:
        held |= _between(graph, sources, targets)
    for pattern in leg.spared:
        held -= {n for n in held if _covers(graph.canonical(pattern), n)}
    own = {(node.family, node.indices) for node in (*sources, *targets)}
    return {node for node in held if (node.family, node.indices) not in own}


def matching(graph: Graph, pattern: Node) -> list[Node]:
    """Concrete nodes a frozen name stands for: fewer indices mean all of them.

    >>> import circuitry as ct
    >>> len(matching(ct.graph("gpt2"), ct.Node("head", (3,))))
    12
    """
    wanted = graph.canonical(pattern)
    return [n for n in graph.nodes(wanted.family, ports=True) if n.port == wanted.port and _covers(wanted, n)]


def _covers(pattern: Node, node: Node) -> bool:
    """A name without a port spares the node with all its ports."""
    same = pattern.family == node.family and pattern.indices == node.indices[: len(pattern.indices)]
    return same and pattern.port in (None, node.port)


def _between(graph: Graph, sources: list[Node], targets: list[Node]) -> set[Node]:
    """Nodes that add to the stream after the sources and before a target, save the sources' own way into it."""
    after = set(graph.reach(sources))
    before = {node for target in targets for node in graph.ancestors(target)}
    return {n for n in after & before if graph.family(n.family).adds} - own_way(graph, sources)


def own_way(graph: Graph, sources: list[Node]) -> set[Node]:
    """What lies between the sources and the stream they add to; a source that is the stream itself has no such way.

    >>> import circuitry as ct
    >>> g = ct.graph("gpt2")
    >>> sorted(map(str, own_way(g, [g.node("head[3,0]")]))), own_way(g, [g.node("resid[3]")])
    (['attn[3]', 'head[3,0]'], set())
    """
    stream = {n for n in graph.nx if graph.family(n.family).role == "resid"}
    return set(graph.reach([s for s in sources if s not in stream], without=stream))


def check_spared(graph: Graph, part: Part, leg: Leg, sources: list[Node], targets: list[Node]) -> None:
    """Refuse an ``except`` that spares nothing. Raises PathError.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> plan("h[1] @ 4 -> logits @ 9 freezing h except gate", ct.graph("mamba"))
    Traceback (most recent call last):
    circuitry.errors.PathError: gate is not frozen on this leg, so there is nothing to spare
        h[1] @ 4 -> logits @ 9 freezing h except gate
                                                 ^
    drop it from 'except'
    """
    everything = frozen_nodes(graph, sources, targets, Leg(leg.targets, leg.frozen, (), leg.directly))
    own = {(node.family, node.indices) for node in (*sources, *targets)}
    spared = graph.canonical(part.node)
    if not any(_covers(spared, n) for n in everything) and (spared.family, spared.indices) not in own:
        raise part.error(f"{part.node} is not frozen on this leg, so there is nothing to spare", "drop it from 'except'")
