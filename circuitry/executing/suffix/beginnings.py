"""Runs that begin alike: a patched run starts at the first layer that can differ from an earlier run with the same first writes.

Sets of nodes are often the same in the first layers (all heads but those of a circuit), and a random node may be one of the table's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from ...planning.regions import Regions
from ...planning.values import Pass

if TYPE_CHECKING:
    from .rows import Leg

Step = tuple[int, frozenset[Any]]
"""A layer and all that a leg writes in it."""


@dataclass(frozen=True)
class Begun:
    """A leg that is computed from ``layer`` on. Before that it equals ``origin``, or the base run if there is none."""

    leg: Leg
    origin: Begun | None = None
    layer: int = -1


@dataclass
class _Alike:
    """Legs with the same writes so far: the one whose next write is latest, its steps, and the groups that follow by next step."""

    begun: Begun | None = None
    steps: Sequence[Step] = ()
    onward: dict[Step, _Alike] = field(default_factory=dict)


def begun(legs: Iterable[Leg], regions: Regions) -> list[Begun]:
    """Each leg, cut down to what it does not share with an earlier one.

    Only first legs share, since the values that a later leg writes come from the leg before it.
    """
    groups: dict[Any, _Alike] = {}
    return [_begun(leg, groups, regions) if leg.number == 0 else Begun(leg) for leg in legs]


def _begun(leg: Leg, groups: dict[Any, _Alike], regions: Regions) -> Begun:
    kind = leg.plan.frozen, leg.plan.reads, leg.job.nothing, leg.examples.tobytes()
    steps, way = _steps(leg.plan, regions), [groups.setdefault(kind, _Alike())]
    for step in steps:
        way.append(way[-1].onward.setdefault(step, _Alike()))
    depth = max(number for number, alike in enumerate(way) if number == 0 or alike.begun)
    cut = _after(leg, steps, way[depth], depth, regions)
    for number, alike in enumerate(way):
        if alike.begun is None or _next(steps, number) > _next(alike.steps, number):
            alike.begun, alike.steps = cut, steps
    return cut


def _after(leg: Leg, steps: Sequence[Step], alike: _Alike, depth: int, regions: Regions) -> Begun:
    origin = alike.begun
    if not depth or origin is None:
        return Begun(leg)
    read = min(regions.of(site.node).layer for site in leg.plan.reads)
    layer = int(min(read, _next(steps, depth), _next(alike.steps, depth)))
    while origin.origin is not None and origin.layer >= layer:  # it takes the layers before that from its own origin
        origin = origin.origin
    tokens = {region: bits for region, bits in leg.live.tokens.items() if region.layer >= layer}
    states = {block: bits for block, bits in leg.live.states.items() if regions.of(regions.blocks[block]).layer >= layer}
    return Begun(replace(leg, live=replace(leg.live, tokens=tokens, states=states)), origin, layer)


def _next(steps: Sequence[Step], depth: int) -> float:
    """The layer of the first write after so many steps."""
    return steps[depth][0] if len(steps) > depth else float("inf")


def _steps(plan: Pass, regions: Regions) -> list[Step]:
    writes = sorted(plan.writes, key=lambda write: regions.of(write.node).layer)
    return [(layer, frozenset(some)) for layer, some in groupby(writes, lambda write: regions.of(write.node).layer)]
