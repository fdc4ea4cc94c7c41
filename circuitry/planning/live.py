"""Live tokens: the tokens of a patched run that can differ from the base run and matter, so have to be computed. Plain data, no torch.

A token of a node is live on a leg if a change at the leg's sources can have arrived there and what is read depends on it. Everything
else in a patched run equals the base run. A live set may have too many tokens, never too few: a token that is computed for nothing
equals that of the base run.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..architecture.distances import Bits, filled
from ..architecture.graph import Graph
from ..architecture.terms import host_of, terms_among
from ..paths.values import Node
from .regions import Region, regions_of
from .values import Pass

Nodes = tuple[Node, ...]


@dataclass(frozen=True)
class End:
    """Nodes that are written or read at one token; with ``every``, written at all tokens from it on, or read at all up to it."""

    nodes: Nodes
    at: int
    every: bool = False


@dataclass(frozen=True)
class Live:
    """Bit t: token t is live. ``tokens`` is by region; ``states`` is by block, for its recurrent states, a range without gaps."""

    tokens: Mapping[Region, Bits]
    states: Mapping[str, Bits]


class LiveSets:
    """Answers where the legs of a plan are live, and keeps what several of them share.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> g = ct.graph("gpt2", layer=3, head=2)
    >>> one = plan("head[1,0] @ END -> logits freezing head", g, where={"END": [4]}).cells[0].passes[0]
    >>> live = LiveSets(g, 7).of(one, [End((g.node("head[1,0]"),), 4)], [End((g.node("logits"),), 4)])
    >>> [f"{region.layer} {region.block}" for region in sorted(live.tokens)]
    ['1 ', '1 transformer.h.1.attn', '1 transformer.h.1.mlp', '2 ', '2 transformer.h.2.mlp', '3 ']
    """

    def __init__(self, graph: Graph, length: int) -> None:
        self.graph, self.length, self.full = graph, length, (1 << length) - 1
        self.regions = regions_of(graph)
        self._states = frozenset(node for family in graph.by_role("state") for node in graph.nodes(family.name, ports=True))
        self._needed: dict[tuple[frozenset[Node], Nodes], dict[Node, Bits]] = {}
        self._moved: dict[tuple[frozenset[Node], Nodes, tuple[Nodes, ...]], dict[Node, Bits]] = {}
        self._shapes: dict[object, _Shape] = {}
        self._lives: dict[tuple[object, ...], Live] = {}
        self._by_region: dict[frozenset[Node], dict[Region, list[Node]]] = {}

    def of(self, step: Pass, starts: Iterable[End], stops: Iterable[End]) -> Live:
        """Where one leg is live that is written at ``starts`` and read at ``stops``."""
        begins, ends, terms = tuple(starts), tuple(stops), self.graph.terms
        written, read = (
            (tuple(map(terms.entry, start.nodes)) for start in begins),
            (tuple(map(terms.exit, s.nodes)) for s in ends),
        )
        key = frozenset(terms.closed(step.frozen)), tuple(written), tuple(read)
        places = tuple((s.at, s.every) for s in begins), tuple((s.at, s.every) for s in ends)
        if (*key, *places) not in self._lives:
            if key not in self._shapes:
                self._shapes[key] = self._shape(*key)
            self._lives[*key, *places] = self._placed(self._shapes[key], *places)
        return self._lives[*key, *places]

    def frozen_by_region(self, frozen: frozenset[Node]) -> Mapping[Region, Sequence[Node]]:
        """What is frozen, by the region that computes it: a block's output is computed with what is inside."""
        if frozen not in self._by_region:
            by_region: dict[Region, list[Node]] = {}
            for node in filter(frozen.__contains__, self.graph.nodes(ports=True)):
                region = self.regions.of(node)
                by_region.setdefault(Region(region.layer, self._outputs.get(node, region.block)), []).append(node)
            for node in terms_among(frozen):  # of a block's output too where it is written, and its block not computed
                by_region.setdefault(self.regions.of(node), []).append(node)
            self._by_region[frozen] = by_region
        return self._by_region[frozen]

    @functools.cached_property
    def _outputs(self) -> dict[Node, str]:
        return {node: block for block, node in self.regions.blocks.items()}

    def _shape(self, frozen: frozenset[Node], sources: tuple[Nodes, ...], targets: tuple[Nodes, ...]) -> _Shape:
        """What can have moved and what is needed, whatever the tokens are: for each region, the different pairs among its nodes."""
        needed = [self._needed_by(frozen, nodes) for nodes in targets]
        within = set[Node]().union(*needed)
        moved = [self.graph.distances.moved(nodes, self.length, frozen, within) for nodes in sources]
        tokens: dict[Region, set[_Pair]] = {}
        states: dict[str, set[_Pair]] = {}
        for node in set[Node]().union(*moved):
            pair = tuple(m.get(node, 0) for m in moved), tuple(n.get(node, 0) for n in needed)
            region = self.regions.of(node)
            tokens.setdefault(region, set()).add(pair)
            if host_of(node) in self._states:
                states.setdefault(region.block, set()).add(pair)
        for block, node in self.regions.blocks.items():
            if block not in self.regions.inner and any(node in m for m in moved):
                # Its output may be where the change begins, and then there is nothing to compute.
                arriving = tuple(self.graph.distances.arriving(node, m, self.length) for m in moved)
                if any(arriving):
                    pair = arriving, tuple(n.get(node, 0) for n in needed)
                    tokens.setdefault(Region(self.regions.of(node).layer, block), set()).add(pair)
        return _Shape(
            {region: frozenset(pairs) for region, pairs in tokens.items()},
            {block: frozenset(pairs) for block, pairs in states.items()},
        )

    def _needed_by(self, frozen: frozenset[Node], nodes: Nodes) -> dict[Node, Bits]:
        if (frozen, nodes) not in self._needed:
            self._needed[frozen, nodes] = self.graph.distances.needed(nodes, self.length, frozen)
        return self._needed[frozen, nodes]

    def _placed(self, shape: _Shape, starts: tuple[_At, ...], stops: tuple[_At, ...]) -> Live:
        tokens = {region: bits for region, pairs in shape.tokens.items() if (bits := _met(pairs, starts, stops, self.full))}
        states = {block: _hull(bits) for block, pairs in shape.states.items() if (bits := _met(pairs, starts, stops, self.full))}
        for region, bits in list(tokens.items()):
            if region.block:
                tokens[region] = bits = bits | states.get(region.block, 0)
                around = Region(region.layer)
                tokens[around] = tokens.get(around, 0) | bits
        return Live(tokens, states)


_At = tuple[int, bool]
_Pair = tuple[tuple[Bits, ...], tuple[Bits, ...]]
"""For one node: the distances moved from each start, and those that each stop needs."""


@dataclass(frozen=True)
class _Shape:
    tokens: Mapping[Region, frozenset[_Pair]]
    states: Mapping[str, frozenset[_Pair]]


@functools.lru_cache(maxsize=1 << 14)
def _met(pairs: frozenset[_Pair], starts: tuple[_At, ...], stops: tuple[_At, ...], full: Bits) -> Bits:
    """The tokens in ``full`` at which, by any of the pairs, a change can be and is needed."""
    live = 0
    for moved, needed in pairs:
        changed = 0
        for bits, (at, every) in zip(moved, starts, strict=True):
            changed |= filled(bits << at, full) if every else (bits << at) & full
        read = 0
        for bits, (at, every) in zip(needed, stops, strict=True):
            back = _backwards(bits, at)
            read |= (1 << back.bit_length()) - 1 if every else back
        live |= changed & read
    return live


@functools.lru_cache(maxsize=1 << 14)
def _backwards(bits: Bits, at: int) -> Bits:
    """Distances back from a token, as tokens; none if the token comes before the first one."""
    if at < 0:
        return 0
    low = bits & ((1 << (at + 1)) - 1)
    return int(bin(low)[2:].zfill(at + 1)[::-1], 2)


def _hull(bits: Bits) -> Bits:
    """All tokens from the first to the last: a recurrent state passes through every token in between."""
    return ((1 << bits.bit_length()) - 1) & ~((bits & -bits) - 1)


def positions(bits: Bits) -> list[int]:
    """The tokens of a set, in order.

    >>> positions(0b1101)
    [0, 2, 3]
    """
    text = bin(bits)[:1:-1]
    return [number for number, bit in enumerate(text) if bit == "1"]


def described(live: Live, graph: Graph) -> str:
    """In words: the blocks that are computed anew, with how many tokens, by family.

    >>> import circuitry as ct
    >>> described(Live({Region(0, "transformer.h.0.mlp"): 0b1, Region(1, "transformer.h.1.mlp"): 0b11}, {}), ct.graph("gpt2"))
    'mlp 0 to 1 (1 to 2 tokens)'
    """
    layers, counts = dict[str, list[int]](), dict[str, list[int]]()
    for region, bits in sorted(live.tokens.items()):
        if region.block:
            family = regions_of(graph).blocks[region.block].family
            layers.setdefault(family, []).append(region.layer)
            counts.setdefault(family, []).append(bits.bit_count())
    if not layers:
        return "nothing but the residual stream; no block is computed again"
    return ", ".join(
        f"{family} {_span(layers[family])} ({_span(counts[family])} token{'s' * (max(counts[family]) > 1)})" for family in layers
    )


def _span(numbers: list[int]) -> str:
    least, most = min(numbers), max(numbers)
    return str(least) if least == most else f"{least} to {most}"
