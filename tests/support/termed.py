"""Tiny models with autoencoders on many of their nodes, and random paths through the terms of these."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from circuitry import Graph
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.executing.activations import read
from circuitry.paths import Leg, Node, Path, Site
from circuitry.paths.terms import Term
from support import tiny
from support.random_paths import paths

LATENTS = 24
KINDS = ("relu", "topk", "jumprelu")


@functools.cache
def model(kind: str, hosts: int = 14) -> Any:
    """A tiny model in float64 with random autoencoders on random nodes: ports, states and heads among them."""
    ours = tiny.model(kind)
    rng = random.Random(0)
    nodes = [node for node in ours.graph.nodes(ports=True) if node.family != "logits" and node.port != "pattern"]
    chosen = [*[node for node in nodes if node.family.endswith("_state") and not node.port][:1], *rng.sample(nodes, hosts)]
    values = read(ours, chosen, np.arange(6)[None])
    saes = {node: autoencoder(value[0, 0].numel(), number) for number, (node, value) in enumerate(values.items())}
    return ours.attach(saes)


def autoencoder(width: int, seed: int) -> SAE:
    """A random autoencoder of which about half the latents fire.

    Its directions are short: what is held of a state at every token goes round in the recurrence, and long ones would multiply
    rounding from token to token.
    """
    kind = KINDS[seed % 3]
    sae = SAE(SAEConfig(width, LATENTS, kind, 9 if kind == "topk" else None, centred=seed % 2 == 0), seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        sae.W_dec.mul_(0.1)
    return sae


def termed(rng: random.Random, graph: Graph) -> list[Path]:
    """Random paths in which most nodes that have an autoencoder are one of its terms."""
    made = paths(rng, graph)
    hosts = list(graph.terms.latents)

    def node(old: Node) -> Node:
        host = rng.choice(hosts) if rng.random() < 0.6 else old
        if host not in graph.terms.latents or rng.random() < 0.15:
            return old
        term = rng.choice([Term("latent", rng.randrange(LATENTS)), Term("latent"), Term("error")])
        return replace(host, term=term)

    def site(old: Site) -> Site:
        return old if old.node.family == "logits" else replace(old, node=node(old.node))

    def leg(old: Leg) -> Leg:
        return replace(old, targets=tuple(map(site, old.targets)), frozen=tuple(map(node, old.frozen)))

    def whole(path: Path) -> Path:
        """Sometimes a node is written whole while one of its terms is frozen."""
        if rng.random() < 0.8:
            return path
        host, first = rng.choice(hosts), path.legs[0]
        frozen = replace(host, term=Term("latent", rng.randrange(LATENTS)))
        return Path((replace(path.sources[0], node=host),), (replace(first, frozen=(*first.frozen, frozen)), *path.legs[1:]))

    ends = tuple(map(site, made[0].legs[-1].targets))  # all paths of one table end alike
    termed = (
        Path(tuple(map(site, path.sources)), (*map(leg, path.legs[:-1]), replace(leg(path.legs[-1]), targets=ends)))
        for path in made
    )
    return [whole(path) for path in termed]
