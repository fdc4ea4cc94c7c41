"""Runs of a model with plain PyTorch hooks, and from these a slow reference of what discovery computes in one batch.

It shares no code with ``circuitry.discovery`` and the executors. From a graph it takes where the values of nodes are found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

Values: TypeAlias = "dict[Any, Tensor]"
Write: TypeAlias = Callable[[Tensor, int], Tensor]
"""From a node's value [row, pos, ...], which of a state is that of one token, and the number of the call, to another value."""


def run(model: Any, ids: Tensor, read: Iterable[Any] = (), write: Mapping[Any, Write] | None = None) -> tuple[Tensor, Values]:
    """The logits [row, pos, vocabulary], and the values [row, pos, ...] of nodes, after what was written."""
    write = write or {}
    read = list(read)
    found: dict[Any, list[Tensor]] = {node: [] for node in read}
    places: dict[Any, list[Any]] = {}
    for node in dict.fromkeys([*read, *write]):
        places.setdefault(model.graph.place(node), []).append(node)
    recurrent = any(place.position is None for place in places)
    for mixer in model.mixers:
        mixer.circuitry.stops = tuple(range(ids.shape[1])) if recurrent else ()
    hooks = [_hook(model, place, nodes, found, write) for place, nodes in places.items()]
    try:
        with torch.no_grad():
            logits = model.hf(ids, use_cache=False).logits
    finally:
        for hook in hooks:
            hook.remove()
        for mixer in model.mixers:
            mixer.circuitry.stops = ()
    return logits, {node: torch.cat(parts, 1) for node, parts in found.items()}


def _hook(model: Any, place: Any, nodes: list[Any], found: dict[Any, list[Tensor]], write: Mapping[Any, Write]) -> Any:
    calls = [0]

    def changed(value: Tensor) -> Tensor:
        value = value.clone()
        for node in nodes:
            own = _part(value, place, node)
            if node in write:
                own.copy_(write[node](own.clone(), calls[0]))
            if node in found:
                found[node].append(own.clone())
        calls[0] += 1
        return value

    def after(module: Any, args: Any, output: Any) -> Any:
        return (changed(output[0]), *output[1:]) if isinstance(output, tuple) else changed(output)

    def before(module: Any, args: Any, kwargs: Any) -> Any:
        if args:
            return (changed(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": changed(kwargs["hidden_states"])}

    module = model.hf.get_submodule(place.module)
    if place.io == "input":
        return module.register_forward_pre_hook(before, with_kwargs=True)
    return module.register_forward_hook(after)


def _part(value: Tensor, place: Any, node: Any) -> Tensor:
    """A node's part of what its module holds, as a view [row, pos, ...]."""
    names = [f"d{k}" for k in range(value.dim())]
    if place.unit is not None:
        value = value.select(place.unit, node.indices[-1])
        del names[place.unit]
    if place.position is None:
        return value[:, None]
    at = names.index(f"d{place.position}")
    return value.permute(0, at, *(k for k in range(1, value.dim()) if k != at))


def put(value: Tensor) -> Write:
    """Write this value [row, pos, ...]."""
    return lambda own, call: value if own.shape == value.shape else value[:, call : call + 1]


def added(value: Tensor) -> Write:
    """Add this value [row, pos, ...] to what is there."""
    return lambda own, call: own + (value if own.shape == value.shape else value[:, call : call + 1])


def mixed(value: Tensor, keep: Tensor, first: Tensor | None = None) -> Write:
    """Write ``value`` at the tokens that are not kept [row, pos]; at the others ``first``, or leave what is there."""

    def write(own: Tensor, call: int) -> Tensor:
        there, kept = (value, keep) if own.shape == value.shape else (value[:, call : call + 1], keep[:, call : call + 1])
        start = own if first is None else first if own.shape == first.shape else first[:, call : call + 1]
        return torch.where(kept.reshape(*kept.shape, *[1] * (own.dim() - 2)), start, there)

    return write


class Circuits:
    """The run of one circuit after another: each reader is computed alone, from the sum of what reaches it."""

    def __init__(self, model: Any, wiring: Any, clean: Tensor, corrupted: Tensor) -> None:
        self.model, self.wiring, self.ids = model, wiring, corrupted
        graph = model.graph
        self.embed = next(node for node in wiring.senders if graph.family(node.family).role == "embed")
        self.logits = next(node for node in wiring.readers if graph.family(node.family).role == "logits")
        self.stages = wiring.stages
        inner = [each.source for each in wiring.inner]
        read = {*self.stages, *wiring.senders, *wiring.readers, *inner, *graph.adding} - {self.logits}
        _, self.base = run(model, corrupted, read)
        _, ends = run(model, clean, [self.embed, self.stages[0]])
        self.first = ends[self.stages[0]] - self.base[self.stages[0]]
        held = {node: put(self.base[node]) for node in graph.adding}
        _, later = run(model, corrupted, [self.stages[1]], held | {self.embed: put(ends[self.embed])})
        self.embedded = later[self.stages[1]] - self.base[self.stages[1]]

    def logits_of(self, kept: Mapping[Any, Tensor]) -> Tensor:
        """The logits [row, pos, vocabulary] of the circuit that keeps edges at tokens [row, pos]."""
        added: Values = {}
        values: Values = {}
        cuts = {edge.source: kept[edge] for edge in self.wiring.inner}
        for number, stage in enumerate(self.stages):
            for sender in self.wiring.senders:
                if self.wiring.after[sender] == number and sender != self.embed:
                    added[sender] = self._added(sender, number, values, cuts)
            for reader in self.wiring.readers:
                if self.wiring.before[reader] != number:
                    continue
                stream = self.base[stage].clone()
                for sender in self.wiring.senders:
                    if self.wiring.after[sender] <= number:
                        change = added.get(sender, self.first if number == 0 else self.embedded)
                        edge = next(e for e in kept if e.source == sender and e.target == reader)
                        stream = stream + kept[edge][..., None] * change
                if reader == self.logits:
                    return run(self.model, self.ids, (), {stage: put(stream)})[0]
                values[reader] = run(self.model, self.ids, [reader], {stage: put(stream)})[1][reader]
        raise AssertionError("no logits")

    def _added(self, sender: Any, number: int, values: Values, cuts: Mapping[Any, Tensor]) -> Tensor:
        """What a sender adds to the stream, less what it adds in the corrupted run."""
        layers = {sender.indices[:1], (0,)} if self.model.graph.skips else {sender.indices[:1]}
        same = {r: value for r, value in values.items() if r.indices[:1] in layers}
        write: dict[Any, Write] = {reader: put(value) for reader, value in same.items()}
        for source, keep in cuts.items():
            if source.indices[:1] in layers:
                write[source] = mixed(self.base[source], keep, same.get(source))
        _, got = run(self.model, self.ids, [sender], write)
        others = {node: put(self.base[node]) for node in self.wiring.senders if node not in (sender, self.embed)}
        _, after = run(self.model, self.ids, [self.stages[number]], others | {sender: put(got[sender])})
        return after[self.stages[number]] - self.base[self.stages[number]]
