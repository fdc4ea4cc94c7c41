"""Runs one scheduled batch in one nnsight trace: visits places in execution order, copies rows, reads the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...architecture.families import Place
from ...architecture.graph import Graph
from ...models.model import Model
from ...models.packed import Ints
from ...models.reading import own_value
from ...paths.values import Site
from ...planning.positions import absolute
from ...planning.values import Write
from ...prompting.prompts import Prompts
from ..copies import ALL, Call, Copy
from ..terms import Spots, make_copies, term_values, write_terms
from ..trace import Visit, traced, visits
from .schedule import Schedule


def run(model: Model, schedule: Schedule, prompts: Prompts, constants: Mapping[Write, Tensor] | None = None) -> list[Tensor]:
    """Run a batch and return, for each site the last leg reads, its value in every row.

    A site read at one position gives [row, ...], without that dimension; one read at every position gives all of it.
    Raises GuardError if a place was never reached.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> from circuitry.executing.rows.schedule import schedule
    >>> [tuple(value.shape) for value in run(model, schedule(plan, plan.cells, prompts), prompts)]
    [(6, 2048)]
    """
    ids = np.where(schedule.corrupted[:, None], prompts.corrupted[schedule.example], prompts.clean[schedule.example])
    stops = _stops(model.graph, schedule, prompts)
    kept, columns = _logits(schedule, prompts)
    every = _visits(model, schedule, stops)
    inputs = torch.from_numpy(ids)
    keep, within = torch.tensor(kept, device=model.device), _only(model, columns)

    def act(number: int, value: Tensor) -> tuple[Tensor | None, Tensor]:
        return _visit(model, every[number], value, constants or {})

    stops_of = [(visit.call[0], visit.occurrence) for visit in every]
    got = traced(model, inputs, stops_of, act, states=stops, keep=keep, within=within)
    values = {
        (visit.call[0], visit.occurrence, before): value
        for visit, kept in zip(every, got, strict=True)
        for (_, before), value in visit.taken(kept).items()
    }
    return [_at_site(site, model, values, schedule, prompts, stops, columns is None) for site in schedule.reading.sites]


def _visit(model: Model, visit: Visit, value: Tensor, constants: Mapping[Write, Tensor]) -> tuple[Tensor | None, Tensor]:
    """What to write at a place (None if nothing is copied there), and what to keep of it."""
    changed = value.clone() if visit.copies else None
    result = value if changed is None else changed

    def terms(some: Sequence[Copy]) -> None:
        view, before = (_columns(values, visit.call[0]) for values in (result, value))
        write_terms(model.saes, view, before, [_spots(copy, visit, view.shape[1]) for copy in some], constants)

    make_copies(visit.copies, lambda copy: _apply(copy, result, visit, constants), terms)
    return changed, visit.kept(value, result)


def _moved(value: Tensor, place: Place) -> Tensor:
    """A view with position and head, where a place has them, in dimensions 1 and 2."""
    front = tuple(d for d in (place.position, place.unit) if d is not None)
    return value.movedim(front, tuple(range(1, 1 + len(front))))


def _columns(value: Tensor, place: Place) -> Tensor:
    """The same view, where a state has one position."""
    moved = _moved(value, place)
    return moved.unsqueeze(1) if place.position is None else moved


def _spots(copy: Copy, visit: Visit, length: int) -> Spots:
    """The rows and positions of a term's copy, one by one."""
    if visit.call[0].position is None or (copy.position == ALL).all():
        number, column = np.repeat(np.arange(len(copy.to)), length), np.tile(np.arange(length), len(copy.to))
    else:
        number, column = np.arange(len(copy.to)), copy.position
    position = column if visit.call[0].position is not None else np.full(len(column), visit.occurrence)
    return Spots(copy, copy.to[number], column, copy.source[number], position)


def _apply(copy: Copy, value: Tensor, visit: Visit, constants: Mapping[Write, Tensor]) -> None:
    """Copy rows within a value. Position and head are moved to dimensions 1 and 2, where both are indexed."""
    place = visit.call[0]
    moved = _moved(value, place)
    where: tuple[Any, ...] = () if place.position is None else (_index(copy.position),)
    where += () if place.unit is None else (_index(copy.unit),)
    while where and isinstance(where[-1], slice):
        where = where[:-1]
    if copy.value is None:
        moved[(_index(copy.to), *where)] = moved[(torch.from_numpy(copy.source), *where)]
    else:
        constant = constants[copy.value]
        if place.position is None and copy.value.at is None and constant.dim():
            constant = constant[visit.occurrence]  # a state is visited once per position, and this one is written at all of them
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


def _logits(schedule: Schedule, prompts: Prompts) -> tuple[list[int], Ints | None]:
    """The positions that go through the output layer, and which of these each row reads, [row, site]; None for all of them.

    A whole vocabulary at every token, or at every END of a batch, would be the largest tensor by far.
    """
    sites = _logit_sites(schedule)
    if any(site.at is None for site in sites):
        return list(range(prompts.length)), None
    if not sites:
        return [prompts.length - 1], None
    at = np.stack([np.broadcast_to(absolute(site.at, prompts.where), len(prompts)) for site in sites if site.at], 1)
    kept = np.unique(at)
    return kept.tolist(), np.searchsorted(kept, at)[schedule.example]


def _logit_sites(schedule: Schedule) -> list[Site]:
    return [site for site in schedule.reading.sites if site.node.family == "logits"]


@contextmanager
def _only(model: Model, columns: Ints | None) -> Iterator[None]:
    """Within this context the output layer computes the logits of these positions only, [row, n] among those that it gets."""
    layer = model.hf.get_output_embeddings()
    layer.circuitry_positions = None if columns is None else torch.from_numpy(columns).to(model.device)
    try:
        yield
    finally:
        layer.circuitry_positions = None


def _visits(model: Model, schedule: Schedule, stops: tuple[int, ...]) -> list[Visit]:
    """Everything to do, in order of execution."""
    reads: list[tuple[Call, bool]] = []
    for site in schedule.reading.sites:
        place, before = model.graph.place(site.node), site.node.term is not None
        reads += [((place, None), before)] if place.position is not None else [((place, stop), before) for stop in stops]
    return visits(model, schedule.copies, reads, lambda call: 0 if call[1] is None else stops.index(call[1]))


def _at_site(
    site: Site,
    model: Model,
    values: Mapping[tuple[Place, int, bool], Tensor],
    schedule: Schedule,
    prompts: Prompts,
    stops: tuple[int, ...],
    every_logit: bool,
) -> Tensor:
    """The value of one site in every row, at its position. ``every_logit``: logits were computed at all positions."""
    place, node = model.graph.place(site.node), site.node
    before = node.term is not None
    rows = torch.arange(len(schedule.example))
    at = None if site.at is None else np.broadcast_to(absolute(site.at, prompts.where), len(prompts))
    if node.family == "logits":
        value = values[place, 0, before]
        if not every_logit:
            return value[:, _logit_sites(schedule).index(site)]
        return value if at is None else value[rows, torch.from_numpy(np.ascontiguousarray(at[schedule.example]))]
    if place.position is None:
        value = torch.cat([own_value(values[place, k, before], place, node) for k in range(len(stops))], 1)
        at = None if at is None else np.searchsorted(stops, at)
    else:
        value = own_value(values[place, 0, before], place, node)
    if at is None:
        return term_values(model.saes, node, value)
    chosen = value[rows, torch.from_numpy(np.ascontiguousarray(at[schedule.example]))]
    return term_values(model.saes, node, chosen[:, None])[:, 0]
