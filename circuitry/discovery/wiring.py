"""The edges that discovery ranks: from every node that writes to the residual stream to every node that reads it, and those inside a block.

The stream itself is left out: an edge leads from the node that writes to the node that reads, however many layers lie between
(Syed et al. 2023, arXiv:2310.10348). Where attention is a sum over heads, each head writes on its own. Where a norm of that sum is
what is added, or gates multiply the heads, the attention block writes, and edges inside it lead from its heads (``head[0,1] ->
attn[0]``) and gates.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from ..architecture.experts import ROUTER
from ..architecture.graph import Graph
from ..architecture.rules import SAME, Rule
from ..errors import CircuitryError, suggest
from ..paths.parse import parse_node
from ..paths.values import Node


@dataclass(frozen=True)
class Edge:
    """From a node to a node that depends on it, at one token or at all: ``head[0,1] -> head[1,0].k``.

    >>> from circuitry.discovery.wiring import edge
    >>> str(edge("head[0,1] -> head[1,0].k"))
    'head[0,1] -> head[1,0].k'
    """

    source: Node
    target: Node

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


def edge(text: str) -> Edge:
    """An edge from its text. Raises CircuitryError for text without exactly one arrow, PathError for a name that cannot be read.

    >>> edge("mlp[0] -> logits").target
    logits
    """
    ends = [end.strip() for end in text.split("->")]
    if len(ends) != 2:
        raise CircuitryError(f"{text!r} is not an edge; write it as 'SOURCE -> TARGET', such as 'mlp[0] -> logits'")
    return Edge(*map(parse_node, ends))


class Wiring:
    """The edges of one graph, in order of their targets, and for each target in order of their sources.

    ``senders`` write to the stream and ``readers`` read it. ``stages`` are the stream's own nodes in order: a sender adds to the
    stage ``after[sender]``, and a reader sees the stage ``before[reader]``. ``inner`` are the edges inside a block. The source of
    an inner edge has this one consumer, so replacing its value cuts the edge. ``heads`` maps attention to its heads, and ``sums`` does so
    where it is their sum, without a norm or gates in between.

    Routers of experts are left out and stay inside their MLPs: a gradient does not see that a change chooses other experts.

    >>> import circuitry as ct
    >>> wiring = Wiring(ct.graph("mamba", layer=2))
    >>> [str(node) for node in wiring.senders], [str(node) for node in wiring.readers]
    (['embed', 'mixer_out[0]', 'mixer_out[1]'], ['conv_in[0]', 'gate[0]', 'conv_in[1]', 'gate[1]', 'logits'])
    >>> [str(edge) for edge in wiring.edges if edge.target == wiring.graph.node("conv_in[1]")]
    ['embed -> conv_in[1]', 'mixer_out[0] -> conv_in[1]']
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        order = {node: rank for rank, node in enumerate(graph.nodes(ports=True))}
        stages = [node for node in graph.nodes() if graph.family(node.family).role == "resid"]
        self.stages = tuple(stages)
        number = {stage: k for k, stage in enumerate(stages)}
        self.heads = {node: heads for node in graph.adding if (heads := self._heads(node))}
        self.sums = {
            node: heads for node, heads in self.heads.items() if not graph.normed(node) and len(heads) == graph.nx.in_degree(node)
        }
        self.after: dict[Node, int] = {}
        self.before: dict[Node, int] = {}
        for source, target, _ in sorted(graph.edges, key=lambda edge: (order[edge[0]], order[edge[1]])):
            if target in number and source not in number:
                for part in self.sums.get(source, (source,)):
                    self.after[part] = number[target]
            if source in number and target not in number and not self._hidden(target):
                self.before[target] = number[source]
        self.senders = tuple(sorted(self.after, key=order.__getitem__))
        self.readers = tuple(sorted(self.before, key=order.__getitem__))
        self.inner = tuple(self._inner())

    def _hidden(self, node: Node) -> bool:
        return self.graph.family(node.family).role == ROUTER

    def _heads(self, node: Node) -> tuple[Node, ...]:
        """The heads of an attention block; none for any other node."""
        sources = [source for source in self.graph.nx.predecessors(node) if self.graph.family(source.family).role == "head"]
        return tuple(sorted(sources, key=lambda head: head.indices))

    def _inner(self) -> list[Edge]:
        """Edges between nodes of one block, one for each source: its first consumer stands for all that it cannot be told apart from."""
        outer, network = {*self.senders, *self.stages, *self.sums}, self.graph.nx
        edges = []
        for node in self.graph.nodes(ports=True):
            if node in outer or (node in self.before and self.graph.family(node.family).adds) or not network.out_degree(node):
                continue
            targets = [target for target in network.successors(node) if target not in self.stages and not self._hidden(target)]
            role = self.graph.family(node.family).role
            if self._hidden(node) or self._fans_out(node, targets) or role == "embed" or (role == "head" and node.port):
                continue
            edges.append(Edge(node, self._part(node, _together(targets))))
        return edges

    def _part(self, source: Node, target: Node) -> Node:
        """The port of a target that an edge leads to, if the edge enters only that part of a value with several parts."""
        rule = self.graph.nx.edges[source, self.graph.members(target)[0]]["rule"]
        port = replace(target, port=rule.part) if rule.part else target
        return port if port in self.graph.nx else target

    def _fans_out(self, node: Node, targets: list[Node]) -> bool:
        """Whether each consumer sees the node through a place of its own, so that the edges are those that leave these places."""
        return len(targets) > 1 and any(self.graph.nx.in_degree(target) == 1 for target in targets)

    @functools.cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All edges: those over the stream, then those inside blocks."""
        return (*(Edge(source, reader) for reader in self.readers for source in self.sources(reader)), *self.inner)

    @functools.cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node with a value of its own, in order of computation; without the stream, the logits and attention patterns."""
        hidden = ("resid", "logits")
        named = (node for node in self.graph.nodes(ports=True) if self.graph.family(node.family).role not in hidden)
        return tuple(node for node in named if node.port != "pattern" and not self._hidden(node))

    @functools.cached_property
    def blocks(self) -> tuple[Node, ...]:
        """The nodes that a block adds to the stream, in order of computation: attention, not its heads."""
        return tuple(node for node in self.graph.nodes() if node in self.graph.adding)

    def stage_after(self, block: Node) -> int:
        """The number of the stage that a block adds to."""
        return self.after[self.sums.get(block, (block,))[0]]

    def layer_before(self, node: Node) -> int:
        """The number of the last stage that a node depends on."""
        ancestors = self.graph.ancestors(node) | {node}
        return max(k for k, stage in enumerate(self.stages) if stage in ancestors)

    def sources(self, reader: Node) -> tuple[Node, ...]:
        """The senders that a reader sees, in order.

        >>> import circuitry as ct
        >>> wiring = Wiring(ct.graph("gpt2", layer=1, head=2))
        >>> [str(node) for node in wiring.sources(wiring.graph.node("mlp[0]"))]
        ['embed', 'head[0,0]', 'head[0,1]']
        """
        return tuple(sender for sender in self.senders if self.after[sender] <= self.before[reader])

    @functools.cached_property
    def number(self) -> dict[Edge, int]:
        """The place of each edge in ``edges``."""
        return {edge: number for number, edge in enumerate(self.edges)}

    def rule(self, edge: Edge) -> Rule:
        """How far along the tokens an edge leads: over the stream to the same token, inside a block as the graph says.

        >>> import circuitry as ct
        >>> wiring = Wiring(ct.graph("mamba", layer=1))
        >>> wiring.rule(edge("ssm_state[0].carry -> ssm_state[0]")).name
        'next position'
        """
        if edge.source in self.after:
            return SAME
        for target in (edge.target, replace(edge.target, port=None)):
            if rules := self.graph.nx.get_edge_data(edge.source, self.graph.members(target)[0]):
                rule: Rule = rules["rule"]
        return rule

    def find(self, text: str | Edge) -> Edge:
        """An edge of this graph, by text or value. Raises CircuitryError for one that is not in the graph.

        >>> import circuitry as ct
        >>> Wiring(ct.graph("mamba", layer=1)).find("mixer_out[0] -> gate[0]")
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: the edge mixer_out[0] -> gate[0] is not in the graph: gate[0] reads embed
        """
        named = edge(text) if isinstance(text, str) else text
        found = Edge(self.graph.node(named.source), self.graph.canonical(named.target))
        if found in self.number:
            return found
        sources = [str(each.source) for each in self.edges if each.target == found.target]
        if not sources:
            readers = sorted({str(each.target) for each in self.edges})
            raise CircuitryError(
                f"the edge {found} is not in the graph: no edge leads to {found.target}; {suggest(str(found.target), readers)}"
            )
        known = ", ".join(sources[:6]) + (f" and {len(sources) - 6} more" if len(sources) > 6 else "")
        raise CircuitryError(f"the edge {found} is not in the graph: {found.target} reads {known}")


def _together(targets: list[Node]) -> Node:
    """One name for the consumers of a value: that of their layer if they are the heads of one family, else the first."""
    first = min(targets, key=lambda node: (node.family, node.indices))
    heads = {target.indices[:1] for target in targets if target.family == first.family}
    alike = len(targets) > 1 and len(heads) == 1 and len({target.family for target in targets}) == 1
    return replace(first, indices=first.indices[:1]) if alike else targets[0]
