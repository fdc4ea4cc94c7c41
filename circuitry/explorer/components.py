"""A suite without a circuit: the components of its summary, each in the column of the token at which its path patched it, below the logits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..drawing.circuit import EVERYWHERE, NORMALIZED, Circuit, CircuitNode
from ..errors import CircuitryError
from ..paths.parse import parse
from ..paths.values import Site

SEVERAL, UNKNOWN = "several positions", "position not known"
"""The columns of nodes that were patched together at different tokens, and of those whose table has a description instead of a path."""


def circuit_of(summary: Mapping[str, Any], prompts: Sequence[Mapping[str, Any]], reads_logits: bool) -> Circuit:
    """The components without arrows, and above them the logits, if they are what was measured; no nodes if nothing was found or measured.

    ``prompts`` are those of ``explorer.json``: they know the order of the positions in the text.

    >>> summary = {"components": [{"node": "head[3,1] @ END", "normalized": 0.5}, {"node": "mlp[0]", "normalized": 0.9}]}
    >>> [(node.label, node.position, node.effect) for node in circuit_of(summary, [], True).nodes]
    [('head[3,1]', 'END', 0.5), ('mlp[0]', 'every position', 0.9), ('logits', 'END', 1.0)]
    """
    found = {str(each["node"]): each for each in summary.get("components") or []}
    nodes = [
        CircuitNode(name, column(each), _layer(name), _number(each.get("normalized")), str(each.get("role", "")))
        for name, each in found.items()
    ]
    if reads_logits:
        above = max((node.depth for node in nodes), default=0.0) + 1
        nodes.append(CircuitNode("logits", "END", above, 1.0, "logits"))
    return Circuit("", in_order({node.position for node in nodes}, prompts), tuple(nodes), (), NORMALIZED)


def column(component: Mapping[str, Any]) -> str:
    """Where a component was patched: by its name, which is written as in the path, or else by its position.

    >>> column({"node": "head[3,1] @ END", "position": ""}), column({"node": "h[3]", "position": "B+1", "measured": "B+5"})
    ('END', 'B+5')
    >>> column({"node": "mlp[0]"}), column({"node": "(h[0] @ A, h[1] @ B)"}), column({"node": "all heads but one"})
    ('every position', 'several positions', 'position not known')
    """
    named = {str(site.at) if site.at is not None else EVERYWHERE for site in _sites(str(component["node"]))}
    if len(named) > 1:
        return SEVERAL
    if named - {EVERYWHERE}:
        return named.pop()
    return str(component.get("measured") or component.get("position") or (EVERYWHERE if named else UNKNOWN))


def in_order(positions: Iterable[str], prompts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Positions in the order of the text, on the mean of the prompts; then those that name no single token; END is the last.

    >>> in_order({"END", "every position", "S2", "IO"}, [{"at": {"IO": 2, "S2": 9, "END": 12}}])
    ('IO', 'S2', 'every position', 'END')
    """

    def place(position: str) -> tuple[float, str]:
        at = [prompt["at"][position] for prompt in prompts if position in prompt["at"]]
        return (math.inf if position == "END" else sum(at) / len(at) if at else 1e9), position

    return tuple(sorted(positions, key=place))


def _sites(name: str) -> tuple[Site, ...]:
    """The nodes that a component's name has, which is several if they were patched together; none for a description."""
    try:
        return tuple(parse(f"{name} -> x").sources)
    except CircuitryError:
        return ()


def _layer(name: str) -> float:
    digits = name.partition("[")[2].partition("]")[0].partition(",")[0]
    return float(digits) if digits.isdigit() else -1.0


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
