"""The guards as batches of their own: patch nothing and get the base run, patch everything and get the source run."""

from __future__ import annotations

from dataclasses import replace

from ...models.model import Model
from ...paths.parse import parse
from ...paths.positions import Position
from ...paths.values import Site
from ...planning.values import SOURCE, CellPlan, Pass, Plan, Write
from ...prompting.prompts import Prompts
from ..guards import EVERYTHING, EXAMPLES, NOTHING, check_same, sampled
from .chunks import reading_alike
from .driver import run
from .schedule import schedule


def check(model: Model, plan: Plan, prompts: Prompts, count: int | None = None) -> None:
    """Patch nothing and get the base run; patch everything and get the source run. Raises GuardError otherwise.

    The first runs the plan's own writes and holds, on a sample of its first ``count`` cells (None: of all), with
    the base input in place of the source input.
    That every place was reached is checked in each batch (``driver.run``).

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> check(model, plan, prompts)
    """
    few = prompts.take(slice(EXAMPLES))
    cells = [plan.cells[k] for k in sampled(len(plan.cells) if count is None else count)]
    if plan.intervention.from_source:
        same = same_input(few, plan.base)
        for alike in reading_alike(cells):
            laid = schedule(plan, [cells[k] for k in alike], same)
            rows = ((value[laid.reading.rows], value[laid.reading.base]) for value in run(model, laid, same))
            check_same(model, ((patched, base.expand_as(patched)) for patched, base in rows), NOTHING)
    everything = patch_everything(model)
    laid = schedule(everything, everything.cells, few)
    logits = run(model, laid, few)[0]
    check_same(model, [(logits[laid.reading.rows[0]], logits[laid.reading.source])], EVERYTHING)


def patch_everything(model: Model) -> Plan:
    """The plan that replaces the whole input: its result must be the source run.

    >>> import circuitry as ct
    >>> str(patch_everything(ct.load("bundled:mamba")).path)
    'embed -> logits'
    """
    graph, path = model.graph, parse("embed -> logits")
    step = Pass((Write(graph.node("embed"), None, SOURCE),), frozenset(), (Site(graph.node("logits"), Position("END")),))
    return Plan(path, graph, {}, (CellPlan((), path, (step,)),), ())


def same_input(prompts: Prompts, base: str) -> Prompts:
    """Prompts whose source input is the base input: patching must then change nothing.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> same = same_input(prompts, "clean")
    >>> bool((same.corrupted == prompts.clean).all())
    True
    """
    ids = prompts.clean if base == "clean" else prompts.corrupted
    return replace(prompts, clean=ids, corrupted=ids)
