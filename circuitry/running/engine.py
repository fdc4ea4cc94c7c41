"""Plan and prompts to effects, batch by batch, behind guards that refuse to report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from ..errors import CircuitryError
from ..models import Model
from ..paths import Site, parse
from ..planning import CellPlan, Pass, Plan, Write, absolute, reads_logits
from ..planning import plan as make_plan
from ..planning.schedule import schedule
from ..prompting import Prompts
from ..results.units import DISTANCE
from .chunks import chunks
from .driver import run
from .metrics import Metric, evaluate

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Effects:
    """All [cell, example]: the effect, and the metric itself on the base and on the other input."""

    effect: Floats
    base: Floats
    other: Floats

    def split(self, cells: int) -> tuple[Effects, Effects]:
        """The first ``cells`` cells, and the rest.

        >>> one = np.ones((3, 2))
        >>> [len(part.effect) for part in Effects(one, one, one).split(1)]
        [1, 2]
        """
        parts = (self.effect, self.base, self.other)
        return Effects(*(p[:cells] for p in parts)), Effects(*(p[cells:] for p in parts))


def run_plan(
    model: Model,
    plan: Plan,
    prompts: Prompts,
    metrics: Sequence[Metric],
    *,
    memory: int,
    value: Any = None,
    progress: bool = False,
    batch: Callable[..., list[Tensor]] = run,
) -> list[Effects]:
    """Run every cell on every example, in batches of predicted size under ``memory`` bytes; effects by each metric.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> from circuitry.running.metrics import METRICS
    >>> run_plan(model, made, prompts, [METRICS["logit"][0]], memory=1 << 28)[0].effect.shape
    (1, 2)
    """
    filled = np.full((len(metrics), 3, len(plan.cells), len(prompts)), np.nan)
    constants = constant_values(model, plan, prompts, value, memory)
    work = list(chunks(plan, model, len(prompts), prompts.length, memory))
    total = len(plan.cells) * len(prompts)
    with tqdm(total=total, desc=str(plan.path)[:60], unit="patch", disable=not progress, leave=False) as bar:
        for cells, examples in work:
            part = prompts.take(examples)
            # Values made elsewhere (mean, given) may have one for every position, padding included.
            part = _trimmed(plan, part) if plan.intervention in ("resample", "zero") else part
            laid = schedule(plan, [plan.cells[k] for k in cells], part)
            values = batch(model, laid, part, constants)
            where = np.ix_(cells, examples)
            for number, metric in enumerate(metrics):
                for kind, got in enumerate(_effects(values, laid.reading, part, metric, plan)):
                    filled[number, kind][where] = got
            bar.update(len(cells) * len(examples))
    return [Effects(*one) for one in filled]


def _trimmed(plan: Plan, prompts: Prompts) -> Prompts:
    """Without what follows the last END, unless the plan writes or reads there."""
    passes = [one for cell in plan.cells for one in cell.passes]
    ats = {at for one in passes for at in (*(w.at for w in one.writes), *(s.at for s in one.reads))}
    last = max((max(absolute(at, prompts.where)) for at in ats if at is not None), default=0)
    everywhere = any(site.at is None for one in passes for site in one.reads)
    return prompts.trimmed(max(last + 1, int(prompts.stops.max()) if everywhere else 0))


def _effects(values: list[Tensor], reading: Any, prompts: Prompts, metric: Metric, plan: Plan) -> tuple[Floats, Floats, Floats]:
    """Effect [cell, example], and the metric on the base and on the other input [example]."""
    cells, examples = reading.rows.shape
    rows, base, other = reading.rows.ravel(), np.tile(reading.base, cells), reading.other
    if ends_at_logits(plan):
        answer, foil = (torch.from_numpy(np.asarray(t)).to(values[0].device) for t in (prompts.answer, prompts.foil))
        clean = values[0][reading.base].float() if values[0].dtype != torch.float64 else values[0][reading.base]
        patched, corrupted = values[0][rows].to(clean.dtype), values[0][other].to(clean.dtype)
        on_base, on_other = (evaluate(metric, logits, clean, answer, foil) for logits in (clean, corrupted))
        on_patched = evaluate(metric, patched, clean.repeat(cells, 1), answer.repeat(cells), foil.repeat(cells))
        effect = on_patched.view(cells, examples) - on_base
        return _numpy(effect), _numpy(on_base), _numpy(on_other)
    effect = _distance(values, reading.sites, rows, base, np.tile(prompts.stops, cells))
    away = _distance(values, reading.sites, other, reading.base, prompts.stops)
    return _numpy(effect.view(cells, examples)), np.zeros(examples), _numpy(away)


def _distance(
    values: list[Tensor], sites: Sequence[Site], rows: NDArray[np.int64], base: NDArray[np.int64], stops: Any
) -> Tensor:
    """L2 distance between rows [row], over all sites; of a site at every position the padding is no part of the prompt."""
    total = torch.zeros(len(rows), dtype=torch.float64, device=values[0].device)
    for value, site in zip(values, sites, strict=True):
        squared = (value[rows].double() - value[base].double()) ** 2
        if site.at is None:
            squared[torch.from_numpy(np.arange(squared.shape[1]) >= stops[:, None])] = 0
        total += squared.reshape(len(squared), -1).sum(1)  # one number a row where a node is one, as a step size
    return total**0.5


def _numpy(values: Tensor) -> Floats:
    return values.double().cpu().numpy()


def ends_at_logits(plan: Plan) -> bool:
    """Whether the last leg reads the logits, at one position and nothing else; else the effect is a distance over all it reads.

    >>> import circuitry as ct
    >>> [ends_at_logits(make_plan(f"embed -> {end}", ct.graph("gpt2"))) for end in ("logits", "mlp[0]", "(logits, mlp[0])")]
    [True, False, False]
    """
    return reads_logits(plan.cells[0].path, plan.graph)


def unit_of(plan: Plan, unit: str) -> str:
    """The unit of the effects: the metric's, or a distance.

    >>> import circuitry as ct
    >>> unit_of(make_plan("embed -> mlp[0]", ct.graph("gpt2")), "logits")
    'L2 distance from the base run'
    """
    return unit if ends_at_logits(plan) else DISTANCE


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


def patch_everything(model: Model, prompts: Prompts) -> Plan:
    """The plan that replaces the whole input: its result must be the other run.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> str(patch_everything(model, prompts).path)
    'embed -> logits'
    """
    return make_plan("embed -> logits", model.graph, where=prompts.where, length=prompts.stops.tolist())


def same_input(prompts: Prompts, base: str) -> Prompts:
    """Prompts whose other input is the base input: patching must then change nothing.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> same = same_input(prompts, "clean")
    >>> bool((same.corrupted == prompts.clean).all())
    True
    """
    kept = prompts.clean if base == "clean" else prompts.corrupted
    return replace(prompts, clean=kept, corrupted=kept)
