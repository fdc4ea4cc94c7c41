"""What the JSON and the ``.pt`` files of EAP-IG have in common: marked edges, the sizes of the model, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ..architecture.graph import Graph
from ..errors import CircuitryError, expected
from .eap_ig_names import sizes

Marked: TypeAlias = dict[str, tuple[float | None, bool]]
"""By the name of an edge: its score, if it has one, and whether it is in the graph."""


def config(graph: Graph) -> dict[str, int | bool]:
    """What EAP-IG stores of a model's sizes, without the width of its residual stream.

    >>> import circuitry as ct
    >>> config(ct.graph("gpt2"))
    {'n_layers': 12, 'n_heads': 12, 'parallel_attn_mlp': False}
    """
    layers, heads, parallel = sizes(graph)
    return {"n_layers": layers, "n_heads": heads, "parallel_attn_mlp": parallel}


def check_parts(data: Any, graph: Graph, parts: Mapping[str, type]) -> None:
    """Raise CircuitryError unless a file has these parts and is of a model of this size.

    >>> import circuitry as ct
    >>> g = ct.graph("gpt2")
    >>> check_parts({"cfg": {**config(g), "n_heads": 16}, "edges": {}}, g, {"edges": dict})
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: it is of another model: expected n_heads 12, got 16
    """
    for name, kind in {"cfg": dict, **parts}.items():
        if not isinstance(data, dict) or not isinstance(data.get(name), kind):
            raise CircuitryError(f"this is not a graph of EAP-IG: {name!r} is missing or of the wrong kind")
    for name, size in config(graph).items():
        if (found := data["cfg"].get(name)) != size:
            raise CircuitryError(f"it is of another model: {expected(f'{name} {size!r}', found)}")


def edges_only() -> CircuitryError:
    """The error for a file that says more of nodes or neurons than whether a node is in the graph.

    >>> print(edges_only())
    it has scores of nodes or neurons, and circuitry reads only those of edges
    """
    return CircuitryError("it has scores of nodes or neurons, and circuitry reads only those of edges")


def check_known(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise CircuitryError if some names are not among the known ones.

    >>> check_known(["m0", "m8", "m9"], ["m0", "m1"])
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: this model does not have 'm8' (and 1 other)
    """
    there = frozenset(known)
    if unknown := [name for name in names if name not in there]:
        raise CircuitryError(f"this model does not have {_first(unknown)}")


def check_same(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise CircuitryError unless the names are the known ones, all of them.

    >>> check_same(["input->m0"], ["input->m0", "input->logits"])
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: edges of this model are missing: 'input->logits'
    """
    given, expected_names = frozenset(names), list(known)
    check_known(names, expected_names)
    if missing := [name for name in expected_names if name not in given]:
        raise CircuitryError(f"edges of this model are missing: {_first(missing)}")


def _first(names: list[str]) -> str:
    others = len(names) - 1
    return repr(names[0]) + (f" (and {others} other{'s' if others > 1 else ''})" if others else "")


def nodes_inside(marked: Marked) -> frozenset[str]:
    """The senders that edges in the graph both enter and leave. Nothing has to enter the embedding.

    >>> inside = {"input->m0": (1.0, True), "m0->logits": (2.0, True), "m0->m1": (0.0, False), "m1->logits": (3.0, True)}
    >>> sorted(nodes_inside(inside))
    ['input', 'm0']
    """
    ends = [name.split("->") for name, (_, inside) in marked.items() if inside]
    entered = {receiver.split("<")[0] for _, receiver in ends} | {"input"}
    return frozenset(sender for sender, _ in ends if sender in entered)
