"""Which tokens are live, by brute force: descendants and ancestors in a graph unrolled over positions, without what is frozen."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator

import networkx as nx
import numpy as np

from circuitry import Graph
from circuitry.executing.suffix.rows import Job, Leg, Runs
from circuitry.paths import Node
from circuitry.planning import Plan, absolute
from circuitry.planning.live import LiveSets
from circuitry.planning.regions import Region, regions_of
from circuitry.prompting import Prompts

Token = tuple[Node, int]
unrolled: Callable[[Graph, int], nx.DiGraph[Token]] = functools.cache(Graph.unroll)


def runs_of(made: Plan, prompts: Prompts) -> Runs:
    """The runs of a plan, without guards, each from its own beginning."""
    jobs = [Job(number, cell, np.arange(len(prompts))) for number, cell in enumerate(made.cells)]
    return Runs(made, jobs, prompts, LiveSets(made.graph, prompts.length), share_beginnings=False)


def legs_of(runs: Runs) -> Iterator[tuple[Leg, int, int]]:
    """Every leg of every example: the leg, the example and the first token at which the leg before it was written."""
    first: dict[tuple[int, int], int] = {}
    for leg in sorted(runs.legs, key=lambda leg: leg.number):
        for example, low in zip(leg.examples.tolist(), leg.low.tolist(), strict=True):
            yield leg, example, first.get((id(leg.job), example), 0)
            first[id(leg.job), example] = low


def live(graph: Graph, leg: Leg, prompts: Prompts, example: int, earliest: int) -> dict[Region | str, set[int]]:
    """The live tokens of one example by region, and by block those of its recurrent states, without gaps."""
    begins, ends = _begins(leg, prompts, example, earliest), _ends(leg, prompts, example)
    text = unrolled(graph, prompts.length)
    after = _spread(text, nx.descendants, begins, leg.plan.frozen)
    before = _spread(text, nx.ancestors, ends, leg.plan.frozen)
    return _by_region(graph, text, after, before)


def _begins(leg: Leg, prompts: Prompts, example: int, earliest: int) -> set[Token]:
    found = set()
    differing = int(np.flatnonzero(prompts.clean[example] != prompts.corrupted[example])[0])
    for write in leg.plan.writes:
        if write.at is not None:
            found.add((write.node, _at(write.at, prompts, example)))
        else:
            start = differing if write.value == "source" else earliest
            found |= {(write.node, t) for t in range(start, prompts.length)}
    return found


def _ends(leg: Leg, prompts: Prompts, example: int) -> set[Token]:
    found = set()
    for site in leg.plan.reads:
        tokens = range(int(prompts.stops[example])) if site.at is None else [_at(site.at, prompts, example)]
        found |= {(site.node, t) for t in tokens}
    return found


def _at(position: object, prompts: Prompts, example: int) -> int:
    found = absolute(position, prompts.where)  # type: ignore[arg-type]
    return int(np.broadcast_to(np.array(found), len(prompts))[example])


def _spread(text: nx.DiGraph[Token], way: Callable[..., set[Token]], starts: set[Token], closed: Collection[Node]) -> set[Token]:
    """All that can be got to without going into a node that is frozen."""
    open_ = text.subgraph([token for token in text if token[0] not in closed or token in starts])
    return starts.union(*(way(open_, start) for start in starts))


def _by_region(graph: Graph, text: nx.DiGraph[Token], after: set[Token], before: set[Token]) -> dict[Region | str, set[int]]:
    regions, found = regions_of(graph), defaultdict[Region | str, set[int]](set)
    states = {family.name for family in graph.by_role("state")}
    for node, t in after & before:
        region = regions.of(node)
        found[region].add(t)
        if node.family in states:
            found[region.block].add(t)
    for block, node in regions.blocks.items():
        region = Region(regions.of(node).layer, block)
        if block not in regions.inner and any(token[0] == node for token in after):
            arrives = (t for n, t in before if n == node and any(source in after for source in text.predecessors((node, t))))
            found[region] |= set(arrives)
        if states_here := found.get(block):
            found[block] = set(range(min(states_here), max(states_here) + 1))
            found[region] |= found[block]
        found[Region(region.layer)] |= found[region]
    return {name: tokens for name, tokens in found.items() if tokens}


def total(counts: Iterable[dict[Region | str, set[int]]], region: Region) -> int:
    """How many tokens of a region are live in all of some runs."""
    return sum(len(one.get(region, ())) for one in counts)
