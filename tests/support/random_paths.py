"""Experiments drawn at random that the planner accepts: hypothesis draws mostly paths that can have no effect."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import settings

import circuitry as ct
from circuitry import Graph
from circuitry.paths import Leg, Node, Path, Position, Site
from circuitry.planning import Plan
from circuitry.prompting import Prompts
from support.agreement import planned, ragged

T = TypeVar("T")
POSITIONS = (None, Position("A"), Position("B"), Position("B", 1), Position("END"), Position("END", -1), Position(3))
INTERVENTIONS = (*("resample",) * 4, "zero", "mean", ct.given(0.3))
NARROW = ("logit", "logit_difference", "foil_logit")
"""Metrics for which two logits are computed, not all."""
METRICS = (("logit",), NARROW, ("kl",), ("logit", "probability"))
LITTLE, SOME, PLENTY = 1, 300_000, 1 << 30
"""Bounds of memory: one cell of one example a batch, a few, everything at once."""


def few(count: int) -> settings:
    """So many examples, the same on every run; under a profile that looks for new ones, as many as that says."""
    return settings(max_examples=count) if settings().derandomize else settings()


@dataclass(frozen=True)
class Experiment:
    """What ``agreement.apart`` is asked."""

    plan: Plan
    prompts: Prompts
    metrics: tuple[str, ...]
    memory: int


def experiment(
    ours: Any, seed: int, length: int = 10, draw: Callable[[random.Random, Graph], list[Path]] | None = None, **options: Any
) -> Experiment:
    """Paths that end alike (by default ``paths``), prompts, an intervention and a direction: the first that the planner accepts."""
    rng = random.Random(seed)
    while True:
        prompts = ragged(rng.randint(1, 4), length, seed=rng.randint(0, 99))
        chosen = {"intervention": rng.choice(INTERVENTIONS), "direction": rng.choice(("noising", "denoising")), **options}
        drawn = (draw or paths)(rng, ours.graph)
        if chosen["intervention"] not in ("resample", "zero") and any(s.node.port == "pattern" for p in drawn for s in p.sources):
            continue  # neither one number nor a mean over prompts of several lengths is a pattern
        try:
            made = planned(ours, drawn, prompts, **chosen)
        except ct.CircuitryError:
            continue
        return Experiment(made, prompts, rng.choice(METRICS), rng.choice((LITTLE, SOME, PLENTY, PLENTY)))


def paths(rng: random.Random, graph: Graph) -> list[Path]:
    """One path or two over nodes that exist; each may still be one that can have no effect."""
    nodes = graph.nodes(ports=True)
    body = [node for node in nodes if node.family != "logits"]

    def site(pool: list[Node]) -> Site:
        return Site(rng.choice(pool), rng.choice(POSITIONS))

    def whole() -> Node:
        node = rng.choice(body)
        return Node(node.family, node.indices[: rng.randint(0, 2)], node.port)

    def leg() -> Leg:
        return Leg(some(rng, 1, lambda: site(body)), some(rng, 0, whole))

    end: tuple[Site, ...] = (Site(Node("logits"), rng.choice(POSITIONS)) if rng.random() < 0.6 else site(nodes),)
    end = (*end, site(body)) if rng.random() < 0.15 else end
    made = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        between = tuple(leg() for _ in range(rng.choice((0, 0, 1, 2))))
        last = Leg(end, some(rng, 0, whole), (), rng.random() < 0.3)
        made.append(Path(some(rng, 1, lambda: site(body)), (*between, last)))
    return made


def alike(rng: random.Random, graph: Graph) -> list[Path]:
    """Several paths whose sources are one set with a few nodes more or fewer, and which go on alike."""
    nodes = graph.nodes(ports=True)
    body = [node for node in nodes if node.family not in ("logits", "embed")]
    all_of = dict.fromkeys(Site(rng.choice(body), rng.choice((None, None, *POSITIONS))) for _ in range(rng.randint(2, 6)))

    def end(least: int) -> tuple[Site, ...]:
        return some(rng, least, lambda: Site(rng.choice(nodes), rng.choice(POSITIONS)))

    logits = (Site(Node("logits"), rng.choice(POSITIONS)),)
    between = [Leg(end(1), some(rng, 0, lambda: rng.choice(body)))] if rng.random() < 0.3 else []
    last = Leg(end(1) if rng.random() < 0.4 else logits, some(rng, 0, lambda: rng.choice(body)), (), rng.random() < 0.2)
    sets = [[site for site in all_of if rng.random() < 0.8] for _ in range(rng.randint(2, 5))]
    return [Path(tuple(one), (*between, last)) for one in sets if one]


def some(rng: random.Random, least: int, make: Callable[[], T]) -> tuple[T, ...]:
    """Up to two."""
    return tuple(make() for _ in range(rng.randint(least, 2)))
