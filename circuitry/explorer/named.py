"""Nodes as the page draws them: a label, a row of the picture, and a family, all from their names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..paths.values import Node
from ..reports.nodes import site_of


def side_nodes(nodes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Nodes with ``label``, ``host`` (the node without its port and position) and ``row``, from the bottom up.

    The nodes of one family in one layer share a row, so that the heads of a layer are beside each other, and their ports share another.
    Rows have the order of their nodes' depths.

    >>> nodes = [{"name": f"head[1,{h}] @ B", "position": "B", "depth": 1 + h / 4, "role": "head"} for h in (0, 1)]
    >>> [(n["label"], n["host"], n["row"], n["layer"]) for n in side_nodes([*nodes, {"name": "token @ B", "position": "B", "depth": -1}])]
    [('head[1,0]', 'head[1,0]', 1, 1), ('head[1,1]', 'head[1,1]', 1, 1), ('token', 'token', 0, None)]
    """
    keys = [_key(node) for node in nodes]
    heights: dict[tuple[float, str], list[float]] = {}
    for key, node in zip(keys, nodes, strict=True):
        heights.setdefault(key, []).append(float(node["depth"]))
    order = sorted(heights, key=lambda key: (sum(heights[key]) / len(heights[key]), key))
    number = {key: row for row, key in enumerate(order)}
    return [
        {**node, "label": label_of(node), "host": host_of(node["name"]), "row": number[key], "layer": _layer(node)}
        for key, node in zip(keys, nodes, strict=True)
    ]


def _key(node: Mapping[str, Any]) -> tuple[float, str]:
    """The layer, and the name of the family, with a dot for all of its ports."""
    label = re.sub(r"\[[^]]*\]|(?<=\.)\w+", "", label_of(node))
    return (float(math.floor(node["depth"])), label) if _layer(node) is not None else (float(node["depth"]), "")


def label_of(node: Mapping[str, Any]) -> str:
    """The name without the position, which the column shows.

    >>> label_of({"name": "ssm_state[3].carry @ END-1", "position": "END-1"})
    'ssm_state[3].carry'
    """
    component, _, position = str(node["name"]).rpartition("@")
    return component.rstrip() if position.strip() == node["position"] and component else str(node["name"])


def host_of(name: str) -> str:
    """The node of the model that a box is about, without port and position; the name itself if it is not one.

    >>> host_of("head[1,0].v @ B"), host_of("k of these heads @ B")
    ('head[1,0]', 'k of these heads @ B')
    """
    site = site_of(name)
    if site is None:
        return name
    return str(Node(site.node.family, site.node.indices, term=site.node.term))


def _layer(node: Mapping[str, Any]) -> int | None:
    """The layer, None for what is before or after all layers."""
    inside = re.match(r"[^\[]*\[(\d+)", label_of(node))
    if inside:
        return int(inside[1])
    return None if float(node["depth"]) < 0 or node.get("role") in ("embed", "logits") else math.floor(float(node["depth"]))
