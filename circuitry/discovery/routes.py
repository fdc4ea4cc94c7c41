"""How the edges of a circuit join inside blocks, and the ways through it from the embedding to the logits."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

import networkx as nx
import numpy as np

from ..paths.values import Node
from .positions import Labels
from .wiring import Edge, Wiring

EdgeAt: TypeAlias = tuple[Edge, str]
"""An edge, and the position of its source."""
End: TypeAlias = tuple[Node, str]
"""A node at a position."""


class Routes:
    """How the edges of a circuit join: the target of one and the source of another, in one block.

    >>> import circuitry as ct
    >>> from circuitry.discovery.search import asked
    >>> from circuitry.discovery.wiring import edge
    >>> question = asked(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    >>> routes = Routes(question.wiring, question.labels)
    >>> into, out, other = map(edge, ("embed -> head[1,0].v", "head[1,0] -> logits", "mlp[0] -> mlp[3]"))
    >>> scores = {(into, "B"): -2.0, (out, "END"): -1.0, (other, "B"): 9.0}
    >>> sorted(f"{node} @ {position}" for node, position in routes.between(routes.joined(scores)))
    ['embed @ B', 'head[1,0] @ END', 'head[1,0].v @ B', 'logits @ END']
    >>> [(routes.text(way), strength) for way, strength in routes.ways(scores, 2)]
    [('embed @ B -> head[1,0].v @ B directly -> head[1,0] @ END -> logits directly', 1.0)]
    """

    def __init__(self, wiring: Wiring, labels: Labels) -> None:
        self.wiring, self.labels, self.graph = wiring, labels, wiring.graph
        self._cache: dict[Node, dict[Node, tuple[float, float]]] = {}
        self._apart = functools.cache(labels.apart)
        self.sources = {each.source for each in wiring.inner} | set(wiring.senders)

    def source(self, cell: EdgeAt) -> End:
        """The start of an edge."""
        return cell[0].source, cell[1]

    def target(self, cell: EdgeAt) -> End:
        """The end of an edge; one to the next token is drawn at its own token if the next has no name."""
        edge, position = cell
        if self.wiring.rule(edge).least == 1:
            position = next((name for name in self.labels.names if self._apart(position, name).tolist() == [1]), position)
        return edge.target, position

    def name(self, node: Node, position: str) -> str:
        """A node at a position as text."""
        return f"{node} @ {position}"

    def joined(self, cells: Collection[EdgeAt]) -> nx.DiGraph[End]:
        """The ends of all edges, with an edge for each cell and for each way inside a block from a target to a source."""
        whole: nx.DiGraph[End] = nx.DiGraph()
        for cell in cells:
            whole.add_edge(self.source(cell), self.target(cell), inside=False)
        sources = {self.source(cell) for cell in cells}
        for target in {self.target(cell) for cell in cells}:
            for source in sources - {target}:
                if source[0] in self._reached(target[0]) and self._later(target, source, self._reached(target[0])[source[0]]):
                    whole.add_edge(target, source, inside=True)
        return whole

    def _reached(self, node: Node) -> dict[Node, tuple[float, float]]:
        """The sources of edges that a node leads to inside its block, with the least and the most tokens in between."""
        if node not in self._cache:
            found: dict[Node, tuple[float, float]] = {}
            # A node that is itself the source of an edge is where both edges meet: nothing lies between.
            open_ = [(member, 0.0, 0.0) for member in self.graph.members(node) if member not in self.sources]
            while open_:
                here, least, most = open_.pop()
                for after in self.graph.nx.successors(here):
                    if after in self.wiring.stages:
                        continue
                    rule = self.graph.nx.edges[here, after]["rule"]
                    span = least + rule.least, most + rule.most
                    if after in self.sources:
                        found[after] = span
                    elif after != here:
                        open_.append((after, *span))
            self._cache[node] = found
        return self._cache[node]

    def _later(self, target: End, source: End, span: tuple[float, float]) -> bool:
        """Whether a source is as many tokens after a target as the way between them takes, in any example."""
        apart = self._apart(target[1], source[1])
        return bool(((span[0] <= apart) & (apart <= span[1])).any())

    def between(self, joined: nx.DiGraph[End]) -> set[End]:
        """The ends on a way from the embedding to the logits."""
        starts, stops = self._ends(joined, "embed"), self._ends(joined, "logits")
        after = set(starts).union(*(nx.descendants(joined, end) for end in starts))
        before = set(stops).union(*(nx.ancestors(joined, end) for end in stops))
        return after & before

    def _ends(self, joined: nx.DiGraph[End], role: str) -> list[End]:
        return [end for end in joined if self.graph.family(end[0].family).role == role]

    def ways(self, scores: Mapping[EdgeAt, float], count: int) -> Iterator[tuple[list[EdgeAt], float]]:
        """The ``count`` strongest ways from the embedding to the logits, the strongest first, and the strength of each.

        A way is as strong as its weakest edge, by magnitude (best-first search, so the order is exact).
        """
        joined = self.joined(scores)
        joined = joined.subgraph(self.between(joined))
        step = {(self.source(cell), self.target(cell)): cell for cell in scores}
        stops, tie = set(self._ends(joined, "logits")), itertools.count()
        heap: list[tuple[float, int, int, tuple[End, ...]]] = [
            (-np.inf, 0, next(tie), (start,)) for start in self._ends(joined, "embed")
        ]
        while heap and count:
            strength, length, _, way = heapq.heappop(heap)
            if way[-1] in stops:
                count -= 1
                yield [step[pair] for pair in itertools.pairwise(way) if pair in step], -strength
                continue
            for after in joined.successors(way[-1]):
                cell = step.get((way[-1], after))
                weakest = strength if cell is None else max(strength, -abs(scores[cell]))
                heapq.heappush(heap, (weakest, length + 1, next(tie), (*way, after)))

    def text(self, way: list[EdgeAt]) -> str:
        """A way as a path of the path language: over the stream ``directly``, inside a block from node to node.

        From one state to the next the path says nothing: what is written reaches what is read by no other way.
        """
        steps = [cell for cell in way if self.wiring.rule(cell[0]).least == 0 or cell[0].source.family != cell[0].target.family]
        legs: list[str] = []
        for number, (edge, position) in enumerate(steps):
            here = f"{edge.source} @ {position}"
            if not legs or legs[-1].removesuffix(" directly") != here:
                legs.append(here)
            if edge.source in self.wiring.after:
                end = self.target((edge, position))
                last = number == len(steps) - 1
                legs.append(f"{end[0]}{'' if last else f' @ {end[1]}'} directly")
        return " -> ".join(legs)
