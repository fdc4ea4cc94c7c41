"""Second check of a path: can it have an effect at all? Only the graph can see that an experiment is vacuous."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..architecture import Graph, Reach
from ..errors import PathError
from ..paths import Leg, Node, Path, Position, Site
from .frozen import ends, frozen_nodes, nodes_of
from .parts import Part, parts

Where = Mapping[str, Iterable[int]]
"""Absolute token position of every named position, one number an example."""
Changed = Sequence[Collection[int]]
"""Of every example the absolute positions at which its two prompts differ."""
_CANDIDATES = 6


@dataclass(frozen=True)
class _Leg:
    """One leg of a concrete path, with what is needed to reason and to complain about it."""

    number: int
    leg: Leg
    sources: tuple[Site, ...]
    parts: list[Part]
    graph: Graph
    where: Where | None
    length: int | None
    changed: Changed | None

    def source(self, site: Site) -> Part:
        return self._part(site, "target", self.number - 1) if self.number else self._part(site, "source", 0)

    def target(self, site: Site) -> Part:
        return self._part(site, "target", self.number)

    def _part(self, site: Site, kind: str, leg: int) -> Part:
        return next(p for p in self.parts if (p.site, p.kind, p.leg) == (site, kind, leg))


def check_effects(
    path: Path, graph: Graph, where: Where | None, length: int | None = None, changed: Changed | None = None
) -> None:
    """Refuse a concrete path whose effect must be exactly zero, and positions outside the prompts.

    Raises PathError with the reason: cut by freezing, run against the model, out of a convolution's reach, backwards in
    the text, nothing left that moves information between the two positions, or, where ``changed`` says which tokens differ
    between the two prompts, a source that has the same value on both.

    >>> import circuitry as ct
    >>> check_effects(ct.parse("h[1] @ 4 -> logits @ 9 freezing h"), ct.graph("mamba"), {})
    >>> check_effects(ct.parse("h[1] @ 4 -> logits freezing mixer_out"), ct.graph("mamba"), {})
    Traceback (most recent call last):
    circuitry.errors.PathError: freezing mixer_out cuts every path from h[1] to logits: the effect would be exactly zero
        h[1] @ 4 -> logits freezing mixer_out
        ^
    leave one that connects them live, for example: freezing mixer_out except mixer_out[1]
    """
    found, sources = parts(path), path.sources
    for number, leg in enumerate(path.legs):
        one = _Leg(number, leg, sources, found, graph, where, length, None if number else changed)
        if where is not None:
            for site in sources:
                _check_inside(site, one.source(site), where, length)
            for site in leg.targets:
                _check_inside(site, one.target(site), where, length)
        _check_leg(one)
        sources = leg.targets


def _check_inside(site: Site, part: Part, where: Where, length: int | None) -> None:
    if site.at is None or length is None:
        return
    for p in absolute(site.at, where):
        if not 0 <= p < length:
            end = f"the end of the prompts ({length} tokens)" if p >= length else "the first token"
            side = "past" if p >= length else "before"
            raise part.error(f"{site.at} is {side} {end}", "move it inside", at_position=True)


def absolute(at: Position, where: Where) -> list[int]:
    """The absolute positions a position stands for, one an example (one in all for a number).

    >>> absolute(Position("B", 1), {"B": [3, 5]})
    [4, 6]
    """
    if isinstance(at.base, int):
        return [at.base]
    return [int(p) + at.offset for p in where[str(at.base)]]


def _check_leg(one: _Leg) -> None:
    graph, targets = one.graph, ends(one.leg.targets, one.graph)
    held = frozen_nodes(graph, ends(one.sources, graph), targets, one.leg)
    reached = [graph.reach(nodes_of(site, graph), held) for site in one.sources]
    for site, reach in zip(one.sources, reached, strict=True):
        if not set(targets) & set(reach) - set(nodes_of(site, graph)):
            raise _unconnected(one, site, targets, held)
        if not any(_arrives(one, site, target, reach) for target in one.leg.targets):
            raise _too_far(one, site, reach, held)
    live = [(site, reach) for site, reach in zip(one.sources, reached, strict=True) if any(_differs(one, site))]
    if not live:
        raise _alike(one)
    for target in one.leg.targets:
        if not any(_arrives(one, source, target, reach) for source, reach in live):
            raise one.target(target).error(f"nothing flows into {target} on this leg", "drop it from the set")


def _unconnected(one: _Leg, site: Site, targets: list[Node], held: set[Node]) -> PathError:
    part, names = one.source(site), ", ".join(str(t.node) for t in one.leg.targets)
    sources, target = nodes_of(site, one.graph), targets[0]
    free, source = one.graph.reach(sources), sources[0]
    if target in sources:
        return part.error(f"{target} is both the start and the end of this leg", "name two different nodes")
    if target not in free:
        if source in one.graph.reach([target]):
            hint = f"the model runs the other way: {target} -> {source}"
        else:
            hint = f"they lie side by side; what follows {source}: {_followers(one.graph, source)}"
        return part.error(f"nothing flows from {site.node} to {names}", hint)
    hint = "leave one that connects them live"
    if spare := _spare(one, site, held):
        hint += f", for example{_sparing(one, spare)}"
    return part.error(f"{_freezing(one.leg)} cuts every path from {site.node} to {names}: the effect would be exactly zero", hint)


def _followers(graph: Graph, node: Node) -> str:
    return ", ".join(str(n) for n in list(graph.nx.successors(node))[:3])


def _freezing(leg: Leg) -> str:
    return " ".join(["directly"] * leg.directly + [f"freezing {', '.join(map(str, leg.frozen))}"] * bool(leg.frozen))


def _sparing(one: _Leg, node: Node) -> str:
    """The leg's words with one more node spared; of a node frozen by its whole name, just the name."""
    if node in map(one.graph.canonical, one.leg.frozen):
        return f" {node}"
    return f": {_freezing(one.leg)} except {', '.join(map(str, (*one.leg.spared, node)))}"


def _differs(one: _Leg, site: Site) -> list[bool]:
    """Whether the two prompts of each example may give the site different values; one answer where that is not known."""
    where = one.where or {}
    if one.changed is None or (site.at is not None and isinstance(site.at.base, str) and site.at.base not in where):
        return [True]
    if site.at is None:
        return [any(one.changed)]
    at, sight = absolute(site.at, where), [one.graph.from_tokens[node] for node in nodes_of(site, one.graph)]
    examples = zip(at * (len(one.changed) // len(at)), one.changed, strict=True)
    return [any(reach.reaches(p - c) for reach in sight for c in tokens) for p, tokens in examples]


def _alike(one: _Leg) -> PathError:
    """All sources have the same values in both prompts."""
    site, changed, where = one.sources[0], one.changed or (), one.where or {}
    names = [name for name, at in where.items() if all(p in tokens for p, tokens in zip(at, changed, strict=True))]
    tokens = ", ".join(names) or f"token {min(min(tokens, default=0) for tokens in changed)} or later"
    sight = one.graph.from_tokens[nodes_of(site, one.graph)[0]]
    return one.source(site).error(
        f"no token in which the prompts differ reaches {site}: its value is the same in both, so the effect would be exactly zero",
        f"the prompts differ at {tokens}; from there to {site.node} information moves {sight} tokens",
        at_position=True,
    )


def _arrives(one: _Leg, source: Site, target: Site, reach: Mapping[Node, Reach]) -> bool:
    """Whether a change at the source's position can be at the target's position."""
    offsets = _offsets(one, source, target)
    if offsets is not None and any(differs := _differs(one, source)):
        size = max(len(offsets), len(differs))
        pairs = zip(offsets * (size // len(offsets)), differs * (size // len(differs)), strict=True)
        offsets = [offset for offset, live in pairs if live]
    arriving = [reach[node] for node in nodes_of(target, one.graph) if node in reach]
    return any(offsets is None or any(rule.reaches(o) for o in offsets) for rule in arriving)


def _offsets(one: _Leg, source: Site, target: Site) -> list[int] | None:
    """Tokens from source to target, one number an example; None where that is not fixed or not known."""
    start, stop = source.at, _read_at(one, target)
    if start is None and stop is not None:
        return _offsets_of_all(one, source, stop)
    if start is None or stop is None:
        return None
    if start.base == stop.base and not isinstance(start.base, int):
        return [stop.offset - start.offset]
    where = one.where or {}
    if any(isinstance(p.base, str) and p.base not in where for p in (start, stop)):
        return None
    first, last = absolute(start, where), absolute(stop, where)
    size = max(len(first), len(last))
    return [b - a for a, b in zip(first * (size // len(first)), last * (size // len(last)), strict=True)]


def _offsets_of_all(one: _Leg, source: Site, stop: Position) -> list[int] | None:
    """Tokens to the target from every position at which the source has two values; None where that is not known."""
    where = one.where or {}
    if one.changed is None or one.length is None or (isinstance(stop.base, str) and stop.base not in where):
        return None
    last = absolute(stop, where)
    examples = set(zip(map(tuple, one.changed), last * (len(one.changed) // len(last)), strict=True))
    sight = [one.graph.from_tokens[node] for node in nodes_of(source, one.graph)]
    differs = ((p, end) for c, end in examples for p in range(one.length) if any(r.reaches(p - t) for r in sight for t in c))
    return sorted({end - p for p, end in differs})


def _read_at(one: _Leg, target: Site) -> Position | None:
    """The logits are read at the answer unless the path says otherwise."""
    logits = one.graph.family(target.node.family).role == "logits"
    return Position("END") if target.at is None and logits else target.at


def _too_far(one: _Leg, site: Site, reach: dict[Node, Reach], held: set[Node]) -> PathError:
    """The nodes are connected, but no information gets from the one position to the other."""
    target, rule = next((t, reach[n]) for t in one.leg.targets for n in nodes_of(t, one.graph) if n in reach)
    part = one.source(site)
    start, stop, offsets = site.at, _read_at(one, target), _offsets(one, site, target) or [0]
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
        hint = "choose the same position for both ends" + ", or spare more of what is held" * bool(held)
        if spare := _spare(one, site, held):
            hint = f"spare one that does, for example{_sparing(one, spare)}"
        return part.error(problem, hint)
    tokens = "token" if str(rule) in ("exactly 1", "at least 1") else "tokens"
    return part.error(
        f"out of reach: from {site.node} to {target.node} information moves {rule} {tokens}, and {stop} is {min(offsets)} after {start}",
        "choose positions within that reach, or leave a node that carries it further unfrozen",
        at_position=True,
    )


def _spare(one: _Leg, site: Site, held: set[Node]) -> Node | None:
    """A frozen node that would let the effect through if it were spared: one of the source's own layer if there is one."""
    sources = nodes_of(site, one.graph)
    layer = sources[0].indices[:1]
    near = sorted(held, key=lambda n: (n.indices[:1] != layer, n.indices < layer, n.indices, n.family))
    for node in near[:_CANDIDATES]:
        reach = one.graph.reach(sources, held - {node})
        if any(_arrives(one, site, target, reach) for target in one.leg.targets):
            return node
    return None
