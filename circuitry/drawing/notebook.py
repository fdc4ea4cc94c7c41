"""What a circuit shows in a notebook: its picture, and its nodes and edges as tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..colours import number
from ..html.output import Format, details, heading, picture, table
from .embedded import embedded

if TYPE_CHECKING:
    from .circuit import Circuit

_EFFECT: dict[str, Format] = {"effect": number}


def of_circuit(circuit: Circuit) -> Iterator[Markup]:
    """The picture of a circuit, and below it the nodes and the edges with their effects.

    >>> from circuitry.drawing.circuit import CircuitNode, Circuit
    >>> "<svg" in "".join(of_circuit(Circuit("c", ("A",), (CircuitNode("mlp[0]", "A", 0, 1.0),), ())))
    True
    """
    yield heading(circuit.title or "circuit", circuit.unit)
    yield drawn(circuit)
    nodes = table(
        ["node", "position", "role", "effect", "note"],
        [[n.label, n.position, n.role, n.effect, n.note] for n in circuit.nodes],
        _EFFECT,
    )
    edges = table(["from", "to", "what", "effect"], [[e.source, e.target, e.label, e.effect] for e in circuit.edges], _EFFECT)
    yield details(f"{len(circuit.nodes)} nodes and {len(circuit.edges)} edges", nodes, edges)


def drawn(circuit: Circuit) -> Markup:
    """The picture alone. Its ids are its own, so that two circuits may be in one notebook.

    >>> from circuitry.drawing.circuit import CircuitNode, Circuit
    >>> drawn(Circuit("c", ("A",), (CircuitNode("mlp[0]", "A", 0, 1.0),), ()))[:24]
    Markup('<div class="paper scroll')
    """
    own = hashlib.sha256(circuit.to_json().encode()).hexdigest()[:10]
    return picture(embedded(circuit, f"c{own}", linked=False))
