"""Second check of a path: can it have an effect at all? Only the graph can see that an experiment is vacuous."""

from __future__ import annotations

from ..architecture.graph import Graph
from ..paths.values import Path, Site
from .arrivals import Changed, ConcreteLeg, arriving_in, can_arrive, moved_on, tokens_between, two_values
from .frozen import ends, frozen_nodes, nodes_of
from .mentions import Mention, mentions
from .positions import Lengths, Where, check_inside, together
from .reasons import alike, too_far, unconnected
from .twice import check_once


def check_effects(
    path: Path,
    graph: Graph,
    where: Where | None,
    length: Lengths = None,
    changed: Changed | None = None,
    *,
    hints: bool = True,
) -> None:
    """Refuse a concrete path whose effect must be exactly zero in some or all examples, and positions outside the prompts.

    Raises PathError with the reason: cut by freezing, run against the model, out of a convolution's reach, backwards in
    the text, nothing left that moves information between the two positions, a set that names one site twice, or, where
    ``changed`` says which tokens differ between the two prompts, a source that has the same value on both. Without ``hints`` it does not look
    for a frozen node that could be exempt.

    >>> import circuitry as ct
    >>> check_effects(ct.parse("h[1] @ 4 -> logits @ 9 freezing h"), ct.graph("mamba"), {})
    >>> check_effects(ct.parse("h[1] @ 4 -> logits freezing mixer_out"), ct.graph("mamba"), {})
    Traceback (most recent call last):
    circuitry.errors.PathError: freezing mixer_out cuts every path from h[1] to logits: the effect would be exactly zero
        h[1] @ 4 -> logits freezing mixer_out
        ^
    leave one that connects them live, for example: freezing mixer_out except mixer_out[1]
    """
    parts, sources, moved = mentions(path), path.sources, dict[Site, list[tuple[int, ...]]]()
    for number, leg in enumerate(path.legs):
        concrete = ConcreteLeg(number, leg, sources, parts, graph, where, length, None if number else changed, moved, hints)
        if where is not None:
            for site in sources:
                check_inside(site, concrete.source(site), where, length)
            for site in leg.targets:
                check_inside(site, concrete.target(site), where, length)
        for kind in ("source", "target"):
            measured = kind == "target" and number == len(path.legs) - 1
            check_once((p for p in parts if (p.kind, p.leg) == (kind, number)), graph, where, measured=measured)
        _check_leg(concrete)
        if length is not None and not isinstance(length, int):
            _check_every_example(concrete)
        sources, moved = leg.targets, moved_on(concrete) if number < len(path.legs) - 1 else {}


def _check_leg(leg: ConcreteLeg) -> None:
    graph, targets = leg.graph, ends(leg.leg.targets, leg.graph)
    frozen = frozen_nodes(graph, ends(leg.sources, graph), targets, leg.leg)
    reached = [graph.reach(nodes_of(site, graph), frozen) for site in leg.sources]
    read = {graph.terms.exit(target) for target in targets}
    for site, reach in zip(leg.sources, reached, strict=True):
        if not read & set(reach) - set(nodes_of(site, graph)):
            raise unconnected(leg, site, targets, frozen)
        if not any(can_arrive(leg, site, target, reach) for target in leg.leg.targets):
            raise too_far(leg, site, reach, frozen)
    live = [(site, reach) for site, reach in zip(leg.sources, reached, strict=True) if any(two_values(leg, site))]
    if not live:
        raise alike(leg)
    for target in leg.leg.targets:
        if not any(can_arrive(leg, source, target, reach) for source, reach in live):
            raise leg.target(target).error(f"nothing flows into {target} on this leg", "drop it from the set")


def _check_every_example(leg: ConcreteLeg) -> None:
    """Refuse a leg that has an effect in some examples only: in the others it is exactly zero, and would count as measured."""
    differs = [
        any(some) for some in zip(*together(*(list(map(int, two_values(leg, source))) for source in leg.sources)), strict=True)
    ]
    if not all(differs):
        raise leg.source(leg.sources[0]).error(
            f"no token in which the prompts differ reaches {_names(leg.sources)} in {differs.count(False)} of {len(differs)} examples: "
            "the effect there would be exactly zero",
            "choose a position after the change in every example",
            at_position=True,
        )
    if all(source.at is None for source in leg.sources) and leg.changed is None:
        return  # sources at every position begin before everything that is read
    apart = (tokens_between(leg, source, target) for source in leg.sources for target in leg.leg.targets)
    if all(offsets is None or len(set(offsets)) == 1 for offsets in apart):
        return  # all examples have the same distances, so ``_check_leg`` has checked them
    frozen = frozen_nodes(leg.graph, ends(leg.sources, leg.graph), ends(leg.leg.targets, leg.graph), leg.leg)
    reached = [(site, leg.graph.reach(nodes_of(site, leg.graph), frozen)) for site in leg.sources]
    for site, reach in reached:
        arriving = [arriving_in(leg, site, target, reach) for target in leg.leg.targets]
        _check_arriving(arriving, leg.source(site), f"from {site} to {_names(leg.leg.targets)}")
    for target in leg.leg.targets:
        arriving = [arriving_in(leg, site, target, reach) for site, reach in reached]
        _check_arriving(arriving, leg.target(target), f"from {_names(leg.sources)} to {target}")


def _names(members: tuple[Site, ...]) -> str:
    return ", ".join(map(str, members))


def _check_arriving(arriving: list[list[bool] | None], mention: Mention, way: str) -> None:
    if any(arrives is None for arrives in arriving):
        return
    arrives = [any(some) for some in zip(*together(*(some for some in arriving if some)), strict=True)]
    if not all(arrives):
        raise mention.error(
            f"nothing flows {way} in {arrives.count(False)} of {len(arrives)} examples: the effect there would be exactly zero",
            "choose positions whose order is the same in every example",
            at_position=True,
        )


def differs_everywhere(path: Path, graph: Graph, where: Where, changed: Changed | None) -> bool:
    """Whether every source has two values in every example, so that none counts with an effect that is exactly zero.

    >>> import circuitry as ct
    >>> path, where = ct.parse("embed @ 2 -> logits"), {"END": [5, 5]}
    >>> [differs_everywhere(path, ct.graph("gpt2"), where, changed) for changed in ([(2,), (2,)], [(2,), (3,)])]
    [True, False]
    """
    leg = ConcreteLeg.first(path, graph, where, None, changed)
    return all(all(two_values(leg, site)) for site in path.sources)
