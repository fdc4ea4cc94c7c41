"""Every method on one case: its CPU seconds in one thread, its effects, and whether these agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import lens_loop
from .cases import Case
from .executors import EXECUTORS, Executor, ids_of
from .gpt2_loop import GPT2Loop
from .hooks import Loop
from .lens_loop import LensLoop
from .mamba_loop import MambaLoop

EQUAL = 1e-5
HOOKS, LENS = "hook loop", "TransformerLens"
Effects = dict[tuple[int, ...], Any]


@dataclass(frozen=True)
class Measured:
    """CPU seconds for the complete sweep, effects [prompt] by cell, and how many cells were timed."""

    seconds: float
    effects: Effects
    timed: int


@dataclass(frozen=True)
class Comparison:
    """The measurements of every method on a case, and why some did not run. ``logit``: the size of a clean logit, the root mean
    square over the vocabulary.
    """

    case: Case
    measured: dict[str, Measured]
    skipped: dict[str, str]
    logit: float

    @property
    def gap(self) -> float:
        """The largest difference between the effects of any two methods, over all cells that both have."""
        tables = [method.effects for method in self.measured.values()]
        pairs = [(a[cell], b[cell]) for a in tables for b in tables for cell in a.keys() & b.keys()]
        return max((float(np.abs(a - b).max()) for a, b in pairs), default=0.0)

    @property
    def largest(self) -> float:
        """The largest effect."""
        tables = [method.effects for method in self.measured.values()]
        return max((float(np.abs(value).max()) for table in tables for value in table.values()), default=0.0)

    @property
    def relative(self) -> float:
        """The gap over the largest effect or the size of a logit: an effect is a difference of logits and has their rounding."""
        return self.gap / max(self.largest, self.logit)


def compare(case: Case, skip: frozenset[str] = frozenset(), sample: int | None = None) -> Comparison:
    """Run every method that is not skipped; slow methods run ``sample`` cells, and their time is scaled to all cells."""
    measured: dict[str, Measured] = {}
    skipped: dict[str, str] = {}
    for name in EXECUTORS:
        if name not in skip:
            measured[name] = _executor(name, case, None if name == "suffix" else sample)
    base = 0.0
    if "hooks" not in skip:
        measured[HOOKS], base = _loop(GPT2Loop if case.shape.heads else MambaLoop, case, sample)
    if "lens" not in skip:
        if why := lens_loop.missing(case):
            skipped[LENS] = why
        else:
            measured[LENS], base = _loop(LensLoop, case, sample)
    return Comparison(case, measured, skipped, base)


def cpu_seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def _executor(name: str, case: Case, sample: int | None) -> Measured:
    """Measure one executor."""
    executor, cells = Executor(name, case), case.sampled(sample)
    seconds, effects = cpu_seconds(lambda: executor.effects(cells))
    _check_cells(name, effects, cells)
    if 1 < len(cells) < len(case.cells):
        # Scaled by the cost of a further cell, so that the complete runs, which are made once, count once.
        first, _ = cpu_seconds(lambda: executor.effects(cells[:1]))
        seconds = first + (seconds - first) / (len(cells) - 1) * (len(case.cells) - 1)
    return Measured(seconds, effects, len(cells))


def _loop(kind: type[Loop], case: Case, sample: int | None) -> tuple[Measured, float]:
    """Measure a hook loop; also the size of a clean logit, the root mean square over the vocabulary."""
    loop, cells = kind(case, ids_of(case)), case.sampled(sample)
    fixed, _ = cpu_seconds(loop.record)
    variable, effects = cpu_seconds(lambda: {tuple(cell.values()): loop.effect(cell).numpy() for cell in cells})
    return Measured(fixed + variable * len(case.cells) / len(cells), effects, len(cells)), float(loop.base.square().mean().sqrt())


def _check_cells(name: str, effects: Effects, cells: tuple[dict[str, int], ...]) -> None:
    wanted = {tuple(cell.values()) for cell in cells}
    if effects.keys() != wanted:
        raise RuntimeError(f"{name}: expected {len(wanted)} cells, got {len(effects)}; differing: {effects.keys() ^ wanted}")
