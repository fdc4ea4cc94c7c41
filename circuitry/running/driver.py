"""Runs one scheduled batch in one nnsight trace: visits places in execution order, copies rows, reads the result."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import nnsight
import numpy as np
import torch
from nnsight.intervention.interleaver import OutOfOrderError
from torch import Tensor

from ..architecture import Graph, Place
from ..errors import GuardError
from ..models import Model
from ..paths import Node, Site
from ..planning import absolute
from ..planning.plan import Write
from ..planning.schedule import ALL, Copy, Schedule, joined
from ..prompting import Prompts

_LOCK = threading.Lock()
_ORDERS: weakref.WeakKeyDictionary[Model, dict[tuple[str, str], int]] = weakref.WeakKeyDictionary()


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
    >>> from circuitry.planning.schedule import schedule
    >>> [tuple(value.shape) for value in run(model, schedule(made, made.cells, prompts), prompts)]
    [(6, 2048)]
    """
    ids = np.where(schedule.corrupted[:, None], prompts.corrupted[schedule.example], prompts.clean[schedule.example])
    stops = _stops(model.graph, schedule, prompts)
    kept = sorted({p for site in schedule.reading.sites for p in _kept(site, prompts)}) or [prompts.length - 1]
    visits = _visits(model, schedule, prompts, stops)
    inputs = torch.from_numpy(ids).to(model.device)
    keep = torch.tensor(kept, device=model.device)
    got: dict[int, Tensor] | None = None
    with alone(model, stops):  # noqa: SIM117 (nnsight reads the inner statement from source)
        # The body of a trace is compiled from source, so it only calls an ordinary function.
        with model.net.trace(inputs, use_cache=False, logits_to_keep=keep) as tracer:
            got = nnsight.save(_play(model.net, tracer, visits, constants or {}))
    if got is None or len(got) != len(visits):
        raise GuardError(f"only {0 if got is None else len(got)} of {len(visits)} places were reached; no result is reported")
    values = {(v.place, v.occurrence): got[k] for k, v in enumerate(visits) if v.read}
    return [_at_site(site, model.graph, values, schedule, prompts, stops, kept) for site in schedule.reading.sites]


@contextmanager
def alone(model: Model, stops: tuple[int, ...]) -> Iterator[None]:
    """Around a trace: no other one runs, no gradients are kept, and recurrent layers stop at these positions.

    nnsight allows one trace at a time. Raises GuardError where the trace waited for a place that was never reached.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> with alone(model, (3,)):
    ...     print(model.mixers[0].circuitry.stops)
    (3,)
    """
    with _LOCK, torch.no_grad():
        for mixer in model.mixers:
            mixer.circuitry.stops = stops
        try:
            yield
        except OutOfOrderError as error:
            raise GuardError(f"a place was never reached ({error}); no result is reported") from error
        finally:
            for mixer in model.mixers:
                mixer.circuitry.stops = ()


def _play(net: Any, tracer: Any, visits: list[_Visit], constants: Mapping[Write, Tensor]) -> dict[int, Tensor]:
    """Inside the trace: visit by visit, in execution order. A place not reached ends the loop; the caller counts."""
    got: dict[int, Tensor] = {}
    for number, visit in enumerate(visits):
        for _ in tracer.iter[visit.occurrence]:
            got[number] = _visit(net, tracer, visit, constants)
    return got


def _visit(net: Any, tracer: Any, visit: _Visit, constants: Mapping[Write, Tensor]) -> Tensor:
    raw = raw_value(net, tracer, visit.place)
    value = tensor_of(raw)
    if visit.copies:
        changed = value.clone()
        for copy in visit.copies:
            _apply(copy, changed, visit, constants)
        write(net, visit.place, raw, changed)
        value = changed
    return value.detach().clone() if visit.read else value.new_empty(0)


def raw_value(net: Any, tracer: Any, place: Place) -> Any:
    """Inside a trace: what a module is given or returns; of the model itself, what comes out at the very end.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> with model.net.trace(torch.zeros(1, 2, dtype=int), use_cache=False) as tracer:
    ...     block = nnsight.save(raw_value(model.net, tracer, Place("backbone.layers.0")))
    ...     logits = nnsight.save(tensor_of(raw_value(model.net, tracer, Place(""))))
    >>> tuple(block.shape), tuple(logits.shape)
    ((1, 2, 128), (1, 2, 2048))
    """
    return getattr(net.get(place.module), place.io) if place.module else tracer.result


def tensor_of(raw: Any) -> Tensor:
    """The tensor that counts in what a module returns: a model's logits, the first of several, or what is there.

    >>> tensor_of((torch.ones(2), None))
    tensor([1., 1.])
    """
    value: Tensor = raw.logits if hasattr(raw, "logits") else raw[0] if isinstance(raw, tuple | list) else raw
    return value


def write(net: Any, place: Place, raw: Any, changed: Tensor) -> None:
    """Inside a trace: put ``changed`` in the place of what was there, ``raw``.

    >>> import circuitry as ct
    >>> model, place = ct.load("bundled:mamba"), Place("backbone.norm_f")
    >>> with model.net.trace(torch.zeros(1, 2, dtype=int), use_cache=False) as tracer:
    ...     raw = raw_value(model.net, tracer, place)
    ...     write(model.net, place, raw, torch.zeros_like(raw))
    ...     logits = nnsight.save(tracer.result.logits)
    >>> bool((logits == 0).all())
    True
    """
    if place.io == "input":
        tensor_of(raw).copy_(changed)  # in place, since the stream that goes around a norm is the tensor that goes into it
    else:
        net.get(place.module).output = type(raw)((changed, *raw[1:])) if isinstance(raw, tuple | list) else changed


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


def turn(place: Place, occurrence: int, order: Mapping[tuple[str, str], int]) -> tuple[int, int, int]:
    """What to sort by, to visit places in execution order. State taps take turns, one round a stop; all else is called once.

    >>> turn(Place("h.0", "input"), 0, {("h.0", "input"): 3})
    (3, 0, 0)
    """
    own = order[place.module, place.io]
    if place.position is not None:
        return own, 0, 0
    taps = place.module.rsplit(".", 1)[0]
    return order[f"{taps}.state", "output"], occurrence, own


def execution_order(model: Model) -> dict[tuple[str, str], int]:
    """When each module's input and output come by in a forward pass, found by running one.

    >>> import circuitry as ct
    >>> order = execution_order(ct.load("bundled:mamba"))
    >>> order["backbone.layers.0", "input"] < order["lm_head", "output"] < order["", "output"]
    True
    """
    if model in _ORDERS:
        return _ORDERS[model]
    order: dict[tuple[str, str], int] = {}
    hooks: list[Any] = []

    def note(name: str, io: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            order.setdefault((name, io), len(order))

        return hook

    for name, module in model.hf.named_modules():
        hooks.append(module.register_forward_pre_hook(note(name, "input")))
        hooks.append(module.register_forward_hook(note(name, "output")))
    for mixer in model.mixers:
        mixer.circuitry.stops = (0,)
    try:
        with torch.no_grad():
            model.hf(torch.zeros(1, 2, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
        for mixer in model.mixers:
            mixer.circuitry.stops = ()
    _ORDERS[model] = order
    return order


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
