"""Second check of a path: can it have an effect at all? Only the graph can see that an experiment is vacuous."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..architecture.graph import Graph
from ..architecture.reach import Reach
from ..errors import PathError
from ..paths.values import Leg, Node, Path, Position, Site
from .frozen import ends, frozen_nodes, nodes_of
from .parts import Part, parts
from .positions import Lengths, Where, absolute, check_inside, together
from .readings import read_at
from .twice import check_once

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
    length: Lengths
    changed: Changed | None
    moved: Mapping[Site, list[tuple[int, ...]]]
    """Of a leg after the first: where each of its sources at every position can have moved on the leg before, in each example."""

    def source(self, site: Site) -> Part:
        return self._part(site, "target", self.number - 1) if self.number else self._part(site, "source", 0)

    def target(self, site: Site) -> Part:
        return self._part(site, "target", self.number)

    def _part(self, site: Site, kind: str, leg: int) -> Part:
        return next(p for p in self.parts if (p.site, p.kind, p.leg) == (site, kind, leg))


def check_effects(path: Path, graph: Graph, where: Where | None, length: Lengths = None, changed: Changed | None = None) -> None:
    """Refuse a concrete path whose effect must be exactly zero, in all examples or in some, and positions outside the prompts.

    Raises PathError with the reason: cut by freezing, run against the model, out of a convolution's reach, backwards in
    the text, nothing left that moves information between the two positions, a set that names one site twice, or, where
    ``changed`` says which tokens differ between the two prompts, a source that has the same value on both.

    >>> import circuitry as ct
    >>> check_effects(ct.parse("h[1] @ 4 -> logits @ 9 freezing h"), ct.graph("mamba"), {})
    >>> check_effects(ct.parse("h[1] @ 4 -> logits freezing mixer_out"), ct.graph("mamba"), {})
    Traceback (most recent call last):
    circuitry.errors.PathError: freezing mixer_out cuts every path from h[1] to logits: the effect would be exactly zero
        h[1] @ 4 -> logits freezing mixer_out
        ^
    leave one that connects them live, for example: freezing mixer_out except mixer_out[1]
    """
    found, sources, moved = parts(path), path.sources, dict[Site, list[tuple[int, ...]]]()
    for number, leg in enumerate(path.legs):
        one = _Leg(number, leg, sources, found, graph, where, length, None if number else changed, moved)
        if where is not None:
            for site in sources:
                check_inside(site, one.source(site), where, length)
            for site in leg.targets:
                check_inside(site, one.target(site), where, length)
        for kind in ("source", "target"):
            measured = kind == "target" and number == len(path.legs) - 1
            check_once((p for p in found if (p.kind, p.leg) == (kind, number)), graph, where, measured=measured)
        _check_leg(one)
        if length is not None and not isinstance(length, int):
            _check_every_example(one)
        sources, moved = leg.targets, _moved(one) if number < len(path.legs) - 1 else {}


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


def _check_every_example(one: _Leg) -> None:
    """Refuse what has an effect in some examples only: in the others it is exactly zero, and would count as if it were measured."""
    differs = [
        any(some) for some in zip(*together(*(list(map(int, _differs(one, source))) for source in one.sources)), strict=True)
    ]
    if not all(differs):
        raise one.source(one.sources[0]).error(
            f"no token in which the prompts differ reaches {_names(one.sources)} in {differs.count(False)} of {len(differs)} examples: "
            "the effect there would be exactly zero",
            "choose a position after the change in every example",
            at_position=True,
        )
    if all(source.at is None for source in one.sources) and one.changed is None:
        return  # it begins before whatever is read
    apart = (_offsets(one, source, target) for source in one.sources for target in one.leg.targets)
    if all(offsets is None or len(set(offsets)) == 1 for offsets in apart):
        return  # what holds of one example holds of all
    held = frozen_nodes(one.graph, ends(one.sources, one.graph), ends(one.leg.targets, one.graph), one.leg)
    reached = [(site, one.graph.reach(nodes_of(site, one.graph), held)) for site in one.sources]
    for site, reach in reached:
        each = [_arriving(one, site, target, reach) for target in one.leg.targets]
        _check_arriving(each, one.source(site), f"from {site} to {_names(one.leg.targets)}")
    for target in one.leg.targets:
        each = [_arriving(one, site, target, reach) for site, reach in reached]
        _check_arriving(each, one.target(target), f"from {_names(one.sources)} to {target}")


def _names(members: tuple[Site, ...]) -> str:
    return ", ".join(map(str, members))


def _check_arriving(each: list[list[bool] | None], part: Part, way: str) -> None:
    if any(arrives is None for arrives in each):
        return
    arrives = [any(some) for some in zip(*together(*(some for some in each if some)), strict=True)]
    if not all(arrives):
        raise part.error(
            f"nothing flows {way} in {arrives.count(False)} of {len(arrives)} examples: the effect there would be exactly zero",
            "choose positions that stand in one order in every example",
            at_position=True,
        )


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
    arriving = _arriving(one, source, target, reach)
    if arriving is None:
        return True
    differs = _differs(one, source)
    if not any(differs):
        return any(arriving)  # a source that is the same in both prompts is refused by itself
    arriving, differs = together(arriving, differs)
    return any(arrives and live for arrives, live in zip(arriving, differs, strict=True))


def _arriving(one: _Leg, source: Site, target: Site, reach: Mapping[Node, Reach]) -> list[bool] | None:
    """In which examples a change at the source's position can be at the target's; None for all, as far as that is known."""
    rules = list(dict.fromkeys(reach[node] for node in nodes_of(target, one.graph) if node in reach))
    offsets = _offsets(one, source, target)
    if not rules:
        return [False]
    return None if offsets is None else [any(rule.reaches(o) for rule in rules for o in some) for some in offsets]


def _offsets(one: _Leg, source: Site, target: Site) -> list[tuple[int, ...]] | None:
    """Tokens from source to target in each example: one number, or one from every position at which a source that is at all of
    them has two values. None where that is not fixed or not known."""
    start, stop = source.at, read_at(target, one.graph)
    if start is None and stop is not None:
        return _offsets_of_all(one, source, stop)
    if start is None or stop is None:
        return None
    if start.base == stop.base and not isinstance(start.base, int):
        return [(stop.offset - start.offset,)]
    where = one.where or {}
    if any(isinstance(p.base, str) and p.base not in where for p in (start, stop)):
        return None
    first, last = together(absolute(start, where), absolute(stop, where))
    return [(b - a,) for a, b in zip(first, last, strict=True)]


def _offsets_of_all(one: _Leg, source: Site, stop: Position) -> list[tuple[int, ...]] | None:
    where, live = one.where or {}, _live(one, source)
    if live is None or (isinstance(stop.base, str) and stop.base not in where):
        return None
    last = absolute(stop, where)
    count = max(len(live), len(last))  # of either there may be one for all examples
    pairs = zip(live * (count // len(live)), last * (count // len(last)), strict=True)
    return [tuple(end - p for p in some) for some, end in pairs]


def _live(one: _Leg, site: Site) -> list[tuple[int, ...]] | None:
    """The positions at which a source may have another value than in the base run, in each example; None where that is not known."""
    where = one.where or {}
    if site.at is not None:
        if isinstance(site.at.base, str) and site.at.base not in where:
            return None
        at, differs = together(absolute(site.at, where), [int(two) for two in _differs(one, site)])
        return [(p,) if two else () for p, two in zip(at, differs, strict=True)]
    if one.number:
        return one.moved.get(site)
    if one.changed is None or one.length is None:
        return None
    sight = [one.graph.from_tokens[node] for node in nodes_of(site, one.graph)]
    return _arrived([tuple(map(tuple, one.changed))], [sight], one.length)


def _moved(one: _Leg) -> dict[Site, list[tuple[int, ...]]]:
    """Where each target at every position can have moved on this leg, as far as that is known."""
    live = [_live(one, source) for source in one.sources]
    if one.length is None or any(some is None for some in live):
        return {}
    count = max(len(some) for some in live if some is not None)
    starts = [some * (count // len(some)) for some in live if some is not None]
    held = frozen_nodes(one.graph, ends(one.sources, one.graph), ends(one.leg.targets, one.graph), one.leg)
    reached = [one.graph.reach(nodes_of(source, one.graph), held) for source in one.sources]
    found = {}
    for target in (target for target in one.leg.targets if target.at is None):
        nodes = nodes_of(target, one.graph)
        found[target] = _arrived(starts, [[reach[n] for n in nodes if n in reach] for reach in reached], one.length)
    return found


def _arrived(starts: Sequence[Sequence[tuple[int, ...]]], rules: list[list[Reach]], length: Lengths) -> list[tuple[int, ...]]:
    """The positions of each example that are reached from its ``starts`` [source][example], each source by its own rules."""
    sizes = [length] if isinstance(length, int) else list(length or ())
    count = max(len(starts[0]), len(sizes))  # of either there may be one for all examples
    begins = list(zip(*starts, strict=True)) * (count // len(starts[0]))

    ways = tuple(tuple(dict.fromkeys(own)) for own in rules)
    return [_positions(begun, ways, size) for begun, size in zip(begins, sizes * (count // len(sizes)), strict=True)]


@functools.lru_cache(maxsize=1 << 14)
def _positions(begun: tuple[tuple[int, ...], ...], rules: tuple[tuple[Reach, ...], ...], size: int) -> tuple[int, ...]:
    """The positions of one text that are reached; examples of one wording are alike, and so are most cells of a sweep."""
    pairs = [(p, rule) for some, own in zip(begun, rules, strict=True) for p in some for rule in own]
    return tuple(at for at in range(size) if any(rule.reaches(at - p) for p, rule in pairs))


def differs_everywhere(path: Path, graph: Graph, where: Where, changed: Changed | None) -> bool:
    """Whether every source has two values in every example, so that none counts with an effect that is exactly zero.

    >>> import circuitry as ct
    >>> path, where = ct.parse("embed @ 2 -> logits"), {"END": [5, 5]}
    >>> [differs_everywhere(path, ct.graph("gpt2"), where, changed) for changed in ([(2,), (2,)], [(2,), (3,)])]
    [True, False]
    """
    one = _Leg(0, path.legs[0], path.sources, [], graph, where, None, changed, {})
    return all(all(_differs(one, site)) for site in path.sources)


def _too_far(one: _Leg, site: Site, reach: dict[Node, Reach], held: set[Node]) -> PathError:
    """The nodes are connected, but no information gets from the one position to the other."""
    target, rule = next((t, reach[n]) for t in one.leg.targets for n in nodes_of(t, one.graph) if n in reach)
    part = one.source(site)
    start, stop = site.at, read_at(target, one.graph)
    offsets = [offset for some in _offsets(one, site, target) or [] for offset in some] or [0]
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
    near = sorted(held, key=lambda n: (n.indices[:1] != layer, n.indices < layer, n.indices, n.family, str(n)))
    for node in near[:_CANDIDATES]:
        reach = one.graph.reach(sources, held - {node})
        if any(_arrives(one, site, target, reach) for target in one.leg.targets):
            return node
    return None
