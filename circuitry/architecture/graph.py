"""The graph of one model: typed nodes and edges with position rules, and the questions a researcher asks of it."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import networkx as nx

from ..errors import CircuitryError, UnknownNameError, several, suggest
from ..html.shown import Shown
from ..paths.parse import parse_node
from ..paths.values import Node
from .distances import Distances
from .experts import with_router_edges, with_routers
from .families import Architecture, Family
from .flow import Flow
from .network import edges_of, network, ranks, unrolled
from .places import HasPlaces
from .reach import Reach
from .rules import Edge
from .terms import Terms, is_mark

if TYPE_CHECKING:
    from markupsafe import Markup


class Graph(HasPlaces, Shown):
    """The computational graph of an architecture at given sizes. ``g.ssm_state`` is a node family for path specs.

    ``nx`` is the networkx graph: nodes are ``circuitry.paths.Node`` values (ports are nodes of their own), edges carry
    ``rule``. Made by ``circuitry.graph``.

    >>> import circuitry as ct
    >>> g = ct.graph("mamba", layer=2)
    >>> str(g.ssm_state[1] @ "B" + 1 >> g.logits)
    'ssm_state[1] @ B+1 -> logits'
    """

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_graph

        return of_graph(self)

    def __init__(
        self,
        architecture: Architecture,
        sizes: Mapping[str, int],
        windows: Mapping[int, int] | None = None,
        latents: Mapping[Node, int] | None = None,
        layout: Iterable[str] = (),
        experts: Iterable[int] = (),
    ) -> None:
        self.architecture, self.sizes, self.windows = architecture, dict(sizes), dict(windows or {})
        self.layout, self.experts = tuple(several("layout", layout)), tuple(experts)
        self.terms = Terms(dict(latents or {}))
        self._listed: dict[tuple[str | None, int | None, bool], list[Node]] = {}
        families = with_routers(architecture.families) if self.experts else architecture.families
        self._families = {family.name: family for family in families}
        edges = architecture.edges(self.sizes, *([self.layout] if self.layout else []))
        for mlp in self.by_role("mlp") if self.experts else ():
            edges = with_router_edges(edges, mlp.name, self.experts)
        self.nx = network(edges, self.windows)
        for node in self.nx:
            self.nx.nodes[node].update(family=node.family, role=self._families[node.family].role)
        # A family without a node at these sizes (the middle of a parallel block) does not exist in this model.
        present = {node.family for node in self.nx}
        self._families = {name: family for name, family in self._families.items() if name in present}

    @classmethod
    def of(cls, architecture: Architecture, config: Any) -> Graph:
        """The graph of a model with this Hugging Face config.

        >>> from circuitry.architecture import definition
        >>> from transformers import GPT2Config
        >>> Graph.of(definition("gpt2"), GPT2Config(n_layer=2)).sizes
        {'layer': 2, 'head': 12, 'parallel': 0}
        """
        return cls(architecture, architecture.sizes(config), architecture.windows(config), layout=architecture.layout(config))

    @property
    def name(self) -> str:
        """The architecture's name.

        >>> import circuitry as ct
        >>> ct.graph("gpt2").name
        'gpt2'
        """
        return self.architecture.name

    def attached(self, latents: Mapping[Node, int]) -> Graph:
        """The same graph with autoencoders on these nodes, of so many latents; any that it had on other nodes are gone.

        ``nx`` does not have latents: a name such as ``resid[2].latent[17]`` is understood when it is used.

        >>> import circuitry as ct
        >>> g = ct.graph("gpt2").attached({ct.Node("resid", (2,)): 24576})
        >>> str(g.node("resid[2].latent[17]")), len(g.nx) == len(ct.graph("gpt2").nx)
        ('resid[2].latent[17]', True)
        >>> g
        <gpt2 graph: layer=12, head=12, parallel=0; 771 nodes, 1214 edges; latents of resid[2] (24,576)>
        """
        return Graph(self.architecture, self.sizes, self.windows, latents, self.layout, self.experts)

    def routed(self, layers: Iterable[int]) -> Graph:
        """The same graph with a router in these layers, whose MLPs are mixtures of experts.

        >>> import circuitry as ct
        >>> ct.graph("llama", layer=2, head=1).routed([1]).node("router[1]").family
        'router'
        """
        return Graph(self.architecture, self.sizes, self.windows, self.terms.latents, self.layout, layers)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{k}={v}" for k, v in self.sizes.items())
        sizes += ", window=" + "/".join(map(str, sorted(set(self.windows.values())))) if self.windows else ""
        sizes += "".join(f", {self.layout.count(kind)} x {kind}" for kind in dict.fromkeys(self.layout))
        sizes += f", {len(self.experts)} x experts" if self.experts else ""
        latents = ", ".join(f"{node} ({count:,})" for node, count in self.terms.latents.items())
        attached = f"; latents of {latents}" if latents else ""
        return f"<{self.name} graph: {sizes}; {len(self.nx)} nodes, {self.nx.number_of_edges()} edges{attached}>"

    @functools.cached_property
    def adding(self) -> frozenset[Node]:
        """The nodes whose value is added to the residual stream."""
        return frozenset(node for node in self.nx if self._families[node.family].adds)

    @functools.cached_property
    def stream(self) -> frozenset[Node]:
        """The residual stream's own nodes."""
        return frozenset(node for node in self.nx if self._families[node.family].role == "resid")

    @functools.cached_property
    def skips(self) -> bool:
        """Whether layers pass something on beside the residual stream, as RWKV-7 does with layer 0's values.

        >>> import circuitry as ct
        >>> ct.graph("rwkv7").skips, ct.graph("rwkv").skips
        (True, False)
        """
        within = ((s, t) for s, t in self.nx.edges if s.indices and t.indices and not {s, t} & self.stream)
        return any(source.indices[0] != target.indices[0] for source, target in within)

    def __getattr__(self, name: str) -> Node:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return Node(self.family(name).name)
        except CircuitryError as error:
            raise UnknownNameError(str(error)) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._families]

    @property
    def families(self) -> tuple[Family, ...]:
        """The node families of this model.

        >>> import circuitry as ct
        >>> [f.name for f in ct.graph("gpt_neox").families]
        ['embed', 'resid', 'head', 'attn', 'mlp', 'logits']
        """
        return tuple(self._families.values())

    def family(self, name: str) -> Family:
        """A family by its name or by the paper's short name.

        Raises CircuitryError for a name this architecture does not have.

        >>> import circuitry as ct
        >>> ct.graph("mamba").family("h").name
        'ssm_state'
        """
        full = self.architecture.aliases.get(name, name)
        if full not in self._families:
            raise CircuitryError(f"{self.name} has no node {name!r}; {suggest(name, self._families)}")
        return self._families[full]

    def by_role(self, role: str) -> list[Family]:
        """Families that play a role, whatever they are called: "state", "head", "write_input" ...

        >>> import circuitry as ct
        >>> [f.name for f in ct.graph("mamba").by_role("state")]
        ['ssm_state']
        """
        return [family for family in self.families if family.role == role]

    def nodes(self, family: str | None = None, layer: int | None = None, ports: bool = False) -> list[Node]:
        """Nodes in the order they are computed; of one family, of one layer, with or without ports.

        >>> import circuitry as ct
        >>> [str(n) for n in ct.graph("gpt_neox").nodes("head", layer=3)][:2]
        ['head[3,0]', 'head[3,1]']
        """
        key = self.family(family).name if family else None, layer, ports
        if key not in self._listed:
            chosen = (n for n in self.nx if key[0] in (None, n.family) and (ports or n.port is None))
            in_layer = (n for n in chosen if layer is None or n.indices[:1] == (layer,))
            self._listed[key] = sorted(in_layer, key=self._rank.__getitem__)
        return list(self._listed[key])

    def indices(self, family: str) -> tuple[tuple[int, ...], ...]:
        """The indices of every node of a family, in order; in a hybrid a family may be in some layers only.

        >>> import circuitry as ct
        >>> ct.graph("jamba", layer=8, head=2).indices("head")
        ((4, 0), (4, 1))
        """
        return self._indices[self.family(family).name]

    def members(self, node: Node) -> tuple[Node, ...]:
        """The nodes that a name means, with their full names: one, or all of a layer if it names the layer alone.

        >>> import circuitry as ct
        >>> [str(n) for n in ct.graph("gpt2", head=2).members(ct.Node("head", (3,), "q"))]
        ['head[3,0].q', 'head[3,1].q']
        """
        if node not in self._members:
            full = self.canonical(node)
            count = len(full.indices)
            indices = self.indices(full.family)
            members = tuple(replace(full, indices=every) for every in indices if every[:count] == full.indices)
            for member in members:
                self.terms.check(member)
            self._members[node] = members
        return self._members[node]

    @functools.cached_property
    def _members(self) -> dict[Node, tuple[Node, ...]]:
        return {}

    @functools.cached_property
    def _indices(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        by_family: dict[str, set[tuple[int, ...]]] = {name: set() for name in self._families}
        for node in self.nx:
            by_family[node.family].add(tuple(int(i) for i in node.indices if isinstance(i, int)))
        return {name: tuple(sorted(every)) for name, every in by_family.items()}

    @functools.cached_property
    def _rank(self) -> dict[Node, int]:
        return ranks(self.nx)

    def node(self, text: str | Node) -> Node:
        """One node of this graph, by text or value; short names and a head's ``.z`` are resolved.

        Raises CircuitryError if there is none.

        >>> import circuitry as ct
        >>> str(ct.graph("mamba").node("h[3]"))
        'ssm_state[3]'
        """
        node = self.canonical(parse_node(text) if isinstance(text, str) else text)
        if node.host not in self.nx:
            nodes = self.nodes(node.family)
            hint = f"there are {nodes[0]} to {nodes[-1]}" if len(nodes) > 1 else f"there is {nodes[0]}"
            raise CircuitryError(f"{self!r} has no node {node}; {hint}")
        self.terms.check(node)
        return node

    def canonical(self, node: Node) -> Node:
        """The node with its family's full name, and without a port that only renames the node itself.

        >>> import circuitry as ct
        >>> str(ct.graph("gpt2").canonical(ct.Node("head", (0, 1), "z")))
        'head[0,1]'
        """
        family = self.family(node.family)
        return replace(node, family=family.name, port=None if node.port == family.value_port else node.port)

    @property
    def edges(self) -> list[Edge]:
        """(source, target, rule) of every edge.

        >>> import circuitry as ct
        >>> len(ct.graph("mamba", layer=1).edges)
        30
        """
        return edges_of(self.nx)

    def ancestors(self, node: str | Node) -> set[Node]:
        """Every node that ``node`` depends on, at any position.

        >>> import circuitry as ct
        >>> [str(n) for n in ct.graph("gpt_neox").ancestors("resid[0]")]
        ['embed']
        """
        ancestors = self._flow.ancestors(self.terms.exit(self.node(node)))
        return {ancestor for ancestor in ancestors if not is_mark(ancestor)}

    def descendants(self, node: str | Node) -> set[Node]:
        """Every node that depends on ``node``, at any position.

        >>> import circuitry as ct
        >>> ct.graph("mamba").node("logits") in ct.graph("mamba").descendants("h[23]")
        True
        """
        return {other for other in self.reach([self.node(node)]) if not is_mark(other)} - {self.node(node)}

    @functools.cached_property
    def _flow(self) -> Flow:
        network = self.terms.extended(self.nx, read_after=False)
        rank = self._rank if network is self.nx else ranks(network)
        return Flow(sorted(edges_of(network), key=lambda edge: rank[edge[0]]), rank)

    def reach(self, sources: Iterable[Node], without: Collection[Node] = frozenset()) -> dict[Node, Reach]:
        """For every node where a change at any of ``sources`` can arrive, how far along the tokens it can have moved.

        ``without`` are frozen nodes: nothing passes through them. A term is looked up by where it is read, ``terms.exit(node)``.

        >>> import circuitry as ct
        >>> g = ct.graph("mamba")
        >>> g.reach([g.node("x[3]")])[g.node("c[3]")].most
        3
        """
        return self._flow.reach([self.terms.entry(node) for node in sources], self.terms.closed(without))

    @functools.cached_property
    def from_tokens(self) -> dict[Node, Reach]:
        """How far a change of a token moves, at every node.

        >>> import circuitry as ct
        >>> g = ct.graph("mamba")
        >>> str(g.from_tokens[g.node("c[0]")]), str(g.from_tokens[g.node("h[0]")])
        ('0 to 3', 'at least 0')
        """
        embed = [Node(family.name) for family in self.by_role("embed")]
        reached = self.reach(embed)
        return reached | {self.terms.exit(host.latent): reached[host] for host in embed if host in self.terms.latents}

    @functools.cached_property
    def distances(self) -> Distances:
        """Reach as sets of distances up to a length: less exact, and much faster."""
        network = self.terms.extended(self.nx, read_after=True)
        ordered = self.nodes(ports=True) if network is self.nx else list(ranks(network))
        return Distances.of(ordered, edges_of(network))

    def unroll(self, positions: int) -> nx.DiGraph[tuple[Node, int]]:
        """The position-level graph over ``positions`` tokens: nodes are (node, position). It does not tell parts of a value apart.

        >>> import circuitry as ct
        >>> ct.graph("mamba", layer=1).unroll(2).has_edge((ct.graph("mamba").node("conv_tap[0,1]"), 1), (ct.graph("mamba").node("ssm_in[0]"), 1))
        True
        """
        return unrolled(self.nx, positions)
