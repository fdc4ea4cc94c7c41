"""Runs one laid-out batch in one nnsight trace over the model, whose layers are given packed tokens in place of whole rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...architecture.families import Place
from ...architecture.graph import Graph
from ...models.gates import PACKED, Wanted
from ...models.model import Model
from ...models.packed import Inside, Ints, Tokens
from ...paths.values import Node
from ...planning.regions import Region
from ...planning.values import Write
from ..copies import ALL, Call, Copy
from ..terms import Spots, make_copies, write_terms
from ..trace import Visit, traced, visits
from .layout import Layout

Values = Mapping[tuple[Call, bool], Tensor]


def run(model: Model, layout: Layout, constants: Mapping[Write, Tensor], columns: Tensor | None = None) -> Values:
    """Run a batch and return the value at each place that is read, by its call and whether it is that before copies are made there:
    [token, ...], or of a state [row, ...].

    ``columns`` [example, n] are the numbers of the logits that are wanted of each example, None for all of them. Raises GuardError where a
    place was never reached.
    """
    runs, prompts = layout.runs, layout.runs.prompts
    swapped = runs.plan.base == "corrupted"
    source = (layout.batch >= runs.count) & (layout.batch < 2 * runs.count)
    example = runs.base[layout.batch] % runs.count
    ids = np.where((source ^ swapped)[:, None], prompts.corrupted[example], prompts.clean[example])[:, : layout.length]
    ids = np.concatenate([ids, np.repeat(ids[:1], layout.filling, 0)])
    every = _visits(model, layout)

    def act(number: int, value: Tensor) -> tuple[Tensor | None, Tensor]:
        return _visit(model, every[number], value, constants)

    stops = [(visit.call[0], visit.occurrence) for visit in every]
    inputs = torch.from_numpy(np.ascontiguousarray(ids))
    got = traced(model, inputs, stops, act, within=packed(model, layout, columns))
    return {name: value for visit, kept in zip(every, got, strict=True) for name, value in visit.taken(kept).items()}


@contextmanager
def packed(model: Model, layout: Layout, columns: Tensor | None) -> Iterator[None]:
    """Within this context, every layer gets the tokens of its region, every block those that it computes, the output layer columns."""
    regions, graph = layout.runs.lives.regions, model.graph
    tokens = layout.tokens
    beside = any(node not in graph.stream for family in graph.by_role("embed") for node in graph.nx.successors(Node(family.name)))
    nothing, size = _none_of(layout), (len(layout.batch) + layout.filling) * layout.length
    with ExitStack() as stack:
        before = tokens[Region(-1)]
        for number, name in enumerate([*regions.layers, _final_norm(graph)]):
            current = tokens.get(Region(number), nothing)
            came = layout.runs.came(current.row, number)
            if number == len(regions.layers):
                take: Tensor | None = _padded(current, came, before, size)
            else:
                # The first layer is given the embedding's rows, filling included, every other one the tokens of the one before.
                take = _take(current, came, before, len(before) if number else size)
            embedded = _embedded(layout, current) if beside else None
            hook = _taking(take, embedded)
            stack.callback(model.hf.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True).remove)
            before = current
        for block, node in regions.blocks.items():
            around = tokens.get(Region(regions.of(node).layer), nothing)
            inside = _inside(layout, block, around, tokens.get(Region(regions.of(node).layer, block), nothing))
            _set(stack, model.hf.get_submodule(block), PACKED, inside)
        example = before.index(layout.runs.base[before.row] % layout.runs.count)
        _set(stack, model.hf.get_output_embeddings(), PACKED, Wanted(len(before), None if columns is None else columns[example]))
        yield


def _none_of(layout: Layout) -> Tokens:
    none = np.zeros(0, np.int64)
    embedded = layout.tokens[Region(-1)]
    return Tokens(none, none, embedded.base, embedded.whole, embedded.length, embedded.device)


def _set(stack: ExitStack, module: Any, name: str, value: Any) -> None:
    setattr(module, name, value)
    stack.callback(setattr, module, name, None)


def _final_norm(graph: Graph) -> str:
    return graph.place(Node(graph.by_role("resid")[0].name, (graph.sizes["layer"],))).module


def _take(current: Tokens, came: Ints, before: Tokens, count: int) -> Tensor | None:
    """The places of a region's tokens among those of the region before, in the rows ``came`` [token].

    None if both regions have the same tokens, and the layer is given exactly that ``count``.
    """
    if (
        len(current) == len(before) == count
        and np.array_equal(current.row, before.row)
        and np.array_equal(current.position, before.position)
    ):
        return None
    return current.index(before.of(came, current.position))


def _padded(current: Tokens, came: Ints, before: Tokens, size: int) -> Tensor:
    """The same after the last layer, filled up to the size of the model's batch, since some models reshape the stream to it."""
    take = before.of(came, current.position)
    return current.index(np.concatenate([take, np.repeat(take[:1], size - len(take))]))


def _embedded(layout: Layout, current: Tokens) -> Tensor:
    """For each token of a region, the place of its embedding: in its own row, in the row that it was cut from, or in its base row."""
    embedded, rows, origin = layout.tokens[Region(-1)], current.row, layout.runs.origin
    while True:
        further = np.where(embedded.own(rows, current.position) >= 0, rows, origin[rows])
        if np.array_equal(further, rows):
            return current.index(embedded.of(rows, current.position))
        rows = further


def _taking(take: Tensor | None, embedded: Tensor | None = None) -> Callable[..., Any]:
    """A hook before a layer: of the stream [row, position, ...] the tokens it is to have, and their embeddings, if layers get these
    beside the stream."""

    def hook(_: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        name = None if args else next(iter(options))
        x = args[0] if name is None else options[name]
        x = x.flatten(0, 1)[None] if len(x) > 1 else x
        x = x if take is None else x[:, take]
        others = [_tokens_of(value, embedded) for value in args[1:]]
        return ((x, *others), options) if name is None else (args, {**options, name: x})

    return hook


def _tokens_of(value: Any, tokens: Tensor | None) -> Any:
    """Of an argument like the stream [row, position, d_model] some tokens; any other as it is."""
    alike = tokens is not None and isinstance(value, Tensor) and value.dim() == 3
    return value.flatten(0, 1)[None, tokens] if alike else value


def _inside(layout: Layout, block: str, around: Tokens, inner: Tokens) -> Inside:
    """The way into a block and out of it."""
    runs = layout.runs
    live = around.own(inner.row, inner.position)
    out = inner.of(around.row, around.position)
    same = len(inner) == len(around)
    batch_of = np.zeros(len(runs.base), np.int64)
    batch_of[: 2 * runs.count] = np.arange(2 * runs.count)
    row = np.where(inner.row < 2 * runs.count, inner.row, runs.base[inner.row])
    return Inside(
        inner,
        None if same else inner.index(live),
        None if same else inner.index(out),
        inner.index(batch_of[row]),
        layout.scanned.get(block),
    )


def _visit(model: Model, visit: Visit, value: Tensor, constants: Mapping[Write, Tensor]) -> tuple[Tensor | None, Tensor]:
    """What to write at a place (None if nothing is copied there), and what to keep of it, by token."""
    place = visit.call[0]
    changed = value.clone() if visit.copies else None
    view, before = (_by_token(_packed(of, place), place) for of in (value if changed is None else changed, value))

    def terms(some: Sequence[Copy]) -> None:
        write_terms(model.saes, view.unsqueeze(1), before.unsqueeze(1), [_spots(copy) for copy in some], constants)

    make_copies(visit.copies, lambda copy: _apply(copy, view, visit, constants), terms)
    return changed, visit.kept(before, view)


def _spots(copy: Copy) -> Spots:
    """The tokens of a term's copy. Packed tokens have one column."""
    return Spots(copy, copy.to, np.zeros(len(copy.to), np.int64), copy.source, copy.position)


def _packed(value: Tensor, place: Place) -> Tensor:
    """A value as packed tokens: before the layers it still has rows."""
    return value if place.position is None or len(value) == 1 else value.view(1, -1, *value.shape[2:])


def _by_token(value: Tensor, place: Place) -> Tensor:
    """A view with tokens (of a state: rows) first and heads second."""
    if place.position is None:
        return value if place.unit is None else value.movedim(place.unit, 1)
    value = value[0]
    front = [place.position - 1] + ([] if place.unit is None else [place.unit - 1])
    return value.movedim(front, list(range(len(front))))


def _apply(copy: Copy, value: Tensor, visit: Visit, constants: Mapping[Write, Tensor]) -> None:
    to = torch.from_numpy(copy.to).to(value.device)
    unit = () if (copy.unit == ALL).all() else (torch.from_numpy(copy.unit).to(value.device),)
    if copy.value is None:
        value[(to, *unit)] = value[(torch.from_numpy(copy.source).to(value.device), *unit)]
        return
    constant = constants[copy.value]
    if copy.value.at is None and constant.dim():
        constant = constant[torch.from_numpy(copy.position).to(constant.device)]
    if constant.dim() and value.dim() > 1 + len(unit):
        constant = constant[..., : value.shape[-1]]  # of a pattern: no more tokens than the batch has
    value[(to, *unit)] = constant.to(value)


def _visits(model: Model, layout: Layout) -> list[Visit]:
    """Everything to do, in order of execution."""
    reads = [read.key for reading in layout.readings for read in reading.reads]
    return visits(model, layout.copies, reads, lambda call: _occurrence(layout, call))


def _occurrence(layout: Layout, call: Call) -> int:
    place, position = call
    if position is None:
        return 0
    block = layout.runs.lives.regions.at(place).block
    return layout.scanned[block].calls.index(position)
