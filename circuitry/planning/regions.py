"""The regions of a model in which nodes are computed: the embedding, a layer, a block of a layer, and what follows all layers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from ..architecture.families import Place
from ..architecture.graph import Graph
from ..architecture.terms import host_of
from ..errors import CircuitryError
from ..paths.values import Node


@dataclass(frozen=True, order=True)
class Region:
    """``block`` is the module of a block that adds to the stream or is read by another block, "" for the layer around it; ``layer`` -1 is before all layers.

    Tokens of one region are computed together. In a block they are fewer than in its layer: only those for which the block gives
    something new.
    """

    layer: int
    block: str = ""


@dataclass(frozen=True)
class Regions:
    """Where each node of a graph is computed.

    >>> import circuitry as ct
    >>> regions = regions_of(ct.graph("gpt2", layer=2, head=1))
    >>> [regions.of(ct.graph("gpt2").node(name)) for name in ("resid[1]", "attn[0]", "head[0,0].q")]
    [Region(layer=1, block=''), Region(layer=0, block=''), Region(layer=0, block='transformer.h.0.attn')]
    """

    graph: Graph
    layers: tuple[str, ...]
    blocks: Mapping[str, Node]
    """The node of every block's output, by the block's module."""

    def of(self, node: Node) -> Region:
        """The region of a node's own place; terms have that of their node."""
        return self._nodes[host_of(node)]

    def at(self, place: Place) -> Region:
        """The region of a place. Raises CircuitryError for a module that is in no layer, nor before or after all of them."""
        if place not in self._of_places:
            self._of_places[place] = self._region(place)
        return self._of_places[place]

    @functools.cached_property
    def _of_places(self) -> dict[Place, Region]:
        return {}

    def _region(self, place: Place) -> Region:
        if (end := self._ends.get((place.module, place.io))) is not None:
            return end
        for block, node in self.blocks.items():
            if place.module.startswith(f"{block}."):
                return Region(_layer(node), block)
        for number, layer in enumerate(self.layers):
            if place.module == layer or place.module.startswith(f"{layer}."):
                return Region(number)
        raise CircuitryError(
            f"{place.module or 'the model itself'} is neither in a layer of this architecture nor before or after all of them, so it is "
            "not known where a patched run is live; executor='rows' computes whole runs"
        )

    @functools.cached_property
    def _nodes(self) -> dict[Node, Region]:
        return {node: self.at(self.graph.place(node)) for node in self.graph.nodes(ports=True)}

    @functools.cached_property
    def _ends(self) -> dict[tuple[str, str], Region]:
        """What comes before all layers, and after them."""
        last = Region(len(self.layers))
        regions = {Node(family.name): Region(-1) for family in self.graph.by_role("embed")}
        regions |= {Node(family.name): last for family in self.graph.by_role("logits")}
        regions |= {node: last for node in self.graph.nodes() if node.indices == (last.layer,)}
        places = {self.graph.place(node): region for node, region in regions.items()}
        return {(place.module, place.io): region for place, region in places.items()}

    @functools.cached_property
    def inner(self) -> frozenset[str]:
        """Blocks whose output depends on nodes inside alone. The others read the stream as well, as an MLP with a router does."""
        reads = self.graph.nx.predecessors
        return frozenset(block for block, node in self.blocks.items() if all(self.of(n).block == block for n in reads(node)))


def _layer(node: Node) -> int:
    return int(node.indices[0])  # type: ignore[arg-type]


@functools.lru_cache(maxsize=32)
def regions_of(graph: Graph) -> Regions:
    """The regions of a graph.

    >>> import circuitry as ct
    >>> sorted(regions_of(ct.graph("mamba", layer=1)).blocks)
    ['backbone.layers.0.mixer']
    """
    template = graph.architecture.layers
    layers = tuple(template.format(layer=number) for number in range(graph.sizes["layer"]))
    outputs = [node for family in graph.families if family.adds or family.feeds for node in graph.nodes(family.name)]
    return Regions(graph, layers, {graph.block(node): node for node in outputs})
