"""One pass over a batch whose rows are the same prompts several times, with something written at every place of some nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..architecture.families import Place
from ..executing.places import execution_order, turn
from ..executing.trace import traced
from ..models.model import Model
from ..paths.values import Node
from ..prompting.prompts import Prompts

Act: TypeAlias = Callable[[Place, int, Tensor], Tensor]
"""From a place, which of its calls (of a state: the token), and its value [row, ...] to what goes on through the model."""


def logits_at_end(
    model: Model, prompts: Prompts, ids: NDArray[np.int64], nodes: Iterable[Node], act: Act, *, gradients: bool = False
) -> Tensor:
    """The logits at END [row, vocabulary] of a pass in which ``act`` is called at the places of nodes, in the order of the model.

    ``ids`` [row, pos] are the rows: for each example of ``prompts`` one after the other, any number of times.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> prompts = ct.task("induction", distance=8, examples=2).prompts(model.vocabulary)
    >>> seen = []
    >>> node = model.graph.node("mixer_out[1]")
    >>> logits_at_end(model, prompts, prompts.clean, [node], lambda place, call, value: seen.append(place.module) or value).shape, seen
    (torch.Size([2, 2048]), ['backbone.layers.1.mixer'])
    """
    graph, order = model.graph, execution_order(model)
    places = {graph.place(node) for node in nodes}
    stops = [(place, call) for place in places for call in range(prompts.length if place.position is None else 1)]
    stops = sorted(stops, key=lambda stop: turn(stop[0], stop[1], order))
    output = (graph.place(Node(graph.by_role("logits")[0].name)), 0)
    ends = np.unique(prompts.where["END"])

    def acted(number: int, value: Tensor) -> tuple[Tensor | None, Tensor]:
        if number == len(stops):
            return None, value
        return act(*stops[number], value), value.new_empty(0)

    states = tuple(range(prompts.length)) if any(place.position is None for place in places) else ()
    keep = torch.from_numpy(ends).to(model.device)
    logits = traced(
        model, torch.from_numpy(ids), [*stops, output], acted, states=states, keep=keep, gradients=gradients
    )[-1]  # fmt: skip
    at = np.tile(np.searchsorted(ends, prompts.where["END"]), len(ids) // len(prompts))
    return logits[torch.arange(len(ids), device=logits.device), torch.from_numpy(at).to(logits.device)]
