"""Mixtures of experts: what the router of a layer gives each expert is a node inside the MLP, whatever the architecture."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ..paths.values import Node
from .families import Family, Place
from .rules import SAME, Edge

ROUTER = "router"
"""The name of the family, and its role."""


def with_routers(families: Iterable[Family]) -> Iterator[Family]:
    """The families of a model with experts: ``router`` comes before the MLP in which its hook point lies.

    >>> from circuitry.architecture import definition
    >>> [family.name for family in with_routers(definition("llama").families)]
    ['embed', 'resid', 'resid_mid', 'head', 'attn', 'router', 'mlp', 'logits']
    """
    for family in families:
        if family.role == "mlp" and family.place is not None:
            meaning = "how much of each expert a token takes, 0 for those that are not chosen"
            module = family.block or family.place.module
            yield Family(ROUTER, ("layer",), "batch pos expert", meaning, Place(f"{module}.circuitry.{ROUTER}"), role=ROUTER)
        yield family


def with_router_edges(edges: Iterable[Edge], mlp: str, layers: Collection[int]) -> Iterator[Edge]:
    """These edges, and in ``layers`` those of the router: it reads what the node ``mlp`` reads, and only this node reads it.

    >>> from circuitry.architecture import Node
    >>> edges = with_router_edges([(Node("resid", (0,)), Node("mlp", (0,)), SAME)], "mlp", {0})
    >>> [f"{source.family} -> {target.family}" for source, target, _ in edges]
    ['resid -> mlp', 'resid -> router', 'router -> mlp']
    """
    for source, target, rule in edges:
        yield source, target, rule
        if target.family == mlp and target.indices[0] in layers:
            router = Node(ROUTER, target.indices)
            yield source, router, rule
            yield router, target, SAME
