"""Where a change at a leg's sources can be in each example: its tokens, and whether it reaches a target."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ..architecture.graph import Graph
from ..architecture.reach import Reach
from ..paths.positions import Position
from ..paths.values import Leg, Node, Path, Site
from .frozen import ends, exits, frozen_nodes, nodes_of
from .mentions import Mention, mentions
from .positions import Lengths, Where, absolute, together
from .readings import read_at

Changed = Sequence[Collection[int]]
"""For every example, the absolute positions at which its two prompts differ."""


@dataclass(frozen=True)
class ConcreteLeg:
    """One leg of a concrete path, with what is needed to reason and to complain about it."""

    number: int
    leg: Leg
    sources: tuple[Site, ...]
    mentions: list[Mention]
    graph: Graph
    where: Where | None
    length: Lengths
    changed: Changed | None
    moved: Mapping[Site, list[tuple[int, ...]]]
    """For each source at every position, where the leg before can have moved it in each example; empty on the first leg."""
    hints: bool = True
    """Whether a refusal says which frozen node would have to be exempt. That takes searches of the graph, and nobody reads most refusals."""

    @classmethod
    def first(
        cls, path: Path, graph: Graph, where: Where | None = None, length: Lengths = None, changed: Changed | None = None
    ) -> ConcreteLeg:
        """The first leg of a path without open axes.

        >>> import circuitry as ct
        >>> ConcreteLeg.first(ct.parse("mlp[0] -> mlp[1] -> logits"), ct.graph("gpt2")).leg.targets[0].node.indices
        (1,)
        """
        return cls(0, path.legs[0], path.sources, mentions(path), graph, where, length, changed, {})

    def source(self, site: Site) -> Mention:
        """Where the path names one of the leg's sources."""
        return self._part(site, "target", self.number - 1) if self.number else self._part(site, "source", 0)

    def target(self, site: Site) -> Mention:
        """Where the path names one of the leg's targets."""
        return self._part(site, "target", self.number)

    def _part(self, site: Site, kind: str, leg: int) -> Mention:
        return next(p for p in self.mentions if (p.site, p.kind, p.leg) == (site, kind, leg))


def two_values(leg: ConcreteLeg, site: Site) -> list[bool]:
    """Whether the two prompts of each example may give the site different values; one answer for all if that is not known.

    >>> import circuitry as ct
    >>> leg = ConcreteLeg.first(ct.parse("embed @ 2 -> logits @ 3"), ct.graph("mamba", layer=2), {}, 4, [(2,), (3,)])
    >>> two_values(leg, leg.sources[0])
    [True, False]
    """
    where = leg.where or {}
    if leg.changed is None or (site.at is not None and isinstance(site.at.base, str) and site.at.base not in where):
        return [True]
    if site.at is None:
        return [any(leg.changed)]
    at, sight = absolute(site.at, where), [leg.graph.from_tokens[node] for node in exits(site, leg.graph)]
    examples = zip(at * (len(leg.changed) // len(at)), leg.changed, strict=True)
    return [any(reach.reaches(p - c) for reach in sight for c in tokens) for p, tokens in examples]


def can_arrive(leg: ConcreteLeg, source: Site, target: Site, reach: Mapping[Node, Reach]) -> bool:
    """Whether a change at the source's position can be at the target's position.

    >>> import circuitry as ct
    >>> leg = ConcreteLeg.first(ct.parse("ssm_state[0] @ 3 -> ssm_state[1] @ 2"), ct.graph("mamba", layer=2))
    >>> (source,), (target,) = leg.sources, leg.leg.targets
    >>> can_arrive(leg, source, target, leg.graph.reach([source.node]))
    False
    """
    arriving = arriving_in(leg, source, target, reach)
    if arriving is None:
        return True
    differs = two_values(leg, source)
    if not any(differs):
        return any(arriving)  # ``_check_leg`` checks apart whether any source differs between the prompts
    arriving, differs = together(arriving, differs)
    return any(arrives and live for arrives, live in zip(arriving, differs, strict=True))


def arriving_in(leg: ConcreteLeg, source: Site, target: Site, reach: Mapping[Node, Reach]) -> list[bool] | None:
    """In which examples a change at the source's position can be at the target's; None for all, as far as that is known.

    >>> import circuitry as ct
    >>> path, where = ct.parse("ssm_state[0] @ B -> gate[1] @ C"), {"B": [1, 3], "C": [2, 2]}
    >>> leg = ConcreteLeg.first(path, ct.graph("mamba", layer=2), where)
    >>> (source,), (target,) = leg.sources, leg.leg.targets
    >>> arriving_in(leg, source, target, leg.graph.reach([source.node]))
    [True, False]
    """
    rules = list(dict.fromkeys(reach[node] for node in exits(target, leg.graph) if node in reach))
    offsets = tokens_between(leg, source, target)
    if not rules:
        return [False]
    return None if offsets is None else [any(rule.reaches(o) for rule in rules for o in some) for some in offsets]


def tokens_between(leg: ConcreteLeg, source: Site, target: Site) -> list[tuple[int, ...]] | None:
    """Tokens from source to target in each example: one number, or, if the source is at every position, one number from each
    position at which it has two values. None if they are not fixed or not known.

    >>> import circuitry as ct
    >>> leg = ConcreteLeg.first(ct.parse("h[0] @ B -> h[1] @ C"), ct.graph("mamba", layer=2), {"B": [1, 3], "C": [2, 2]})
    >>> tokens_between(leg, leg.sources[0], leg.leg.targets[0])
    [(1,), (-1,)]
    """
    start, stop = source.at, read_at(target, leg.graph)
    if start is None and stop is not None:
        return _offsets_of_all(leg, source, stop)
    if start is None or stop is None:
        return None
    if start.base == stop.base and not isinstance(start.base, int):
        return [(stop.offset - start.offset,)]
    where = leg.where or {}
    if any(isinstance(p.base, str) and p.base not in where for p in (start, stop)):
        return None
    first, last = together(absolute(start, where), absolute(stop, where))
    return [(b - a,) for a, b in zip(first, last, strict=True)]


def _offsets_of_all(leg: ConcreteLeg, source: Site, stop: Position) -> list[tuple[int, ...]] | None:
    where, live = leg.where or {}, _live(leg, source)
    if live is None or (isinstance(stop.base, str) and stop.base not in where):
        return None
    last = absolute(stop, where)
    count = max(len(live), len(last))  # either may have one entry for all examples
    pairs = zip(live * (count // len(live)), last * (count // len(last)), strict=True)
    return [tuple(end - p for p in some) for some, end in pairs]


def _live(leg: ConcreteLeg, site: Site) -> list[tuple[int, ...]] | None:
    """The positions in each example at which a source may differ from the base run; None if they are not known."""
    where = leg.where or {}
    if site.at is not None:
        if isinstance(site.at.base, str) and site.at.base not in where:
            return None
        at, differs = together(absolute(site.at, where), [int(two) for two in two_values(leg, site)])
        return [(p,) if two else () for p, two in zip(at, differs, strict=True)]
    if leg.number:
        return leg.moved.get(site)
    if leg.changed is None or leg.length is None:
        return None
    sight = [leg.graph.from_tokens[node] for node in exits(site, leg.graph)]
    return _arrived([tuple(map(tuple, leg.changed))], [sight], leg.length)


def moved_on(leg: ConcreteLeg) -> dict[Site, list[tuple[int, ...]]]:
    """Where a change can be in each target at every position after this leg, as far as that is known.

    >>> import circuitry as ct
    >>> leg = ConcreteLeg.first(ct.parse("x[0] @ 1 -> c[0] -> logits"), ct.graph("mamba", layer=2), {}, 4)
    >>> list(moved_on(leg).values())
    [[(1, 2, 3)]]
    """
    live = [_live(leg, source) for source in leg.sources]
    if leg.length is None or any(some is None for some in live):
        return {}
    count = max(len(some) for some in live if some is not None)
    starts = [some * (count // len(some)) for some in live if some is not None]
    frozen = frozen_nodes(leg.graph, ends(leg.sources, leg.graph), ends(leg.leg.targets, leg.graph), leg.leg)
    reached = [leg.graph.reach(nodes_of(source, leg.graph), frozen) for source in leg.sources]
    arrived = {}
    for target in (target for target in leg.leg.targets if target.at is None):
        nodes = exits(target, leg.graph)
        arrived[target] = _arrived(starts, [[reach[n] for n in nodes if n in reach] for reach in reached], leg.length)
    return arrived


def _arrived(starts: Sequence[Sequence[tuple[int, ...]]], rules: list[list[Reach]], length: Lengths) -> list[tuple[int, ...]]:
    """The positions of each example that are reached from its ``starts`` [source][example], each source by its own rules."""
    sizes = [length] if isinstance(length, int) else list(length or ())
    count = max(len(starts[0]), len(sizes))  # either may have one entry for all examples
    begins = list(zip(*starts, strict=True)) * (count // len(starts[0]))

    ways = tuple(tuple(dict.fromkeys(reaches)) for reaches in rules)
    return [_positions(begun, ways, size) for begun, size in zip(begins, sizes * (count // len(sizes)), strict=True)]


@functools.lru_cache(maxsize=1 << 14)
def _positions(begun: tuple[tuple[int, ...], ...], rules: tuple[tuple[Reach, ...], ...], size: int) -> tuple[int, ...]:
    """The positions of one text that are reached. Cached, since examples of one template repeat, and so do most cells of a sweep."""
    pairs = [(p, rule) for some, reaches in zip(begun, rules, strict=True) for p in some for rule in reaches]
    return tuple(at for at in range(size) if any(rule.reaches(at - p) for p, rule in pairs))
