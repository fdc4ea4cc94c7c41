"""What moves when a node of an instrumented model is changed: plain PyTorch hooks on the places of all nodes, no planner, no trace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from circuitry.architecture import Graph, Place
from circuitry.paths import Node

Change = tuple[Node, int]
"""A node and the position at which random numbers are added to it."""


def values(model: Any, ids: Tensor, change: Change | None = None) -> dict[Place, Tensor]:
    """The value of every place [batch, pos, ...] in one forward pass, with a node changed or as it is."""
    graph, seen = model.graph, dict[Place, list[Tensor]]()
    at = None if change is None else graph.place(change[0])

    def visit(place: Place, value: Tensor) -> None:
        calls = seen.setdefault(place, [])
        if change is not None and place == at and (place.position is not None or len(calls) == change[1]):
            _disturb(value, place, change)
        calls.append(value.clone())

    with ExitStack() as stack, torch.no_grad():
        for place in {graph.place(node) for node in graph.nodes(ports=True)}:
            _hook(stack, model.hf.get_submodule(place.module), place, visit)
        for mixer in model.mixers:
            mixer.circuitry.stops = tuple(range(ids.shape[1]))
            stack.callback(setattr, mixer.circuitry, "stops", ())
        model.hf(ids, use_cache=False)
    return {
        place: torch.stack(calls, 1) if place.position is None else calls[0].movedim(place.position, 1)
        for place, calls in seen.items()
    }


def _disturb(value: Tensor, place: Place, change: Change) -> None:
    """Add random numbers in place, so that what goes around a norm sees them too."""
    node, position = change
    moved = value if place.position is None else value.movedim(place.position, 1)[:, position]
    if place.unit is not None:
        axis = place.unit - (place.position is not None and place.position < place.unit)
        moved = moved.select(axis, int(str(node.indices[-1])))
    moved += torch.randn(moved.shape, generator=torch.Generator().manual_seed(1), dtype=moved.dtype)


def _hook(stack: ExitStack, module: Any, place: Place, visit: Callable[[Place, Tensor], None]) -> None:
    def before(_: Any, args: Any, kwargs: Any) -> None:
        visit(place, args[0] if args else kwargs["hidden_states"])

    def after(_: Any, __: Any, out: Any) -> Any:
        if not place.module:  # the logits, which are what the model returns
            return visit(place, out.logits)
        value = (out[0] if isinstance(out, tuple) else out).clone()
        visit(place, value)
        return (value, *out[1:]) if isinstance(out, tuple) else value

    handle = (
        module.register_forward_pre_hook(before, with_kwargs=True) if place.io == "input" else module.register_forward_hook(after)
    )
    stack.callback(handle.remove)


def moved(graph: Graph, one: dict[Place, Tensor], other: dict[Place, Tensor], least: float = 0.0) -> set[tuple[Node, int]]:
    """Every node and position at which two passes differ by more than ``least``."""
    found = set()
    for node in graph.nodes(ports=True):
        place = graph.place(node)
        differs = (one[place] - other[place]).abs() > least
        if place.unit is not None:  # position is dimension 1 by now, which moves a unit that was there
            differs = differs.select(max(place.unit, 2), int(str(node.indices[-1])))
        per_position = differs.movedim(1, 0).flatten(1).any(1)
        found |= {(node, position) for position in torch.nonzero(per_position)[:, 0].tolist()}
    return found
