"""Finds what is named twice: values of an axis, sites of a set, whole paths. Examples of a repeated cell would count twice."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations

from ..architecture.graph import Graph
from ..errors import CircuitryError
from ..paths.parse import parse_position
from ..paths.positions import Position
from ..paths.values import Node, Path, Site
from .frozen import nodes_of
from .mentions import Mention
from .positions import Where, absolute
from .readings import read_at
from .values import Sweep, Value

Tokens = tuple[Hashable, ...] | None
"""A site's token in each example, a single one if it is the same in all; None for every position."""


def tokens(at: Position | None, where: Where | None) -> Tokens:
    """The tokens that a position names; its text if no prompts are known.

    >>> tokens(Position("B"), {"B": [1, 1]}) == tokens(Position(1), {"B": [1, 1]})
    True
    """
    if at is None:
        return None
    if where is None or (isinstance(at.base, str) and at.base not in where):
        return (str(at),)
    numbers = absolute(at, where)
    return tuple(numbers[:1]) if len(set(numbers)) == 1 else tuple(numbers)


def aliases(axis: str, values: Sequence[Value], where: Where | None) -> dict[Value, Value]:
    """Positions that name the same token in every example as another one of ``values``, by that other one.

    They are left out of a sweep that the user did not choose: a name without an offset stays, or else the first. Raises
    CircuitryError if the user chose the values.

    >>> aliases("position", Sweep(["IO+1", "S1", "S1+1"]), {"IO": [1, 4], "S1": [2, 5]})
    {'IO+1': 'S1'}
    >>> aliases("position", ["IO+1", "S1"], {"IO": [1, 4], "S1": [2, 5]})
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: {position} has 'IO+1' and 'S1', which are the same token in every example; name each token once
    """
    places: dict[Tokens, list[Value]] = {}
    for value in values:
        places.setdefault(tokens(parse_position(str(value)), where), []).append(value)
    repeated: dict[Value, Value] = {}
    for same in places.values():
        if len(same) > 1 and not isinstance(values, Sweep):
            raise CircuitryError(
                f"{{{axis}}} has {same[0]!r} and {same[1]!r}, which are the same token in every example; name each token once"
            )
        plain = min(same, key=lambda value: parse_position(str(value)).offset != 0)
        repeated |= {value: plain for value in same if value != plain}
    return repeated


def experiment(path: Path, graph: Graph, where: Where | None) -> Hashable:
    """What a path without open axes does, however it is written: equal for two paths that are the same experiment.

    >>> import circuitry as ct
    >>> one, other = ct.parse("(mlp[0] @ B, mlp[1]) -> logits"), ct.parse("(mlp[1], mlp[0] @ 1) -> logits @ END")
    >>> experiment(one, ct.graph("gpt2"), {"B": [1], "END": [4]}) == experiment(other, ct.graph("gpt2"), {"B": [1], "END": [4]})
    True
    """

    def members(sites: Iterable[Site]) -> frozenset[Hashable]:
        return frozenset((node, tokens(read_at(site, graph), where)) for site in sites for node in nodes_of(site, graph))

    legs = [
        (members(leg.targets), *(frozenset(map(graph.canonical, nodes)) for nodes in (leg.frozen, leg.exempt)), leg.directly)
        for leg in path.legs
    ]
    return members(path.sources), tuple(legs)


def check_once(members: Iterable[Mention], graph: Graph, where: Where | None, *, measured: bool = False) -> None:
    """Refuse a set of sites that names one site twice: a source would be written twice, a distance would count it twice.

    Two sites that are the same in some examples only are refused if a distance is ``measured`` over them. Raises PathError.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> plan("(mlp[0] @ 1, mlp[0] @ B) -> logits", ct.graph("gpt2"), where={"B": [1, 1], "END": [4, 5]}, length=6)
    Traceback (most recent call last):
    circuitry.errors.PathError: mlp[0] @ B is mlp[0] @ 1, which the set names already
        (mlp[0] @ 1, mlp[0] @ B) -> logits
                     ^
    name each site once
    """
    by_host: dict[Node, list[tuple[Node, Site, Mention]]] = {}
    for mention in members:
        if mention.site is not None:
            for node in nodes_of(mention.site, graph):
                by_host.setdefault(node.host, []).append((node, mention.site, mention))
    for same in by_host.values():
        for (one, first, _), (other, second, mention) in combinations(same, 2):
            if not _share(one, other):
                continue
            first_tokens, second_tokens = (tokens(read_at(site, graph), where) for site in (first, second))
            if first_tokens is None or second_tokens is None or first_tokens == second_tokens:
                raise mention.error(_message(first, second, first_tokens, second_tokens), "name each site once")
            if measured and (shared := _shared_examples(first_tokens, second_tokens)):
                raise mention.error(
                    f"{second} is {first} in {shared}, which a distance would count twice", "name each token once"
                )


def _share(one: Node, other: Node) -> bool:
    """Whether two names of one node's value name the same part of it: two latents do not, a latent and all latents do."""
    if one.term is None or other.term is None:
        return True
    return one.term.covers(other.term) or other.term.covers(one.term)


def _message(first: Site, second: Site, first_tokens: Tokens, second_tokens: Tokens) -> str:
    if first == second:
        return f"{second} is in the set twice"
    if first_tokens == second_tokens:
        outer, inner = (first, second) if _detail(first) <= _detail(second) else (second, first)
        part = "part of " if _detail(first) != _detail(second) else ""
        return f"{inner} is {part}{outer}, which the set names already"
    every, single = (first, second) if first_tokens is None else (second, first)
    return f"{single} is part of {every}, which is at every position"


def _detail(site: Site) -> tuple[int, bool, bool]:
    """How much of a node's full name a site gives."""
    term = site.node.term
    return len(site.node.indices), term is not None, term is not None and term.index is not None


def _shared_examples(first: Sequence[Hashable], second: Sequence[Hashable]) -> str:
    size = max(len(first), len(second))
    pairs = zip(list(first) * (size // len(first)), list(second) * (size // len(second)), strict=True)
    same = sum(a == b for a, b in pairs)
    return f"{same} of {size} examples" if same else ""
