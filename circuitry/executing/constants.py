"""The tensors that an intervention puts in place where it takes none from the other input: zeros, means, values that are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CircuitryError
from ..models import Model
from ..paths import Site, parse
from ..planning import CellPlan, Pass, Plan, Write, absolute
from ..prompting import Prompts
from .rows.chunks import chunks
from .rows.driver import run
from .rows.schedule import schedule


def constant_values(model: Model, plan: Plan, prompts: Prompts, value: Any, memory: int) -> Mapping[Write, Tensor]:
    """The tensors that writes of zero, mean or given value put in place.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> dict(constant_values(model, made, prompts, None, 1 << 28))
    {}
    """
    writes = list(dict.fromkeys(w for cell in plan.cells for w in cell.passes[0].writes if not isinstance(w.value, int)))
    if plan.intervention == "resample":
        return {}
    for write in writes:
        _check_pattern(write, plan.intervention, prompts, value)
    if plan.intervention == "mean":
        return {w: mean_value(model, w, prompts, memory) for w in writes}
    if plan.intervention == "zero":
        return dict.fromkeys(writes, torch.zeros(()))
    return {w: given_value(model, w, prompts, value, memory) for w in writes}


def _check_pattern(write: Write, intervention: str, prompts: Prompts, value: Any) -> None:
    """Refuse values of an attention pattern that would put weight on tokens which the query cannot see, or on padding."""
    site, alike = Site(write.node, write.at), len(set(prompts.stops.tolist())) == 1
    if write.node.port != "pattern" or intervention == "zero":
        return
    if intervention == "given" and np.ndim(value) == 0:  # a number, be it Python's, numpy's or a tensor
        raise CircuitryError(
            f"{site} is how one token's attention is shared out; value={value} would attend to later tokens too. Give a row"
        )
    if intervention == "mean" and not (alike and (write.at is None or len(set(absolute(write.at, prompts.where))) == 1)):
        raise CircuitryError(
            f"the mean of {site} over prompts of different shape attends to later tokens or padding; use 'zero' or 'resample'"
        )


def given_value(model: Model, write: Write, prompts: Prompts, value: Any, memory: int) -> Tensor:
    """The caller's value in the node's own shape. Raises CircuitryError where it does not fit.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> from circuitry.planning import Write
    >>> tuple(given_value(model, Write(model.graph.node("gate[0]"), ct.Position("B"), "given"), prompts, 2.0, 1 << 28).shape)
    (256,)
    """
    like, place = mean_value(model, write, prompts.take(slice(1)), memory), Site(write.node, write.at)
    try:
        # A number takes the node's own dtype: as a tensor by itself it would be float32.
        given = torch.as_tensor(value, dtype=like.dtype if isinstance(value, int | float) else None).expand_as(like)
    except (RuntimeError, TypeError, ValueError) as error:
        shape = tuple(getattr(value, "shape", ())) or type(value).__name__
        raise CircuitryError(f"value= is {shape}, and {place} has shape {tuple(like.shape)}") from error
    if not given.isfinite().all():
        raise CircuitryError(f"value= for {place} holds numbers that are not finite; every effect would be one of them")
    return given


def mean_value(model: Model, write: Write, prompts: Prompts, memory: int) -> Tensor:
    """The mean of a node at a position over all corrupted prompts; at every position where the write names none.

    Padding counts for nothing: the mean at a position is over the prompts that reach it, zero where none does.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> from circuitry.planning import Write
    >>> tuple(mean_value(model, Write(model.graph.node("gate[0]"), ct.Position("B"), "mean"), prompts, 1 << 28).shape)
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
