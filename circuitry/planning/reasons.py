"""Why a leg can have no effect, in words, and what would give it one."""

from __future__ import annotations

from ..architecture.graph import Graph
from ..architecture.reach import Reach
from ..errors import PathError
from ..paths.values import Leg, Node, Site
from .arrivals import ConcreteLeg, can_arrive, tokens_between
from .frozen import exits, nodes_of
from .readings import read_at

_CANDIDATES = 6  # each costs a search of the graph, and the hint needs only one that helps


def unconnected(leg: ConcreteLeg, site: Site, targets: list[Node], frozen: set[Node]) -> PathError:
    """Nothing flows from a source to any target: the model runs the other way, or frozen nodes cut all paths.

    >>> import circuitry as ct
    >>> leg = ConcreteLeg.first(ct.parse("h[1] @ 1 -> h[0]"), ct.graph("mamba", layer=2))
    >>> unconnected(leg, leg.sources[0], [leg.graph.node("h[0]")], set()).problem
    'nothing flows from h[1] to h[0]'
    """
    part, names = leg.source(site), ", ".join(str(t.node) for t in leg.leg.targets)
    sources, target = nodes_of(site, leg.graph), targets[0]
    free, source = leg.graph.reach(sources), sources[0]
    if target in sources:
        return part.error(f"{target} is both the start and the end of this leg", "name two different nodes")
    if target.term and source.host == target.host:
        return part.error(
            f"nothing flows from {source} to {target}: the terms of {target.host} are read before any of them is written",
            "read a node that comes later, or one of its terms",
        )
    if leg.graph.terms.exit(target) not in free:
        if leg.graph.terms.exit(source) in leg.graph.reach([target]):
            hint = f"the model runs the other way: {target} -> {source}"
        else:
            hint = f"neither depends on the other; what follows {source}: {_followers(leg.graph, source)}"
        return part.error(f"nothing flows from {site.node} to {names}", hint)
    hint = "leave one that connects them live"
    if exemption := _exemption(leg, site, frozen):
        hint += f", for example{_exempting(leg, exemption)}"
    return part.error(f"{_freezing(leg.leg)} cuts every path from {site.node} to {names}: the effect would be exactly zero", hint)


def _followers(graph: Graph, node: Node) -> str:
    return ", ".join(str(n) for n in list(graph.nx.successors(node.host))[:3])


def _freezing(leg: Leg) -> str:
    return " ".join(["directly"] * leg.directly + [f"freezing {', '.join(map(str, leg.frozen))}"] * bool(leg.frozen))


def _exempting(leg: ConcreteLeg, node: Node) -> str:
    """The leg's words with one more node exempt; of a node frozen by its whole name, just the name."""
    if node in map(leg.graph.canonical, leg.leg.frozen):
        return f" {node}"
    return f": {_freezing(leg.leg)} except {', '.join(map(str, (*leg.leg.exempt, node)))}"


def alike(leg: ConcreteLeg) -> PathError:
    """All sources have the same values in both prompts.

    >>> import circuitry as ct
    >>> leg = ConcreteLeg.first(ct.parse("embed @ 1 -> logits"), ct.graph("mamba", layer=2), {"B": [2]}, 4, [(2,)])
    >>> alike(leg).hint
    'the prompts differ at B; from there to embed information moves exactly 0 tokens'
    """
    site, changed, where = leg.sources[0], leg.changed or (), leg.where or {}
    names = [name for name, at in where.items() if all(p in tokens for p, tokens in zip(at, changed, strict=True))]
    tokens = ", ".join(names) or f"token {min(min(tokens, default=0) for tokens in changed)} or later"
    sight = leg.graph.from_tokens[exits(site, leg.graph)[0]]
    return leg.source(site).error(
        f"no token in which the prompts differ reaches {site}: its value is the same in both, so the effect would be exactly zero",
        f"the prompts differ at {tokens}; from there to {site.node} information moves {sight} tokens",
        at_position=True,
    )


def too_far(leg: ConcreteLeg, site: Site, reach: dict[Node, Reach], frozen: set[Node]) -> PathError:
    """The nodes are connected, but no information gets from the one position to the other.

    >>> import circuitry as ct
    >>> leg = ConcreteLeg.first(ct.parse("x[0] @ 1 -> c[0] @ 9"), ct.graph("mamba", layer=2))
    >>> too_far(leg, leg.sources[0], leg.graph.reach([leg.graph.node("x[0]")]), set()).problem
    'out of reach: from x[0] to c[0] information moves 0 to 3 tokens, and 9 is 8 after 1'
    """
    target, rule = next((t, reach[n]) for t in leg.leg.targets for n in exits(t, leg.graph) if n in reach)
    part = leg.source(site)
    start, stop = site.at, read_at(target, leg.graph)
    offsets = [offset for some in tokens_between(leg, site, target) or [] for offset in some] or [0]
    if start is None:
        return part.error(
            f"nothing in which the prompts differ reaches {target} by way of {site.node}: the effect would be exactly zero",
            f"from {site.node} to {target.node} information moves {rule} tokens",
        )
    if max(offsets) < 0:
        return part.error(
            f"{stop} comes before {start}: nothing flows back in the text", "swap the two positions", at_position=True
        )
    if rule.most == 0:
        problem = (
            f"no unfrozen node between {site.node} and {target.node} moves information from {start} to {stop}: "
            "the effect would be exactly zero"
        )
        hint = "choose the same position for both ends" + ", or freeze less" * bool(frozen)
        if exemption := _exemption(leg, site, frozen):
            hint = f"exempt one that does, for example{_exempting(leg, exemption)}"
        return part.error(problem, hint)
    tokens = "token" if str(rule) in ("exactly 1", "at least 1") else "tokens"
    return part.error(
        f"out of reach: from {site.node} to {target.node} information moves {rule} {tokens}, and {stop} is {min(offsets)} after {start}",
        "choose positions within that reach" + ", or leave a node that carries it further unfrozen" * bool(frozen),
        at_position=True,
    )


def _exemption(leg: ConcreteLeg, site: Site, frozen: set[Node]) -> Node | None:
    """A frozen node that would let the effect through if it were exempt: one of the source's own layer if there is one; None without ``hints``."""
    if not leg.hints:
        return None
    sources = nodes_of(site, leg.graph)
    layer = sources[0].indices[:1]
    near = sorted(frozen, key=lambda n: (n.indices[:1] != layer, n.indices < layer, n.indices, n.family, str(n)))
    for node in near[:_CANDIDATES]:
        reach = leg.graph.reach(sources, frozen - {node})
        if any(can_arrive(leg, site, target, reach) for target in leg.leg.targets):
            return node
    return None
