"""Runs one scheduled batch in one nnsight trace: visits places in execution order, copies rows, reads the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nnsight
import numpy as np
import torch
from torch import Tensor

from ...architecture import Graph, Place
from ...errors import GuardError
from ...models import Model
from ...paths import Node, Site
from ...planning import absolute
from ...planning.plan import Write
from ...prompting import Prompts
from ..places import alone, execution_order, play, turn
from .schedule import ALL, Copy, Schedule, joined


@dataclass(frozen=True)
class _Visit:
    """One stop of the trace: a place, which of its calls, the copies to make there and whether its value is read."""

    place: Place
    occurrence: int
    copies: tuple[Copy, ...]
    read: bool


def run(model: Model, schedule: Schedule, prompts: Prompts, constants: Mapping[Write, Tensor] | None = None) -> list[Tensor]:
    """Run a batch and return, for each site the last leg reads, its value in every row.

    A site read at one position gives [row, ...], without that dimension; one read at every position gives all of it.
    Raises GuardError where a place was never reached.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> from circuitry.executing.rows.schedule import schedule
    >>> [tuple(value.shape) for value in run(model, schedule(made, made.cells, prompts), prompts)]
    [(6, 2048)]
    """
    ids = np.where(schedule.corrupted[:, None], prompts.corrupted[schedule.example], prompts.clean[schedule.example])
    stops = _stops(model.graph, schedule, prompts)
    kept = sorted({p for site in schedule.reading.sites for p in _kept(site, prompts)}) or [prompts.length - 1]
    visits = _visits(model, schedule, prompts, stops)
    inputs = torch.from_numpy(ids).to(model.device)
    keep = torch.tensor(kept, device=model.device)
    stops_of = [(visit.place, visit.occurrence) for visit in visits]

    def act(number: int, value: Tensor) -> tuple[Tensor | None, Tensor]:
        return _visit(visits[number], value, constants or {})

    got: dict[int, Tensor] | None = None
    with alone(model, stops):  # noqa: SIM117 (nnsight reads the inner statement from source)
        # The body of a trace is compiled from source, so it only calls an ordinary function.
        with model.net.trace(inputs, use_cache=False, logits_to_keep=keep) as tracer:
            got = nnsight.save(play(model.net, tracer, stops_of, act))
    if got is None or len(got) != len(visits):
        raise GuardError(f"only {0 if got is None else len(got)} of {len(visits)} places were reached; no result is reported")
    values = {(v.place, v.occurrence): got[k] for k, v in enumerate(visits) if v.read}
    return [_at_site(site, model.graph, values, schedule, prompts, stops, kept) for site in schedule.reading.sites]


def _visit(visit: _Visit, value: Tensor, constants: Mapping[Write, Tensor]) -> tuple[Tensor | None, Tensor]:
    """What to write at a place, None where nothing is copied there, and what to keep of it."""
    changed = value.clone() if visit.copies else None
    kept = value if changed is None else changed
    for copy in visit.copies:
        _apply(copy, kept, visit, constants)
    return changed, kept.detach().clone() if visit.read else value.new_empty(0)


def _apply(copy: Copy, value: Tensor, visit: _Visit, constants: Mapping[Write, Tensor]) -> None:
    """Copy rows within a value. Position and head are moved to dimensions 1 and 2, where both are indexed."""
    place = visit.place
    front = tuple(d for d in (place.position, place.unit) if d is not None)
    moved = value.movedim(front, tuple(range(1, 1 + len(front))))
    where: tuple[Any, ...] = () if place.position is None else (_index(copy.position),)
    where += () if place.unit is None else (_index(copy.unit),)
    while where and isinstance(where[-1], slice):
        where = where[:-1]
    if copy.value is None:
        moved[(_index(copy.to), *where)] = moved[(torch.from_numpy(copy.source), *where)]
    else:
        constant = constants[copy.value]
        if place.position is None and copy.value.at is None and constant.dim():
            constant = constant[visit.occurrence]  # a state comes by once a position, and this one is written at all of them
        moved[(_index(copy.to), *where)] = constant.to(moved)


def _index(numbers: Any) -> Any:
    """An index tensor, or everything."""
    return slice(None) if len(numbers) and (numbers == ALL).all() else torch.from_numpy(np.ascontiguousarray(numbers))


def _stops(graph: Graph, schedule: Schedule, prompts: Prompts) -> tuple[int, ...]:
    """Positions at which states are called: those written, and those read."""
    stops = {stop for _, stop in schedule.copies if stop is not None}
    for site in schedule.reading.sites:
        if graph.place(site.node).position is None:
            stops |= set(range(prompts.length)) if site.at is None else set(absolute(site.at, prompts.where))
    return tuple(sorted(stops))


def _kept(site: Site, prompts: Prompts) -> list[int]:
    """Positions whose logits are computed at all: a whole vocabulary at every token would be the largest tensor by far."""
    if site.node.family != "logits":
        return []
    return absolute(site.at, prompts.where) if site.at is not None else list(range(prompts.length))


def _visits(model: Model, schedule: Schedule, prompts: Prompts, stops: tuple[int, ...]) -> list[_Visit]:
    """Everything to do, in the order in which the model gets there."""
    wanted = {key: tuple(joined(copies)) for key, copies in schedule.copies.items()}
    reads: set[tuple[Place, int | None]] = set()
    for site in schedule.reading.sites:
        place = model.graph.place(site.node)
        at = [None] if place.position is not None else stops
        reads |= {(place, stop) for stop in at}
    order = execution_order(model)
    made = [
        _Visit(place, stops.index(stop) if stop is not None else 0, wanted.get((place, stop), ()), (place, stop) in reads)
        for place, stop in wanted.keys() | reads
    ]
    return sorted(made, key=lambda v: turn(v.place, v.occurrence, order))


def _at_site(
    site: Site,
    graph: Graph,
    values: Mapping[tuple[Place, int], Tensor],
    schedule: Schedule,
    prompts: Prompts,
    stops: tuple[int, ...],
    kept: list[int],
) -> Tensor:
    """The value of one site in every row, at its position."""
    place, node = graph.place(site.node), site.node
    rows = torch.arange(len(schedule.example))
    at = None if site.at is None else np.broadcast_to(absolute(site.at, prompts.where), len(prompts))
    if node.family == "logits":
        if at is None:
            return values[place, 0]
        column = np.searchsorted(kept, at)[schedule.example]
        return values[place, 0][rows, torch.from_numpy(column)]
    if place.position is None:
        every = torch.stack([_unit(values[place, k], place, node) for k in range(len(stops))], 1)
        if at is None:
            return every
        return every[rows, torch.from_numpy(np.searchsorted(stops, at)[schedule.example])]
    value = _unit(values[place, 0], place, node)
    value = value.movedim(place.position - (place.unit is not None and place.unit < place.position), 1)
    return value if at is None else value[rows, torch.from_numpy(np.ascontiguousarray(at[schedule.example]))]


def _unit(value: Tensor, place: Place, node: Node) -> Tensor:
    return value if place.unit is None else value.select(place.unit, int(node.indices[-1]))  # type: ignore[arg-type]
