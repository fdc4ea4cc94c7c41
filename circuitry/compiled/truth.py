"""The ground truth of a compiled model: the only nodes and edges that carry a task, and their positions.

It is written as routes, one on each line: ``embed @ A -> resid[0] @ A -> conv_in[0] @ A -[lag 1]-> conv_tap[0,1] @ B``.
``B..END`` is every position from B to END. A plain arrow stays at its position; between two ranges it joins each position they
share.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..paths.parse import parse_position

PASSES = "passes it on"
"""The role of a node that is on a route but is not a component of the circuit."""
_ARROW = re.compile(r"\s+-(?:\[([^]]+)\]-)?>\s+")


@dataclass(frozen=True)
class TrueNode:
    """A node that carries the effect of a corruption, at ``positions`` ("B", or "B..END"), and its role as suites call it."""

    corruption: str
    node: str
    positions: str
    role: str


@dataclass(frozen=True)
class TrueEdge:
    """An edge that carries the effect of a corruption, from site to site, and ``how`` ("same position", "lag 1" ...)."""

    corruption: str
    source: str
    target: str
    how: str


@dataclass(frozen=True)
class TrueComponent:
    """A component as a suite's summary lists it: its role, and the position at which it reads or is written."""

    node: str
    role: str
    position: str


@dataclass(frozen=True)
class TrueSetting:
    """What the logits at END become when a node has ``value`` at a position: ``logits`` of the tokens at named positions.

    For nodes that are the same in both prompts, so that no corruption shows what they do.
    """

    node: str
    position: str
    value: float
    logits: Mapping[str, float]


@dataclass(frozen=True)
class GroundTruth:
    """The circuit of a compiled model on one task.

    ``nodes`` are all nodes that change the logits at END if they take their value from the corrupted prompt, with everything
    after them recomputed, one entry for each corruption; ``edges`` are their connections. ``components`` are those that the
    task's suite should find. ``offsets`` is the write position (states) or read position (attention) of each token, in tokens
    after it, as ``ct.off_by_one`` measures it. ``settings`` is what nodes do that have the same value in both prompts.
    """

    model: str
    task: str
    nodes: tuple[TrueNode, ...]
    edges: tuple[TrueEdge, ...]
    components: tuple[TrueComponent, ...]
    offsets: Mapping[str, int]
    settings: tuple[TrueSetting, ...] = ()

    @property
    def corruptions(self) -> tuple[str, ...]:
        """The corruptions of the task for which the circuit is known.

        >>> from circuitry.compiled import truth
        >>> truth("mamba").corruptions
        ('A', 'B')
        """
        return tuple(dict.fromkeys(node.corruption for node in self.nodes))

    def sites(self, corruption: str, where: Mapping[str, int]) -> set[tuple[str, int]]:
        """Every (node, position) that matters under a corruption, for a prompt whose named positions are ``where``.

        >>> from circuitry.compiled import truth
        >>> sorted(truth("mamba").sites("B", {"A": 1, "B": 2, "END": 4}))[-3:]
        [('ssm_state[1].carry', 2), ('ssm_state[1].carry', 3), ('ssm_state[1].read', 4)]
        """
        nodes = [node for node in self.nodes if node.corruption == corruption]
        return {(node.node, at) for node in nodes for at in span(node.positions, where)}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON.

        >>> from circuitry.compiled import truth
        >>> truth("mamba").to_dict()["components"][0]
        {'node': 'ssm_state[1]', 'role': 'state', 'position': 'B'}
        """
        fields = asdict(self)
        return {**fields, **{name: list(fields[name]) for name in ("nodes", "edges", "components", "settings")}}


def span(positions: str, where: Mapping[str, int]) -> range:
    """The position "B+1", or the positions "B..END", as numbers in a prompt.

    >>> span("B+1..END", {"B": 2, "END": 5})
    range(3, 6)
    """
    first, _, last = positions.partition("..")
    return range(_number(first, where), _number(last or first, where) + 1)


def _number(text: str, where: Mapping[str, int]) -> int:
    at = parse_position(text)
    return where[str(at.base)] + at.offset


def ground_truth(
    model: str,
    task: str,
    routes: Mapping[str, str],
    components: tuple[TrueComponent, ...],
    offsets: Mapping[str, int],
    settings: tuple[TrueSetting, ...] = (),
) -> GroundTruth:
    """The ground truth from ``routes``, the text for each corruption.

    >>> truth = ground_truth("m", "t", {"B": "embed @ B -> resid[0] @ B -[lag 1]-> conv_tap[0,1] @ B+1"}, (), {})
    >>> [str(node.node) for node in truth.nodes], truth.edges[1].how
    (['embed', 'resid[0]', 'conv_tap[0,1]'], 'lag 1')
    """
    role = {component.node: component.role for component in components}
    nodes: dict[TrueNode, None] = {}
    edges: dict[TrueEdge, None] = {}
    for corruption, text in routes.items():
        for sites, arrows in map(_route, filter(str.strip, text.splitlines())):
            for node, at in (site.split(" @ ") for site in sites):
                nodes[TrueNode(corruption, node, at, role.get(node, PASSES))] = None
            edges |= dict.fromkeys(TrueEdge(corruption, *ends) for ends in zip(sites, sites[1:], arrows, strict=False))
    return GroundTruth(model, task, tuple(nodes), tuple(edges), components, dict(offsets), settings)


def _route(line: str) -> tuple[list[str], list[str]]:
    """The sites of one line, and the kind of arrow after each but the last."""
    parts = list(_parts(line.strip()))
    return parts[::2], parts[1::2]


def _parts(line: str) -> Iterator[str]:
    for number, part in enumerate(_ARROW.split(line)):
        yield "same position" if number % 2 and part is None else part
