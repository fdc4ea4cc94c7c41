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


def check_effects(path: Path, graph: Graph, where: Where | None, length: Lengths = None, changed: Changed | None = None) -> None:
    """Refuse a concrete path whose effect must be exactly zero, in all examples or in some, and positions outside the prompts.

    Raises PathError with the reason: cut by freezing, run against the model, out of a convolution's reach, backwards in
    the text, nothing left that moves information between the two positions, a set that names one site twice, or, where
    ``changed`` says which tokens differ between the two prompts, a source that has the same value on both.

    >>> import circuitry as ct
    >>> check_effects(ct.parse("h[1] @ 4 -> logits @ 9 freezing h"), ct.graph("mamba"), {})
    >>> check_effects(ct.parse("h[1] @ 4 -> logits freezing mixer_out"), ct.graph("mamba"), {})
    Traceback (most recent call last):
    circuitry.errors.PathError: freezing mixer_out cuts every path from h[1] to logits: the effect would be exactly zero
        h[1] @ 4 -> logits freezing mixer_out
        ^
    leave one that connects them live, for example: freezing mixer_out except mixer_out[1]
    """
    found, sources, moved = mentions(path), path.sources, dict[Site, list[tuple[int, ...]]]()
    for number, leg in enumerate(path.legs):
        one = ConcreteLeg(number, leg, sources, found, graph, where, length, None if number else changed, moved)
        if where is not None:
            for site in sources:
                check_inside(site, one.source(site), where, length)
            for site in leg.targets:
                check_inside(site, one.target(site), where, length)
        for kind in ("source", "target"):
            measured = kind == "target" and number == len(path.legs) - 1
            check_once((p for p in found if (p.kind, p.leg) == (kind, number)), graph, where, measured=measured)
        _check_leg(one)
        if length is not None and not isinstance(length, int):
            _check_every_example(one)
        sources, moved = leg.targets, moved_on(one) if number < len(path.legs) - 1 else {}


def _check_leg(one: ConcreteLeg) -> None:
    graph, targets = one.graph, ends(one.leg.targets, one.graph)
    frozen = frozen_nodes(graph, ends(one.sources, graph), targets, one.leg)
    reached = [graph.reach(nodes_of(site, graph), frozen) for site in one.sources]
    for site, reach in zip(one.sources, reached, strict=True):
        if not set(targets) & set(reach) - set(nodes_of(site, graph)):
            raise unconnected(one, site, targets, frozen)
        if not any(can_arrive(one, site, target, reach) for target in one.leg.targets):
            raise too_far(one, site, reach, frozen)
    live = [(site, reach) for site, reach in zip(one.sources, reached, strict=True) if any(two_values(one, site))]
    if not live:
        raise alike(one)
    for target in one.leg.targets:
        if not any(can_arrive(one, source, target, reach) for source, reach in live):
            raise one.target(target).error(f"nothing flows into {target} on this leg", "drop it from the set")


def _check_every_example(one: ConcreteLeg) -> None:
    """Refuse what has an effect in some examples only: in the others it is exactly zero, and would count as if it were measured."""
    differs = [
        any(some) for some in zip(*together(*(list(map(int, two_values(one, source))) for source in one.sources)), strict=True)
    ]
    if not all(differs):
        raise one.source(one.sources[0]).error(
            f"no token in which the prompts differ reaches {_names(one.sources)} in {differs.count(False)} of {len(differs)} examples: "
            "the effect there would be exactly zero",
            "choose a position after the change in every example",
            at_position=True,
        )
    if all(source.at is None for source in one.sources) and one.changed is None:
        return  # it begins before whatever is read
    apart = (tokens_between(one, source, target) for source in one.sources for target in one.leg.targets)
    if all(offsets is None or len(set(offsets)) == 1 for offsets in apart):
        return  # what holds of one example holds of all
    frozen = frozen_nodes(one.graph, ends(one.sources, one.graph), ends(one.leg.targets, one.graph), one.leg)
    reached = [(site, one.graph.reach(nodes_of(site, one.graph), frozen)) for site in one.sources]
    for site, reach in reached:
        each = [arriving_in(one, site, target, reach) for target in one.leg.targets]
        _check_arriving(each, one.source(site), f"from {site} to {_names(one.leg.targets)}")
    for target in one.leg.targets:
        each = [arriving_in(one, site, target, reach) for site, reach in reached]
        _check_arriving(each, one.target(target), f"from {_names(one.sources)} to {target}")


def _names(members: tuple[Site, ...]) -> str:
    return ", ".join(map(str, members))


def _check_arriving(each: list[list[bool] | None], mention: Mention, way: str) -> None:
    if any(arrives is None for arrives in each):
        return
    arrives = [any(some) for some in zip(*together(*(some for some in each if some)), strict=True)]
    if not all(arrives):
        raise mention.error(
            f"nothing flows {way} in {arrives.count(False)} of {len(arrives)} examples: the effect there would be exactly zero",
            "choose positions that stand in one order in every example",
            at_position=True,
        )


def differs_everywhere(path: Path, graph: Graph, where: Where, changed: Changed | None) -> bool:
    """Whether every source has two values in every example, so that none counts with an effect that is exactly zero.

    >>> import circuitry as ct
    >>> path, where = ct.parse("embed @ 2 -> logits"), {"END": [5, 5]}
    >>> [differs_everywhere(path, ct.graph("gpt2"), where, changed) for changed in ([(2,), (2,)], [(2,), (3,)])]
    [True, False]
    """
    one = ConcreteLeg.first(path, graph, where, None, changed)
    return all(all(two_values(one, site)) for site in path.sources)
