"""What is copied where in a batch, as plain numbers, whatever a batch is made of: whole rows or packed tokens. No torch is run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..architecture.families import Place
from ..architecture.graph import Graph
from ..models.packed import Ints
from ..paths.values import Node
from ..planning.values import Write

ALL = -1
Call = tuple[Place, int | None]
"""A place, and for one that is called once a position (a state) the position."""


@dataclass(frozen=True)
class Copy:
    """The values at ``to`` [n] are replaced by those at ``source`` [n], or by the constant ``value`` if it is set.

    Both are numbers of rows or of packed tokens. ``position`` and ``unit`` [n] say which token and which head, ALL for every one. Copies
    of a later ``leg`` come after those of the legs before it, which may write what they copy.
    """

    to: Ints
    source: Ints
    position: Ints
    unit: Ints
    leg: int
    value: Write | None = None
    term: Node | None = None
    """The term that is copied, if it is not the whole value."""


def joined(copies: Iterable[Copy]) -> list[Copy]:
    """Copies at one place, merged by kind, in order of their legs: a few large copies instead of many small ones.

    >>> zero = np.array([0])
    >>> len(joined([Copy(zero, zero, zero - 1, zero - 1, leg=0), Copy(zero + 1, zero, zero - 1, zero - 1, leg=0)]))
    1
    """
    # A leg overwrites its own rows only, and takes values from whole runs or from the leg before. So no copy of a leg
    # reads what another one of it writes, and their order is free; only the order of the legs is not.
    groups: dict[tuple[int, bool, bool, Write | None, Node | None], list[Copy]] = {}
    for copy in copies:
        if len(copy.to):
            kind = copy.leg, bool((copy.position == ALL).all()), bool((copy.unit == ALL).all()), copy.value, copy.term
            groups.setdefault(kind, []).append(copy)
    fields = ("to", "source", "position", "unit")
    merged = []
    for members in groups.values():
        together: dict[str, Any] = {name: np.concatenate([getattr(copy, name) for copy in members]) for name in fields}
        merged.append(replace(members[0], **together))
    # A whole value comes before its terms: what is frozen of a node that is written stays frozen.
    return sorted(merged, key=lambda copy: (copy.leg, copy.term is not None))


def unit_of(place: Place, node: Node) -> int:
    """The number of a node's head at its place, ALL if the node is the whole value there.

    >>> import circuitry as ct
    >>> graph = ct.graph("gpt2")
    >>> [unit_of(graph.place(node), node) for node in map(graph.node, ("head[1,2]", "mlp[1]"))]
    [2, -1]
    """
    return ALL if place.unit is None else int(node.indices[-1])  # type: ignore[arg-type]


def units_frozen(graph: Graph, nodes: Iterable[Node]) -> dict[Place, Ints]:
    """The places to hold in order to freeze these whole nodes, with the heads frozen there; ALL if these are all heads of the layer.

    >>> import circuitry as ct
    >>> graph = ct.graph("gpt2", layer=1, head=2)
    >>> [units.tolist() for units in units_frozen(graph, [graph.node("head[0,1]")]).values()]
    [[1]]
    """
    units: dict[Place, list[int]] = {}
    heads: dict[Place, int] = {}
    for node in (node for node in nodes if node.term is None):
        for place in graph.freezing_places(node):
            units.setdefault(place, []).append(unit_of(place, node))
            # Counted by family and layer: a hybrid may have more heads of a state than of attention.
            heads[place] = len(graph.members(Node(node.family, node.indices[:1])))
    return {
        place: np.array([ALL] if len(set(frozen)) == heads[place] else sorted(set(frozen))) for place, frozen in units.items()
    }
