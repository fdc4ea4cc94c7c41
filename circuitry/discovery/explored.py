"""What the explorer shows of a discovery beyond its tables: the best edges with their ends, their scores by prompt, and profiles of nodes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..explorer.file import significant
from ..explorer.observe import observe
from ..paths.values import Node
from .circuit import edge_circuit
from .kinds import kind
from .wiring import Edge, edge

if TYPE_CHECKING:
    from .result import Discovery

MOST, ROWS = 300, 8
"""How many of the best edges can be shown at once, and how many edges of each node by position."""


def explored(found: Discovery, edges: int) -> dict[str, Any]:
    """The best ``MOST`` edges (or ``edges``, if these are more) as a circuit that is not pruned, and what ``observe`` sees at its nodes.

    ``cells`` are in the order of the ranking, so the best n of a threshold are the first n. ``inside`` joins the target of one edge to the
    source of another in one block. ``profiles`` has, for each node, the attributions of its strongest edges at all positions.

    >>> import circuitry as ct
    >>> found = ct.discover(ct.load("bundled:mamba"), ct.task("induction", distance=4, examples=8), verify=0)
    >>> data = explored(found, 40)
    >>> data["cells"][0]["source"], len(data["cells"][0]["prompts"]), data["profiles"]["ssm_state[3]"]["positions"]
    ('ssm_in[0].skip @ B', 4, ['B', 'B+1', 'END-1', 'END'])
    """
    asked = found.question
    if found.level != "edge":
        drawn, more = found.diagram(), {}
    else:
        best = found.cells(max(MOST, edges))
        effects = {found.name(cell): float(found.mean[cell]) for cell in best}
        drawn = edge_circuit(asked.wiring, effects, asked.labels, title="", unit=asked.metric.unit, prune=False)
        arrows = [each for each in drawn.edges if not math.isnan(each.effect)]
        cells = [
            {
                "edge": text, "position": position, "source": arrow.source, "target": arrow.target, "effect": significant(arrow.effect, 7),
                "kind": kind(asked.wiring.graph, edge(text)), "prompts": [significant(float(v)) for v in found.scores[:, item, label]],
            }
            for (text, position), (item, label), arrow in zip(drawn.cells, best, arrows, strict=True)
        ]  # fmt: skip
        inside = [[each.source, each.target] for each in drawn.edges if math.isnan(each.effect)]
        more = {"cells": cells, "inside": inside, "profiles": _profiles(found, [node.label for node in drawn.nodes])}
    nodes = [{"name": n.name, "position": n.position, "depth": n.depth, "role": n.role, "note": n.note} for n in drawn.nodes]
    labels, prompts = [node.label for node in drawn.nodes], asked.prompts
    if asked.direction == "denoising":  # which exchanges the two
        prompts = replace(prompts, clean=prompts.corrupted, corrupted=prompts.clean)
    seen = observe(asked.model, prompts, labels, asked.labels.names, asked.numbers.tolist())
    whole = (found.ends[1] - found.ends[0])[asked.numbers]
    of_prompts = {"examples": asked.numbers.tolist(), "whole": [significant(float(v)) for v in whole]}
    return {**seen, **more, "nodes": nodes, "positions": list(asked.labels.names), **of_prompts}


def _profiles(found: Discovery, names: list[str]) -> dict[str, Any]:
    """For each node without its port, the strongest edges into and out of it, with their mean attribution at every position."""
    graph, items = found.question.wiring.graph, found.question.items
    drawn = dict.fromkeys(_host(graph.node(name)) for name in names)
    layers = {host.indices[0] for host in drawn if graph.family(host.family).role.startswith("conv")}
    taps = [each for each in graph.nodes() if graph.family(each.family).role == "conv_edge" and each.indices[0] in layers]
    hosts = dict.fromkeys([*drawn, *taps])
    touching: dict[Node, list[int]] = {host: [] for host in hosts}
    for number, item in enumerate(items):
        assert isinstance(item, Edge)
        for host in dict.fromkeys((_host(item.source), _host(item.target))):
            if host in touching:
                touching[host].append(number)
    strength, positions = np.abs(found.mean).max(1), list(found.question.labels.names)
    profiles = {}
    for host, numbers in touching.items():
        best = sorted(numbers, key=lambda number: -strength[number])[:ROWS]
        rows = [{"edge": str(items[n]), "values": [significant(float(v)) for v in found.mean[n]]} for n in best if strength[n]]
        if rows:
            profiles[str(host)] = {"positions": positions, "rows": rows}
    return profiles


def _host(node: Node) -> Node:
    return Node(node.family, node.indices)
