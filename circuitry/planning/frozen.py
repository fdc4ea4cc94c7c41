"""What a leg freezes, as concrete nodes of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..architecture.graph import Graph
from ..errors import PathError
from ..paths.terms import LATENT
from ..paths.values import Leg, Node, Path, Site
from .mentions import Mention, mentions


def nodes_of(site: Site, graph: Graph) -> list[Node]:
    """The nodes that a site names (``Graph.members``).

    >>> import circuitry as ct
    >>> [str(n) for n in nodes_of(ct.Site(ct.Node("head", (3,), "q")), ct.graph("gpt2", head=2))]
    ['head[3,0].q', 'head[3,1].q']
    """
    return list(graph.members(site.node))


def ends(members: tuple[Site, ...], graph: Graph) -> list[Node]:
    """The nodes of a set of sites.

    >>> import circuitry as ct
    >>> [str(n) for n in ends(ct.parse("h[1] -> logits").sources, ct.graph("mamba"))]
    ['ssm_state[1]']
    """
    return [node for site in members for node in nodes_of(site, graph)]


def exits(site: Site, graph: Graph) -> list[Node]:
    """Where the nodes of a site are read, as ``Graph.reach`` names it.

    >>> import circuitry as ct
    >>> exits(ct.Site(ct.Node("mlp", (3,))), ct.graph("gpt2"))[0].indices
    (3,)
    """
    return [graph.terms.exit(node) for node in nodes_of(site, graph)]


def frozen_nodes(graph: Graph, sources: list[Node], targets: list[Node], leg: Leg) -> set[Node]:
    """The nodes that ``freezing`` names, with ``directly`` also those in between that add to the stream, less what ``except`` exempts.

    The leg's own ends stay live, with their ports, where a name without a port covers them (``freezing head``): it means all
    others. A port that is named (``freezing head.pattern``) is frozen on the ends too, unless it is itself the end.

    >>> import circuitry as ct
    >>> g, path = ct.graph("gpt2", layer=2, head=2), ct.parse("head[1,0].q -> head[1,1] freezing head, head[1].q")
    >>> sorted(map(str, frozen_nodes(g, [g.node("head[1,0].q")], [g.node("head[1,1]")], path.legs[0])))
    ['head[0,0]', 'head[0,1]', 'head[1,1].q']
    """
    frozen = {n for pattern in leg.frozen for n in frozen_by_name(graph, pattern, [*sources, *targets])}
    if leg.directly:
        frozen |= _between(graph, sources, targets).difference(sources, targets)
    return {_but(graph, n, [*sources, *targets], leg) for n in frozen if not _exempt(graph, leg, n)}


def _but(graph: Graph, node: Node, leg_ends: list[Node], leg: Leg) -> Node:
    """A frozen node; of all latents those that are neither ends nor exempt."""
    if node.term is None or node.term.name != LATENT or node.term.index is not None:
        return node
    singles = [*leg_ends, *map(graph.canonical, leg.exempt)]
    live = {n.term.number for n in singles if n.term and n.term.number is not None and _covers(n.host, node.host)}
    return replace(node, term=node.term.without([number for number in live if number is not None]))


def frozen_by_name(graph: Graph, pattern: Node, leg_ends: list[Node]) -> list[Node]:
    """The nodes that one name after ``freezing`` freezes on a leg with these ends.

    >>> import circuitry as ct
    >>> g = ct.graph("gpt2", head=2)
    >>> [frozen_by_name(g, ct.Node("head", (3, 0), port), [g.node("head[3,0].q")]) for port in (None, "q")]
    [[], []]
    """
    if pattern.port is not None or pattern.term is not None:
        return [n for n in matching(graph, pattern) if n not in leg_ends]
    live = {(node.family, node.indices) for node in leg_ends}
    return [n for n in matching(graph, pattern) if (n.family, n.indices) not in live]


def _exempt(graph: Graph, leg: Leg, node: Node) -> bool:
    return any(_covers(graph.canonical(pattern), node) for pattern in leg.exempt)


def matching(graph: Graph, pattern: Node) -> list[Node]:
    """The concrete nodes that a frozen name means: all whose indices begin with those of the name.

    >>> import circuitry as ct
    >>> len(matching(ct.graph("gpt2"), ct.Node("head", (3,))))
    12
    """
    full = graph.canonical(pattern)
    hosts = [n for n in graph.nodes(full.family, ports=True) if n.port == full.port and _covers(full.host, n)]
    return [replace(n, term=full.term) for n in hosts if n in graph.terms.latents] if full.term else hosts


def _covers(pattern: Node, node: Node) -> bool:
    """A name without a port exempts the node with all its ports, one without a term the node with all its terms."""
    same = pattern.family == node.family and pattern.indices == node.indices[: len(pattern.indices)]
    if not same or pattern.port not in (None, node.port):
        return False
    return pattern.term is None or pattern.term.covers(node.term)


def _between(graph: Graph, sources: list[Node], targets: list[Node]) -> set[Node]:
    """Nodes that add to the stream after the sources and before a target, save the sources' own way into it."""
    after, before = graph.reach(sources), set[Node]().union(*map(graph.ancestors, targets))
    return {n for n in graph.adding if n in after and n in before} - own_way(graph, sources)


def own_way(graph: Graph, sources: list[Node]) -> set[Node]:
    """What lies between the sources and the stream they add to; a source that is the stream itself has no such way, and one that adds to
    it itself has no other. Each source has its own layer only.

    >>> import circuitry as ct
    >>> g = ct.graph("gpt2")
    >>> sorted(map(str, own_way(g, [g.node("head[3,0]")]))), own_way(g, [g.node("resid[3]")])
    (['attn[3]', 'head[3,0]'], set())
    """
    outside = [s for s in sources if s not in graph.stream]
    themselves = {s for s in outside if s.term is None and not graph.stream.isdisjoint(graph.nx.successors(s))}
    others = [s for s in outside if s not in themselves]
    if not graph.skips:
        return themselves | set(graph.reach(others, without=graph.stream))
    layers = {s.indices[:1]: [other for other in others if other.indices[:1] == s.indices[:1]] for s in others}
    inside = ((layer, graph.reach(some, without=graph.stream)) for layer, some in layers.items())
    return themselves | {node for layer, reached in inside for node in reached if node.indices[:1] == layer}


def check_useful(path: Path, graph: Graph, cells: Sequence[Path]) -> None:
    """Refuse a name after ``freezing`` that freezes nothing in any cell, and one after ``except`` that exempts nothing in any cell.

    In a single cell either may happen: the names are meant for the whole sweep. A family's name alone means all others, even
    if the model has no others. Raises PathError.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> plan("h[1] @ 4 -> logits @ 9 freezing h except gate", ct.graph("mamba"))
    Traceback (most recent call last):
    circuitry.errors.PathError: gate is not frozen on this leg, so there is nothing to exempt
        h[1] @ 4 -> logits @ 9 freezing h except gate
                                                 ^
    drop it from 'except'
    """
    for mention in mentions(path):
        if mention.kind == "frozen" and not any(_holds(graph, *_leg(cell, mention), mention.number) for cell in cells):
            raise _useless(graph, mention, path.legs[mention.leg])
        if mention.kind == "exempt" and not any(_exempts(graph, *_leg(cell, mention), mention.number) for cell in cells):
            raise mention.error(
                f"{mention.node} is not frozen on this leg, so there is nothing to exempt", "drop it from 'except'"
            )


def _leg(path: Path, mention: Mention) -> tuple[tuple[Site, ...], Leg]:
    """The leg that a mention is on: its sources, and the rest of it."""
    return path.legs[mention.leg - 1].targets if mention.leg else path.sources, path.legs[mention.leg]


def _holds(graph: Graph, sources: tuple[Site, ...], leg: Leg, number: int) -> bool:
    pattern = graph.canonical(leg.frozen[number])
    if not pattern.indices and graph.family(pattern.family).indices:
        return not any(_covers(graph.canonical(exempt), pattern) for exempt in leg.exempt)
    leg_ends = [*ends(sources, graph), *ends(leg.targets, graph)]
    return any(not _exempt(graph, leg, n) for n in frozen_by_name(graph, leg.frozen[number], leg_ends))


def _exempts(graph: Graph, sources: tuple[Site, ...], leg: Leg, number: int) -> bool:
    """Whether a name after ``except`` covers a node that would be frozen without it."""
    # ``matching``, not ``frozen_by_name``: the leg's own ends count here, so that a name may exempt one of them.
    pattern = graph.canonical(leg.exempt[number])
    named = {n for pattern in leg.frozen for n in matching(graph, pattern)}
    if leg.directly:
        named |= _between(graph, ends(sources, graph), ends(leg.targets, graph))
    return any(_covers(pattern, n) or (_covers(pattern.host, n.host) and n.term and n.term.covers(pattern.term)) for n in named)


def _useless(graph: Graph, mention: Mention, leg: Leg) -> PathError:
    if any(_covers(graph.canonical(exempt), graph.canonical(mention.node)) for exempt in leg.exempt):
        return mention.error(f"'except' exempts all of {mention.node}, so freezing it does nothing", "drop it from both")
    ports = graph.family(mention.node.family).freezable
    hint = "drop it from 'freezing'"
    if mention.node.port is None and len(ports) > 1:
        hint += f", or name the part of it to freeze, such as {replace(mention.node, port=ports[-1])}"
    return mention.error(f"{mention.node} is an end of this leg, which stays live, so freezing it does nothing", hint)
