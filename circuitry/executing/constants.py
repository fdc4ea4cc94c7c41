"""The tensors that an intervention puts in place where it takes none from the other input, as its own maker says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import CircuitryError
from ..models import Model
from ..paths import Site, parse
from ..planning import CellPlan, Intervention, Pass, Plan, Write, absolute
from ..prompting import Prompts
from .rows.chunks import chunks
from .rows.driver import run
from .rows.schedule import schedule


def constant_values(model: Model, plan: Plan, prompts: Prompts, memory: int) -> Mapping[Write, Tensor]:
    """What the plan's intervention puts in place at each of its writes; nothing where that comes from the other input.

    Numbers stay numbers (of no dimension), tensors have the node's own shape. Raises CircuitryError where one does not fit.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "gate[0] @ END -> logits", intervention="mean")
    >>> [tuple(value.shape) for value in constant_values(model, made, prompts, 1 << 28).values()]
    [(256,)]
    """
    if plan.intervention.make is None:
        return {}
    writes = dict.fromkeys(w for cell in plan.cells for w in cell.passes[0].writes)
    sources = {write: _Source(model, write, prompts, memory) for write in writes}
    return {write: source.fitted(plan.intervention) for write, source in sources.items()}


@dataclass(frozen=True)
class _Source:
    """A write, as the maker of its value sees it (``planning.interventions.Source``)."""

    model: Model
    write: Write
    prompts: Prompts
    memory: int

    @property
    def site(self) -> Site:
        return Site(self.write.node, self.write.at)

    def mean(self) -> Tensor:
        alike = len(set(self.prompts.stops.tolist())) == 1
        at = self.write.at
        if self._is_pattern and not (alike and (at is None or len(set(absolute(at, self.prompts.where))) == 1)):
            raise CircuitryError(
                f"the mean of {self.site} over prompts of different shape attends to later tokens or padding; use 'zero' or 'resample'"
            )
        return mean_value(self.model, self.write, self.prompts, self.memory)

    @property
    def _is_pattern(self) -> bool:
        """Whether it is an attention pattern: how one token's attention is shared out among those that it can see."""
        return self.write.node.port == "pattern"

    def fitted(self, intervention: Intervention) -> Tensor:
        """The value that an intervention makes, in the node's own shape unless it is one number."""
        made = intervention.make(self, intervention.value) if intervention.make else None
        if isinstance(made, int | float):
            made = torch.tensor(
                made, dtype=torch.float64
            )  # by itself it would be a float32; it is written in the node's own dtype
        value = self._tensor(made, intervention)
        if not value.isfinite().all():
            raise CircuitryError(
                f"{intervention} for {self.site} holds numbers that are not finite; every effect would be one of them"
            )
        if self._is_pattern and value.dim() == 0 and value != 0:
            raise CircuitryError(
                f"{self.site} is how one token's attention is shared out; {value.item():g} everywhere would attend to later tokens too. "
                "Give a row"
            )
        if self._is_pattern and value.dim() and self._looks_ahead(value):
            raise CircuitryError(
                f"{self.site} is how one token's attention is shared out, and {intervention} attends to tokens after it; "
                "give a row that is zero there"
            )
        return value

    def _looks_ahead(self, pattern: Tensor) -> bool:
        """Whether a row [key] attends to tokens after its own, in the example where that comes first; or any of all [query, key]."""
        if self.write.at is None:
            return bool(pattern.triu(1).any())
        return bool(pattern[min(absolute(self.write.at, self.prompts.where)) + 1 :].any())

    def _tensor(self, made: Any, intervention: Intervention) -> Tensor:
        shape: Any = type(made).__name__
        try:
            value = torch.as_tensor(made)
            if value.dim() == 0:
                return value
            shape = tuple(value.shape)
            return value.expand_as(self._like())
        except (RuntimeError, TypeError, ValueError) as error:
            wanted = tuple(self._like().shape)
            raise CircuitryError(f"{intervention.name!r} puts {shape} where {self.site} has shape {wanted}") from error

    def _like(self) -> Tensor:
        """A tensor of the shape that a value must have: the mean over one example."""
        return mean_value(self.model, self.write, self.prompts.take(slice(1)), self.memory)


def mean_value(model: Model, write: Write, prompts: Prompts, memory: int) -> Tensor:
    """The mean of a node at a position over all corrupted prompts; at every position where the write names none.

    Padding counts for nothing: the mean at a position is over the prompts that reach it, zero where none does.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> from circuitry.planning.plan import MADE, Write
    >>> tuple(mean_value(model, Write(model.graph.node("gate[0]"), ct.Position("B"), MADE), prompts, 1 << 28).shape)
    (256,)
    """
    path = parse("embed -> logits")
    reader = CellPlan((), path, (Pass((), frozenset(), (Site(write.node, write.at),)),))
    plan = Plan(path, model.graph, {}, (reader,), ())
    total: Any = None
    count: Any = 0
    for _, examples in chunks(plan, model, len(prompts), prompts.length, memory):
        part = prompts.take(examples)
        laid = schedule(plan, plan.cells, part)
        values = run(model, laid, part)[0][laid.reading.other]
        dtype, values = values.dtype, values.double()
        there = torch.ones(len(part), dtype=torch.float64, device=values.device)
        if write.at is None:
            stops = torch.from_numpy(part.stops).to(values.device)
            there = (torch.arange(values.shape[1], device=values.device) < stops[:, None]).double()
        there = there.reshape(*there.shape, *[1] * (values.dim() - there.dim()))
        part_sum = (values * there).sum(0)
        total = part_sum if total is None else total + part_sum
        count = count + there.sum(0)
    return (total / count.clamp(min=1)).to(dtype)  # type: ignore[no-any-return]
