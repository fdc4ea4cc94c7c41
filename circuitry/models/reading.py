"""Values of nodes in plain forward passes of the instrumented module, where no engine is needed: shapes, and latents that fire."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from ..architecture.families import Place
from ..paths.values import Node


def own_value(value: Tensor, place: Place, node: Node) -> Tensor:
    """A node's own part of the value of its place, as a view [row, position, ...]; of a state [row, 1, ...]. A term's is that of its node.

    >>> import circuitry as ct
    >>> graph = ct.graph("gpt2")
    >>> tuple(own_value(torch.zeros(2, 7, 12, 64), graph.place(graph.node("head[0,1]")), graph.node("head[0,1]")).shape)
    (2, 7, 64)
    """
    if place.unit is not None:
        value = value.select(place.unit, int(node.indices[-1]))  # type: ignore[arg-type]
    if place.position is None:
        return value.unsqueeze(1)
    return value.movedim(place.position - (place.unit is not None and place.unit < place.position), 1)


def hooked(hf: Any, mixers: Sequence[Any], places: Mapping[Node, Place], ids: Tensor) -> dict[Node, Tensor]:
    """Values [row, position, ...] of nodes on ids [row, position], by hooks.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> nodes = {node: model.graph.place(node) for node in map(model.graph.node, ("resid[1]", "h[2]"))}
    >>> [tuple(value.shape) for value in hooked(model.hf, model.mixers, nodes, torch.zeros(1, 3, dtype=int)).values()]
    [(1, 3, 128), (1, 3, 256, 32)]
    """
    seen: dict[Node, list[Tensor]] = {node: [] for node in places}

    def note(node: Node, place: Place, raw: Any) -> None:
        value = raw.logits if hasattr(raw, "logits") else raw[0] if isinstance(raw, tuple | list) else raw
        seen[node].append(own_value(value, place, node).clone())

    with ExitStack() as stack:
        for node, place in places.items():
            module = hf.get_submodule(place.module)
            if place.io == "output":
                hook = module.register_forward_hook(lambda _, __, out, n=node, p=place: note(n, p, out))
            else:
                hook = module.register_forward_pre_hook(
                    lambda _, args, kwargs, n=node, p=place: note(n, p, args[0] if args else next(iter(kwargs.values()))),
                    with_kwargs=True,
                )
            stack.callback(hook.remove)
        for mixer in mixers:
            mixer.circuitry.stops = tuple(range(ids.shape[1]))
            stack.callback(setattr, mixer.circuitry, "stops", ())
        with torch.no_grad():
            hf(ids.to(hf.get_input_embeddings().weight.device), use_cache=False, logits_to_keep=1)
    return {node: torch.cat(values, 1) for node, values in seen.items()}
