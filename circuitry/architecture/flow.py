"""How changes move along the edges of a graph, and how far along the tokens they get."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import networkx as nx

from ..paths.values import Node
from .reach import Reach
from .rules import Edge, Rule

State: TypeAlias = tuple[Node, str]
"""A node and a part of its value, "" for all of it."""
Way: TypeAlias = tuple[State, State, Rule]
_Question: TypeAlias = tuple[tuple[Node, ...], frozenset[Node]]
_REMEMBERED = 1 << 10
"""How many answers of ``Flow.reach`` are kept."""


def ways(edges: Iterable[Edge]) -> list[Way]:
    """The edges between states.

    A change that enters one part of a value leaves by that part only; one that enters all of it leaves by every part.

    >>> from circuitry.architecture.rules import SAME, part
    >>> a, b, whole, seen = Node("a"), Node("b"), Node("c"), Node("c", (), "x")
    >>> [(s[1], t[1]) for s, t, _ in ways([(a, whole, part("x")), (b, whole, SAME), (whole, seen, part("x"))])]
    [('', 'x'), ('', ''), ('x', ''), ('', '')]
    """
    listed, result = list(edges), list[Way]()
    parts: dict[Node, set[str]] = {}
    for source, target, rule in listed:
        if rule.part and not _leaves(source, target):
            parts.setdefault(target, set()).add(rule.part)
    for source, target, rule in listed:
        leaves = bool(rule.part) and _leaves(source, target)
        entered = parts.get(source, set())
        starts = [*sorted(entered & {rule.part} if leaves else entered), ""]
        result += [((source, start), (target, "" if leaves else rule.part), rule) for start in starts]
    return result


def _leaves(source: Node, target: Node) -> bool:
    """Whether an edge goes from a node to one of its ports."""
    return (source.family, source.indices) == (target.family, target.indices)


@dataclass(frozen=True)
class Ways:
    """The ways between states in order of computation. States are numbers, since every cell of a sweep asks the graph."""

    states: tuple[State, ...]
    number: Mapping[State, int]
    steps: tuple[tuple[int, int, Rule, bool], ...]
    """From which state to which, by which rule, and whether it leads back in the order of computation."""

    @functools.cached_property
    def of_node(self) -> dict[Node, list[int]]:
        """The states of each node, by number."""
        found: dict[Node, list[int]] = {}
        for number, (node, _) in enumerate(self.states):
            found.setdefault(node, []).append(number)
        return found

    @staticmethod
    def of(edges: Iterable[Way], rank: Mapping[Node, int]) -> Ways:
        """``edges`` are in order of computation, ``rank`` is each node's place in it.

        >>> from circuitry.architecture.rules import lag
        >>> a, b = Node("a"), Node("b")
        >>> len(Ways.of(ways([(a, b, lag(2))]), {a: 0, b: 1}).steps)
        1
        """
        every = list(edges)
        states = tuple(dict.fromkeys(state for source, target, _ in every for state in (source, target)))
        number = {state: at for at, state in enumerate(states)}
        steps = ((number[s], number[t], rule, rank[t[0]] < rank[s[0]]) for s, t, rule in every)
        return Ways(states, number, tuple(steps))


def spread(ways: Ways, sources: Iterable[Node], without: Collection[Node]) -> dict[Node, Reach]:
    """How far a change at any of ``sources`` moves (``Graph.reach``).

    >>> from circuitry.architecture.rules import lag
    >>> a, b = Node("a"), Node("b")
    >>> spread(Ways.of(ways([(a, b, lag(2))]), {a: 0, b: 1}), [a], set())[b]
    Reach(ranges=((2, 2),))
    """
    start, merged = Reach(((0, 0),)), dict[Node, Reach]()
    reached: list[Reach | None] = [None] * len(ways.states)
    for node in sources:
        merged[node] = start
        if (at := ways.number.get((node, ""))) is not None:
            reached[at] = start
    closed = [False] * len(ways.states)
    for node in without:
        for number in ways.of_node.get(node, ()):
            closed[number] = True
    changed = True
    # One look along the order of computation finds all but what a recurrent loop leads back to nodes before it. What has gone
    # round is widened to every distance from there on, so a second look finds the rest, and a third would find nothing new.
    while changed:
        changed = False
        begin = next((at for at, step in enumerate(ways.steps) if reached[step[0]] is not None), len(ways.steps))
        for source, target, rule, back in ways.steps[begin:]:
            reach = reached[source]
            if reach is None or closed[target]:
                continue
            new, old = reach.then(rule), reached[target]
            new = new.onward() if back else new
            joined = new if old is None else old.joined(new)
            changed = changed or (back and joined != old)
            reached[target] = joined
    for (node, _), reach in zip(ways.states, reached, strict=True):
        if reach is not None:
            merged[node] = merged[node].joined(reach) if node in merged else reach
    return merged


class Flow:
    """How far changes move through one graph. Answers are kept, since planner and executors ask the same for every cell.

    ``edges`` are in order of computation, ``rank`` is each node's place in it.

    >>> from circuitry.architecture.rules import lag
    >>> a, b = Node("a"), Node("b")
    >>> flow = Flow([(a, b, lag(2))], {a: 0, b: 1})
    >>> str(flow.reach([a])[b]), flow.ancestors(b) == {a}
    ('exactly 2', True)
    """

    def __init__(self, edges: Iterable[Edge], rank: Mapping[Node, int]) -> None:
        self.known, self.rank = ways(edges), rank
        self._reached = dict[_Question, dict[Node, Reach]]()
        self._ancestors = dict[Node, set[Node]]()

    @functools.cached_property
    def ways(self) -> Ways:
        """The ways as numbers, for ``spread``."""
        return Ways.of(self.known, self.rank)

    def reach(self, sources: Iterable[Node], without: Collection[Node] = frozenset()) -> dict[Node, Reach]:
        """How far a change at any of ``sources`` can have moved at every node it arrives at (``Graph.reach``)."""
        key = tuple(sources), frozenset(without)
        if key not in self._reached:
            if len(self._reached) >= _REMEMBERED:
                self._reached.clear()
            self._reached[key] = spread(self.ways, *key)
        return dict(self._reached[key])

    def ancestors(self, node: Node) -> set[Node]:
        """Every node that ``node`` depends on. Parts are followed separately: what enters one part does not come out of another."""
        if node not in self._ancestors:
            states = [state for state in self._states if state[0] == node]
            self._ancestors[node] = {ancestor for state in states for ancestor, _ in nx.ancestors(self._states, state)} - {node}
        return set(self._ancestors[node])

    @functools.cached_property
    def _states(self) -> nx.DiGraph[State]:
        return nx.DiGraph((source, target) for source, target, _ in self.known)
