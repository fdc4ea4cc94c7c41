"""First check of a path: every name, index, port and position exists, and open axes are used consistently."""

from __future__ import annotations

from collections.abc import Collection

from ..architecture import Family, Graph
from ..errors import CircuitryError, suggest
from ..paths import Axis, Path
from .parts import Part, parts

POSITION = "position"


def check_names(path: Path, graph: Graph, positions: Collection[str] | None) -> None:
    """Refuse names this model or task does not have. ``positions`` None: no task is known, so any name passes.

    Raises PathError.

    >>> import circuitry as ct
    >>> check_names(ct.parse("mlp[0] -> logits"), ct.graph("gpt_neox"), None)
    """
    for part in parts(path):
        family = _family(part, graph)
        _check_indices(part, family, graph)
        _check_port(part, family)
        _check_position(part, positions)
    axis_kinds(path, graph)


def _family(part: Part, graph: Graph) -> Family:
    try:
        family = graph.family(part.node.family)
    except CircuitryError:
        known = [f.name for f in graph.families]
        raise part.error(f"{graph.name} has no node {part.node.family!r}", suggest(part.node.family, known)) from None
    if part.kind == "source" and family.role == "logits":
        raise part.error("the logits are the end of the model; nothing flows from them", "start at a node such as embed")
    return family


def index_sizes(family: Family, graph: Graph) -> list[int]:
    """How many values each index of a family has; a stream has one more layer than the model.

    >>> import circuitry as ct
    >>> g = ct.graph("gpt_neox")
    >>> index_sizes(g.family("resid"), g), index_sizes(g.family("head"), g)
    ([13], [12, 12])
    """
    extra = int(family.place is not None and family.place.end is not None)
    return [graph.sizes[name] + extra * (name == "layer") for name in family.indices]


def _check_indices(part: Part, family: Family, graph: Graph) -> None:
    node, whole = part.node, part.kind in ("frozen", "spared")
    wanted = f"{family.name}[{','.join(f'{{{i}}}' for i in family.indices)}]" if family.indices else family.name
    if len(node.indices) > len(family.indices):
        problem = f"{node.family!r} has {len(family.indices)} {'index' if len(family.indices) == 1 else 'indices'}, not {len(node.indices)}"
        raise part.error(problem, f"it is written {wanted}")
    if family.indices and not node.indices and not whole:
        raise part.error(f"say which {node.family!r}", f"for every one, leave it open: {wanted}")
    for name, index, size in zip(family.indices, node.indices, index_sizes(family, graph), strict=False):
        if isinstance(index, int) and not 0 <= index < size:
            raise part.error(
                f"{name} {index} of {node.family!r} does not exist", f"{graph.name} has {name}s 0 to {size - 1} there"
            )


def _check_port(part: Part, family: Family) -> None:
    port = part.node.port
    known = [*family.ports, *([family.value_port] if family.value_port else [])]
    if port is not None and port not in known:
        hint = suggest(port, known) if known else f"write {family.name} without a port"
        raise part.error(f"{family.name!r} has no port {port!r}", hint)
    held = "" if port in (None, family.value_port) else str(port)
    if part.kind in ("frozen", "spared") and held not in family.freezable:
        whole = f"freeze {family.name} whole" if "" in family.freezable else "freeze the nodes before it instead"
        raise part.error(f"{part.node} cannot be held at its clean value", whole)


def _check_position(part: Part, positions: Collection[str] | None) -> None:
    at = part.site.at if part.site else None
    if at is None or positions is None or not isinstance(at.base, str):
        return
    if at.base not in positions:
        raise part.error(f"the task names no position {at.base!r}", suggest(at.base, positions), at_position=True)


def axis_kinds(path: Path, graph: Graph) -> dict[str, str]:
    """What each open axis runs over: an index name ("layer", "head" ...) or "position".

    Raises PathError where one axis is asked to be two things.

    >>> import circuitry as ct
    >>> axis_kinds(ct.parse("head[{l},{h}] @ {p} -> logits"), ct.graph("gpt_neox"))
    {'l': 'layer', 'h': 'head', 'p': 'position'}
    """
    kinds: dict[str, str] = {}
    for part in parts(path):
        family = graph.family(part.node.family)
        used = [(i.name, k) for i, k in zip(part.node.indices, family.indices, strict=False) if isinstance(i, Axis)]
        if part.site and part.site.at and isinstance(part.site.at.base, Axis):
            used.append((part.site.at.base.name, POSITION))
        for name, kind in used:
            if kinds.setdefault(name, kind) != kind:
                raise part.error(f"the axis {{{name}}} is a {kinds[name]} and a {kind} at once", "give the two different names")
    return kinds
