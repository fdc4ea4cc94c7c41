"""Values of nodes at every position, read in one forward pass, and logits of a run in which some of them are changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..architecture.families import Place
from ..errors import CircuitryError, several
from ..models.model import Model
from ..models.reading import own_value
from ..paths.values import Node
from .inputs import check_ids
from .places import execution_order, turn
from .terms import term_values
from .trace import traced

Change = Callable[[Tensor], Tensor]
"""From a node's values to others of the same shape."""


@dataclass(frozen=True)
class _Stop:
    """One place of the trace at one of its calls, and the nodes at that place: one, or the heads of a layer."""

    place: Place
    occurrence: int
    nodes: tuple[Node, ...]


Act = Callable[[_Stop, Tensor], tuple[Tensor | None, Tensor]]
"""From a stop and the value there to what to write there (None: nothing) and what to keep."""


def read(model: Model, nodes: Iterable[Node | str], ids: NDArray[np.int64]) -> dict[Node, Tensor]:
    """The values of nodes at every position of ``ids`` [row, position]: for each node a tensor [row, position, ...] of its own shape.

    One forward pass, whatever the number of nodes. Rows may be padded on the right with any token: no node sees what follows it.
    A state is read at every position, which takes as much memory. Raises CircuitryError for a node that is not there and ids
    that the model cannot read, GuardError if a place was never reached.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> {str(node): tuple(value.shape) for node, value in read(model, ["resid[4]", "head[0,1]"], np.zeros((2, 7), int)).items()}
    {'resid[4]': (2, 7, 128), 'head[0,1]': (2, 7, 32)}
    """
    check_ids(model, ids)
    wanted = list(dict.fromkeys(model.graph.node(node) for node in several("nodes", nodes)))
    stops = _stops(model, wanted, ids.shape[1])
    keep = 0 if any(node.family == "logits" for node in wanted) else 1
    got = _trace(model, stops, ids, lambda _, raw: (None, raw.detach().clone()), keep)
    values: dict[Node, list[Tensor]] = {node: [] for node in wanted}
    for stop, value in zip(stops, got, strict=True):
        for node in stop.nodes:
            values[node].append(term_values(model.saes, node, own_value(value, stop.place, node)))
    return {node: torch.cat(parts, 1) for node, parts in values.items()}


def spliced(
    model: Model, ids: NDArray[np.int64], changes: Mapping[Node, Change] | Mapping[str, Change], where: NDArray[np.bool_]
) -> Tensor:
    """Logits [row, position, vocabulary] of a run in which each node's value is replaced by what its change returns.

    A change is given [row, position, ...] (a state: one position at a time, so it must not mix positions) and returns the same
    shape; what it returns is used where ``where`` [row, position] says so. Raises as ``read``, and CircuitryError for the logits.

    >>> import circuitry as ct
    >>> model, ids = ct.load("bundled:mamba"), np.arange(12).reshape(2, 6)
    >>> same = spliced(model, ids, {"resid[2]": lambda x: x}, ids >= 0)
    >>> bool((same == spliced(model, ids, {}, ids >= 0)).all()), tuple(same.shape)
    (True, (2, 6, 2048))
    """
    check_ids(model, ids)
    named = {model.graph.node(node): change for node, change in changes.items()}
    if terms := [str(node) for node in named if node.term is not None]:
        raise CircuitryError(f"{terms[0]} is a term of a node; replace the node, or patch the term with ct.patch")
    if any(model.graph.family(node.family).role == "logits" for node in named):
        raise CircuitryError(
            "nothing comes after the logits, so replacing them changes nothing else; change the returned tensor instead"
        )
    output = _Stop(model.graph.place(Node(model.graph.by_role("logits")[0].name)), 0, ())
    stops = [*_stops(model, named, ids.shape[1]), output]
    chosen = torch.from_numpy(where).to(model.device)

    def replaced(stop: _Stop, raw: Tensor) -> tuple[Tensor | None, Tensor]:
        if stop is output:
            return None, raw
        changed = raw.clone()
        for node in stop.nodes:
            value = own_value(changed, stop.place, node)
            at = chosen if stop.place.position is not None else chosen[:, stop.occurrence, None]
            new = named[node](value.clone())
            if new.shape != value.shape:
                raise CircuitryError(f"the change of {node} returned shape {tuple(new.shape)}, expected {tuple(value.shape)}")
            value[at] = new.to(value)[at]  # a view of ``changed``
        return changed, raw.new_empty(0)

    return _trace(model, stops, ids, replaced, keep=0)[-1]


def _trace(model: Model, stops: list[_Stop], ids: NDArray[np.int64], act: Act, keep: int) -> list[Tensor]:
    """Run the model once, act at every stop; of the logits there are the last ``keep`` (0: all)."""
    recurrent = any(stop.place.position is None for stop in stops)
    inputs = torch.from_numpy(np.ascontiguousarray(ids, np.int64))
    calls = [(stop.place, stop.occurrence) for stop in stops]
    states = tuple(range(ids.shape[1])) if recurrent else ()
    return traced(model, inputs, calls, lambda number, value: act(stops[number], value), states=states, keep=keep)


def _stops(model: Model, nodes: Iterable[Node], length: int) -> list[_Stop]:
    """The places of nodes, in the order in which the model gets there; a state's once a position."""
    by_place: dict[Place, list[Node]] = {}
    for node in nodes:
        by_place.setdefault(model.graph.place(node), []).append(node)
    order = execution_order(model)
    calls = {place: length if place.position is None else 1 for place in by_place}
    stops = [_Stop(place, call, tuple(members)) for place, members in by_place.items() for call in range(calls[place])]
    return sorted(stops, key=lambda stop: turn(stop.place, stop.occurrence, order))
