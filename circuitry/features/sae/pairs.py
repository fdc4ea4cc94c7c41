"""Which node each transcoder of a training reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import CircuitryError
from ...models.model import Model
from ...paths.parse import parse_node
from ...paths.values import Node
from ..activations.stored import opened
from ..activations.stream import members

Nodes = str | Node | Iterable[str | Node] | None


def pairs(model: Any, nodes: Nodes, target: Nodes) -> dict[Node, Node]:
    """The node that is read, by the node that is predicted: the first of ``nodes`` for the first of ``target``, and so on.

    ``model``: a loaded model or stored activations; None, if activations are given, in which case nodes are named one by one and not
    by family. Raises CircuitryError for unequal numbers, one target named twice, and a target that does not depend on what is read.

    >>> import circuitry as ct
    >>> {str(node): str(source) for node, source in pairs(ct.load("bundled:gpt_neox"), ["resid[0]", "resid[2]"], ["mlp[0]", "mlp[2]"]).items()}
    {'mlp[0]': 'resid[0]', 'mlp[2]': 'resid[2]'}
    """
    sources, targets = _listed(model, nodes), _listed(model, target)
    if len(sources) != len(targets):
        raise CircuitryError(
            f"transcoders need a target for each node they read, got {len(sources)} nodes ({_shown(sources)}) and {len(targets)} targets "
            f"({_shown(targets)})"
        )
    for source, node in zip(sources, targets, strict=True):
        if isinstance(model, Model) and source not in model.graph.ancestors(node):
            raise CircuitryError(
                f"nothing flows from {source} to {node}, so it cannot be predicted from it; did you exchange them?"
            )
    if len(found := dict(zip(targets, sources, strict=True))) != len(targets):
        raise CircuitryError(f"a target is named twice ({_shown(targets)}); train its transcoders one after another")
    return found


def named(nodes: Nodes) -> list[Node]:
    """Nodes that are given as one or several, or as None.

    >>> [str(node) for node in named("resid[1]")], named(None)
    (['resid[1]'], [])
    """
    several = [nodes] if isinstance(nodes, str | Node) else list(nodes or ())
    return [parse_node(node) if isinstance(node, str) else node for node in several]


def _listed(model: Any, nodes: Nodes) -> list[Node]:
    if (stored := opened(model)) is not None:
        return [node for name in named(nodes) for node in stored.nodes(name)]
    return [node for name in named(nodes) for node in members(model, name)] if isinstance(model, Model) else named(nodes)


def _shown(nodes: list[Node]) -> str:
    return ", ".join(map(str, nodes)) or "none"
