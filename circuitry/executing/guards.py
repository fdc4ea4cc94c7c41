"""Checks that run with every experiment and refuse to report: a wrong number is worse than none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from ..errors import GuardError
from ..models import Model
from ..planning import Plan
from ..planning import plan as make_plan
from ..prompting import Prompts
from .rows.chunks import reading_alike
from .rows.driver import run
from .rows.schedule import schedule

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 2e-3, torch.bfloat16: 0.15, torch.float16: 0.05}
_CELLS, _EXAMPLES = 6, 2


def check(model: Model, plan: Plan, prompts: Prompts, count: int | None = None) -> None:
    """Patch nothing and get the base run; patch everything and get the other run. Raises GuardError otherwise.

    The first runs the plan's own writes and holds, on a sample of its first ``count`` cells (None: of all), with
    the base input in place of the other.
    That every place was reached is checked in each batch (``driver.run``).

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> made, prompts = ct.running.patching.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> check(model, made, prompts)
    """
    few = prompts.take(slice(_EXAMPLES))
    cells = [plan.cells[k] for k in sampled(len(plan.cells) if count is None else count)]
    if plan.intervention.from_other:
        same = same_input(few, plan.base)
        for alike in reading_alike(cells):
            laid = schedule(plan, [cells[k] for k in alike], same)
            for value in run(model, laid, same):
                rows = value[laid.reading.rows]
                _compare(
                    model, rows, value[laid.reading.base].expand_as(rows), "patching nothing does not give the unpatched run"
                )
    everything = patch_everything(model, few)
    laid = schedule(everything, everything.cells, few)
    logits = run(model, laid, few)[0]
    _compare(
        model, logits[laid.reading.rows[0]], logits[laid.reading.other], "patching the whole input does not give the other run"
    )


def sampled(count: int) -> list[int]:
    """The cells that a guard looks at, spread over a table.

    >>> sampled(100)
    [0, 19, 39, 59, 79, 99]
    """
    return np.unique(np.linspace(0, count - 1, _CELLS).astype(int)).tolist()  # type: ignore[no-any-return]


def check_same(model: Model, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], problem: str) -> None:
    """Raise GuardError where what was found is not what must be found.

    >>> import circuitry as ct
    >>> check_same(ct.load("bundled:mamba"), [(torch.ones(2), torch.zeros(2))], "one is not zero")
    Traceback (most recent call last):
    circuitry.errors.GuardError: one is not zero (off by 1 of the largest value); no result is reported
    """
    for found, wanted in pairs:
        _compare(model, found, wanted, problem)


def _compare(model: Model, found: torch.Tensor, wanted: torch.Tensor, problem: str) -> None:
    scale = max(1.0, wanted.abs().max().item())
    error = (found - wanted).abs().max().item() / scale
    if not error <= _TOLERANCE.get(model.dtype, 2e-3):
        raise GuardError(f"{problem} (off by {error:.2g} of the largest value); no result is reported")


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
