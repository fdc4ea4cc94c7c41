"""One forward pass in one nnsight trace: places are visited in execution order, and something is done at each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import nnsight
import torch
from torch import Tensor

from ..architecture.families import Place
from ..errors import GuardError
from ..models.model import Model
from .copies import Call, Copy, joined
from .places import alone, execution_order, play, turn


@dataclass(frozen=True)
class Visit:
    """One stop of a trace: a place, which of its calls, the copies to make there, and whether its value is read after them or before.

    What a node is before copies are made is what its terms are read from.
    """

    call: Call
    occurrence: int
    copies: tuple[Copy, ...]
    read: bool
    before: bool = False

    def kept(self, before: Tensor, after: Tensor) -> Tensor:
        """What is kept of the value: [1 or 2, ...], after the copies and before them; empty if it is not read."""
        wanted = [after.detach()] * self.read + [before.detach()] * self.before
        return torch.stack(wanted) if wanted else after.new_empty(0)

    def taken(self, kept: Tensor) -> dict[tuple[Call, bool], Tensor]:
        """The values that were kept, by call and whether they are those before the copies."""
        names = [(self.call, False)] * self.read + [(self.call, True)] * self.before
        return dict(zip(names, kept, strict=True)) if names else {}


def visits(
    model: Model, copies: Mapping[Call, Iterable[Copy]], reads: Iterable[tuple[Call, bool]], occurrence: Callable[[Call], int]
) -> list[Visit]:
    """Everything to do in a pass, in order of execution; ``reads``: calls, and whether they are read before the copies.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> later, first = ((model.graph.place(model.graph.node(name)), None) for name in ("mlp[2]", "mlp[0]"))
    >>> [visit.call == first for visit in visits(model, {}, [(later, False), (first, False)], lambda call: 0)]
    [True, False]
    """
    to_copy, to_read = {call: tuple(some) for call, every in copies.items() if (some := joined(every))}, dict.fromkeys(reads)
    order = execution_order(model)
    every = [
        Visit(call, occurrence(call), to_copy.get(call, ()), (call, False) in to_read, (call, True) in to_read)
        for call in dict.fromkeys([*to_copy, *(call for call, _ in to_read)])
    ]
    return sorted(every, key=lambda visit: turn(visit.call[0], visit.occurrence, order))


def traced(
    model: Model,
    ids: Tensor,
    stops: Sequence[tuple[Place, int]],
    act: Callable[[int, Tensor], tuple[Tensor | None, Tensor]],
    *,
    states: tuple[int, ...] = (),
    keep: int | Tensor = 0,
    within: AbstractContextManager[None] | None = None,
    gradients: bool = False,
) -> list[Tensor]:
    """Run a model on ``ids`` [row, position] and return what ``act`` kept at each stop (``places.play``).

    Recurrent layers stop at the positions ``states``; ``keep`` is transformers' ``logits_to_keep`` (0: all).
    The pass is ``within`` a context, which is entered when no other trace runs. With ``gradients``, what was kept has the graph of
    torch's autograd. Raises GuardError if a place was never reached.

    >>> import circuitry as ct
    >>> import torch
    >>> model = ct.load("bundled:mamba")
    >>> stops = [(model.graph.place(model.graph.node("resid[1]")), 0)]
    >>> tuple(traced(model, torch.zeros(1, 2, dtype=int), stops, lambda number, value: (None, value))[0].shape)
    (1, 2, 128)
    """
    ids, got = ids.to(model.device), None
    with alone(model, states, gradients=gradients), within or nullcontext():  # noqa: SIM117 (nnsight reads the inner statement from source)
        # The body of a trace is compiled from source, so it only calls an ordinary function.
        with model.net.trace(ids, use_cache=False, logits_to_keep=keep) as tracer:
            got = nnsight.save(play(model.net, tracer, stops, act))
    values: dict[int, Tensor] = got or {}
    if len(values) != len(stops):
        raise GuardError(f"only {len(values)} of {len(stops)} places were reached; no result is reported")
    return [values[number] for number in range(len(stops))]
