"""Where the values of a graph's nodes are in the module."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import CircuitryError
from ..paths.values import Node
from .families import Architecture, Family, Place


class HasPlaces:
    """The part of ``Graph`` that knows the module's names."""

    if TYPE_CHECKING:  # what Graph itself has
        architecture: Architecture
        sizes: Mapping[str, int]
        layout: tuple[str, ...]

        def family(self, name: str) -> Family: ...

    def place(self, node: Node) -> Place:
        """Where a node's own value is found, with the module's name filled in.

        >>> import circuitry as ct
        >>> g = ct.graph("gpt2")
        >>> g.place(g.node("mlp[3]")).module
        'transformer.h.3.mlp'
        """
        family = self.family(node.family)
        place = family.ports[node.port] if node.port else family.place
        if place is None:
            raise CircuitryError(f"{node} is a sum that no module holds, so it cannot be read or written")
        return self._filled(place, node, family)

    def block(self, node: Node) -> str:
        """The module that computes a node which is added to the stream: that of its place, or the one before the norm there.

        >>> import circuitry as ct
        >>> g = ct.graph("gemma2")
        >>> g.block(g.node("mlp[3]")), g.place(g.node("mlp[3]")).module
        ('model.layers.3.mlp', 'model.layers.3.post_feedforward_layernorm')
        """
        family = self.family(node.family)
        return self._filled(Place(family.block), node, family).module if family.block else self.place(node).module

    def normed(self, node: Node) -> bool:
        """Whether a norm stands between a block and the stream, so that what is added is not the sum of what its heads give.

        >>> import circuitry as ct
        >>> [ct.graph(name).normed(ct.Node("attn", (0,))) for name in ("llama", "gemma2")]
        [False, True]
        """
        return self.block(node) != self.place(node).module

    def freezing_places(self, node: Node) -> list[Place]:
        """The places to hold at their base value in order to freeze a node.

        >>> import circuitry as ct
        >>> g = ct.graph("mamba")
        >>> [p.module.split(".")[-1] for p in g.freezing_places(g.node("h[3]"))]
        ['write_value', 'write_delta', 'write_B']
        """
        family = self.family(node.family)
        places = family.frozen_through if node.port is None and family.frozen_through else ()
        return [self._filled(p, node, family) for p in places] or [self.place(node)]

    def _filled(self, place: Place, node: Node, family: Family) -> Place:
        if (place, node) not in self._places:
            names: dict[str, Any] = dict(zip(family.indices, node.indices, strict=True))
            if self.architecture.parts and names.get("layer") in range(len(self.layout)):
                names |= self.architecture.parts[self.layout[names["layer"]]]
            if place.end is not None and node.indices[0] == self.sizes["layer"]:
                self._places[place, node] = Place(place.end, "input", place.position, place.unit)
            else:
                self._places[place, node] = replace(place, module=place.module.format_map(names))
        return self._places[place, node]

    @functools.cached_property
    def _places(self) -> dict[tuple[Place, Node], Place]:
        return {}
