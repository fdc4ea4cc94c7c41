"""First check of a path: every name, index, port and position exists, and open axes are used consistently."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..architecture.families import Family
from ..architecture.graph import Graph
from ..errors import CircuitryError, suggest
from ..paths.positions import Axis
from ..paths.terms import LATENT
from ..paths.values import Node, Path
from .mentions import Mention, mentions

POSITION = "position"


def check_names(path: Path, graph: Graph, positions: Collection[str] | None) -> None:
    """Refuse names this model or task does not have. ``positions`` None: no task is known, so any name passes.

    Raises PathError.

    >>> import circuitry as ct
    >>> check_names(ct.parse("mlp[0] -> logits"), ct.graph("gpt_neox"), None)
    """
    for mention in mentions(path):
        family = _family(mention, graph)
        _check_indices(mention, family, graph)
        _check_port(mention, family)
        _check_term(mention, graph)
        _check_position(mention, positions)
    for axis, kind in axis_kinds(path, graph).items():
        if kind != POSITION:
            _check_axis(axis, kind, path, graph)


def _family(mention: Mention, graph: Graph) -> Family:
    try:
        family = graph.family(mention.node.family)
    except CircuitryError:
        families = [f.name for f in graph.families]
        raise mention.error(f"{graph.name} has no node {mention.node.family!r}", suggest(mention.node.family, families)) from None
    if mention.kind == "source" and family.role == "logits":
        raise mention.error("the logits are the end of the model; nothing flows from them", "start at a node such as embed")
    return family


def choices(family: str, graph: Graph, number: int) -> list[int]:
    """The values of the index with this number; in a hybrid, a family may be in some layers only.

    >>> import circuitry as ct
    >>> g = ct.graph("jamba", layer=12, head=2)
    >>> choices("head", g, 0), choices("head", g, 1)
    ([4], [0, 1])
    """
    return sorted({indices[number] for indices in graph.indices(family)})


def axis_choices(axis: str, path: Path, graph: Graph) -> list[int]:
    """The values of an open index: those that are possible in every node of the path that has it.

    >>> import circuitry as ct
    >>> axis_choices("l", ct.parse("head[{l},0] -> mlp[{l}] -> logits"), ct.graph("jamba"))
    [4, 12, 20, 28]
    """
    return sorted(set[int].intersection(*(set(_choices(mention.node, graph, number)) for mention, number in _uses(axis, path))))


def _choices(node: Node, graph: Graph, number: int) -> Sequence[int]:
    if node.term is None:
        return choices(node.family, graph, number)
    hosts = [host for host in graph.terms.latents if covers(graph.canonical(node.host), host)]
    if number < len(node.indices):
        return sorted({index for host in hosts if isinstance(index := host.indices[number], int)})
    return range(min((graph.terms.latents[host] for host in hosts), default=0))


def covers(pattern: Node, node: Node) -> bool:
    """Whether a name with open indices may stand for a node.

    >>> covers(Node("head", (Axis("layer"), 2), "q"), Node("head", (5, 2), "q"))
    True
    """
    fits = all(isinstance(mine, Axis) or mine == theirs for mine, theirs in zip(pattern.indices, node.indices, strict=False))
    return fits and (pattern.family, pattern.port) == (node.family, node.port)


def _uses(axis: str, path: Path) -> list[tuple[Mention, int]]:
    """The parts of a path that have an open index, and which of their indices it is; a latent's is the last."""
    return [
        (mention, number)
        for mention in mentions(path)
        for number, index in enumerate((*mention.node.indices, *([mention.node.term.index] if mention.node.term else [])))
        if index == Axis(axis)
    ]


def ranges(numbers: Collection[int]) -> str:
    """Numbers in words.

    >>> ranges(range(12)), ranges([1, 3, 4, 5])
    ('0 to 11', '1, 3 to 5')
    """
    starts = [n for n in sorted(numbers) if n - 1 not in numbers]
    stops = [n for n in sorted(numbers) if n + 1 not in numbers]
    return ", ".join(f"{a} to {b}" if a != b else str(a) for a, b in zip(starts, stops, strict=True))


def _check_indices(mention: Mention, family: Family, graph: Graph) -> None:
    node, may_name_all = mention.node, mention.kind in ("frozen", "exempt")
    example = f"{family.name}[{','.join(f'{{{i}}}' for i in family.indices)}]" if family.indices else family.name
    if len(node.indices) > len(family.indices):
        problem = f"{node.family!r} has {len(family.indices)} {'index' if len(family.indices) == 1 else 'indices'}, not {len(node.indices)}"
        raise mention.error(problem, f"it is written {example}")
    if family.indices and not node.indices and not may_name_all:
        raise mention.error(f"say which {node.family!r}", f"for every one, leave it open: {example}")
    if node.indices in graph.indices(node.family):
        return  # most often: a cell of a sweep, with every index filled in
    for number, (name, index) in enumerate(zip(family.indices, node.indices, strict=False)):
        allowed = choices(node.family, graph, number)
        if isinstance(index, int) and index not in allowed:
            some = f"{name}{'s' if len(allowed) > 1 else ''} {ranges(allowed)}"
            kind = _kind_of_layer(index, graph) if name == "layer" else ""
            if kind and kind not in {_kind_of_layer(other, graph) for other in allowed}:
                raise mention.error(
                    f"layer {index} of this model is {kind}: it has no {node.family!r}", f"{family.name} is in {some}"
                )
            raise mention.error(f"{name} {index} of {node.family!r} does not exist", f"{graph.name} has {some} there")


def _kind_of_layer(layer: int, graph: Graph) -> str:
    """What a layer of a hybrid is, by the instrumentation of its block; nothing for a layer that the model does not have."""
    kinds = graph.architecture.instrumentation
    blocks = [kinds[f.name] for f in graph.families if f.name in kinds and (layer,) in graph.indices(f.name)]
    return f"{'an' if blocks[0][0] in 'aeiou' else 'a'} {blocks[0]} layer" if blocks else ""


def _check_axis(axis: str, kind: str, path: Path, graph: Graph) -> None:
    """Refuse an open index for which no value is left: no layer of a hybrid has both a head and a state."""
    if not axis_choices(axis, path, graph):
        used = [mention for mention, _ in _uses(axis, path)]
        names = list(dict.fromkeys(graph.family(mention.node.family).name for mention in used))
        raise used[-1].error(f"no {kind} of this model has {' and '.join(names)}, so {{{axis}}} has no value", "name two axes")


def _check_port(mention: Mention, family: Family) -> None:
    port = mention.node.port
    ports = [*family.ports, *([family.value_port] if family.value_port else [])]
    if port is not None and port not in ports:
        hint = suggest(port, ports) if ports else f"write {family.name} without a port"
        raise mention.error(f"{family.name!r} has no port {port!r}", hint)
    if mention.node.term is not None:
        return  # held by writing into the node's value, so it can be frozen wherever that value is
    frozen = "" if port in (None, family.value_port) else str(port)
    if mention.kind in ("frozen", "exempt") and frozen not in family.freezable:
        hint = f"freeze {family.name} whole" if "" in family.freezable else "freeze the nodes before it instead"
        raise mention.error(f"{mention.node} cannot be frozen", hint)


def _check_term(mention: Mention, graph: Graph) -> None:
    """Refuse a latent or an error of a node without an autoencoder, and a latent past its last."""
    node, family = graph.canonical(mention.node), graph.family(mention.node.family)
    several = 0 < len(node.indices) < len(family.indices) and not any(isinstance(index, Axis) for index in node.indices)
    if several and mention.kind in ("source", "target"):
        _check_terms_of_all(mention, node, graph)
    open_indices = node.host not in graph.terms.latents and any(covers(node.host, host) for host in graph.terms.latents)
    if not open_indices and (wrong := graph.terms.wrong(node)):
        raise mention.error(*wrong)


def _check_terms_of_all(mention: Mention, node: Node, graph: Graph) -> None:
    """Refuse a term of every head of a layer if one of them has no autoencoder."""
    hosts = graph.members(node.host) if node.term else ()
    if lacking := [host for host in hosts if host not in graph.terms.latents]:
        missing = ", ".join(graph.family(node.family).indices[len(node.indices) :])
        problem = f"{node.host} without its {missing} is all {len(hosts)} of them, and {lacking[0]} has no autoencoder"
        one = next((host for host in hosts if host not in lacking), hosts[0])
        raise mention.error(problem, f"name one, such as {one}.{node.term}; {graph.terms.attached}")


def _check_position(mention: Mention, positions: Collection[str] | None) -> None:
    at = mention.site.at if mention.site else None
    if at is None or positions is None or not isinstance(at.base, str):
        return
    if at.base not in positions:
        raise mention.error(f"the task names no position {at.base!r}", suggest(at.base, positions), at_position=True)


def axis_kinds(path: Path, graph: Graph) -> dict[str, str]:
    """What each open axis runs over: an index name ("layer", "head" ...) or "position".

    Raises PathError if one axis would be two things.

    >>> import circuitry as ct
    >>> axis_kinds(ct.parse("head[{l},{h}] @ {p} -> logits"), ct.graph("gpt_neox"))
    {'l': 'layer', 'h': 'head', 'p': 'position'}
    """
    kinds: dict[str, str] = {}
    for mention in mentions(path):
        family = graph.family(mention.node.family)
        used = [(i.name, k) for i, k in zip(mention.node.indices, family.indices, strict=False) if isinstance(i, Axis)]
        if mention.node.term and isinstance(mention.node.term.index, Axis):
            used.append((mention.node.term.index.name, LATENT))
        if mention.site and mention.site.at and isinstance(mention.site.at.base, Axis):
            used.append((mention.site.at.base.name, POSITION))
        for name, kind in used:
            if kinds.setdefault(name, kind) != kind:
                raise mention.error(
                    f"the axis {{{name}}} is a {kinds[name]} and a {kind} at once", "give the two different names"
                )
    return kinds
