"""Two runs as one JSON value: both circuits on one scale, with the nodes that have the same role linked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..drawing.circuit import Circuit, CircuitNode
from ..reports.roles import aligned


def links(sides: Sequence[Mapping[str, Any]], summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The roles that both circuits have, from the answer down, each with its nodes in the first and in the second.

    They correspond as in ``circuitry compare``: by what roles are taken to do, which is not measured.

    >>> a = {"positions": ["END"], "nodes": [{"name": "ssm_state[1] @ END", "position": "END", "depth": 1, "effect": 1.0, "role": "state"}]}
    >>> b = {"positions": ["END"], "nodes": [{"name": "head[1,0] @ END", "position": "END", "depth": 1, "effect": 1.0, "role": "head"}]}
    >>> links([a, b], [{}, {}])
    [{'role': 'keeps it and hands it to the answer', 'nodes': [['ssm_state[1] @ END'], ['head[1,0] @ END']]}]
    """
    rows = aligned([_circuit(side) for side in sides], summaries)
    both = [row for row in rows if all(row.sides)]
    return [{"role": row.name, "nodes": [[node.name for node in side] for side in row.sides]} for row in both]


def _circuit(side: Mapping[str, Any]) -> Circuit:
    nodes = tuple(
        CircuitNode(n["name"], n["position"], n["depth"], _number(n.get("effect")), n.get("role", "")) for n in side["nodes"]
    )
    return Circuit("", tuple(side["positions"]), nodes, ())


def _number(value: float | None) -> float:
    return math.nan if value is None else value
