"""circuitry's executors on a case."""

from __future__ import annotations

from typing import Any

import torch

import circuitry as ct
from circuitry.models import Vocabulary

from .cases import Case, Cell
from .hooks import Ids

EXECUTORS = ("suffix", "rows")


def patch(executor: str, model: Any, task: Any, path: Any, axes: Any = None) -> Any:
    """One call of ``ct.patch`` as a user would make it, with planning, guards and statistics."""
    return ct.patch(model, task, path, axes=axes, executor=ct.executor(executor, progress=False), baseline=0, lint=False)


class Executor:
    """One executor on one case, with its own model and prompts."""

    def __init__(self, executor: str, case: Case) -> None:
        self.executor, self.case = executor, case
        self.model, self.task = ct.load(case.shape.model(case.length)), task_of(case)

    def effects(self, cells: tuple[Cell, ...]) -> dict[tuple[int, ...], Any]:
        """Effects [prompt] by cell, of the complete sweep in one call, or of some cells as separate paths."""
        if cells == self.case.cells:
            table = patch(self.executor, self.model, self.task, self.case.path, self.case.axes)
            return _by_cell(table, list(self.case.axes))
        paths = {str(k): self.case.path_of(cell) for k, cell in enumerate(cells)}
        effects = _by_cell(patch(self.executor, self.model, self.task, paths), ["path"])
        return {tuple(cell.values()): effects[k,] for k, cell in enumerate(cells)}


def task_of(case: Case) -> Any:
    """Induction on token numbers, with [A] at the position that the case gives."""
    return ct.task("induction", examples=case.prompts, distance=case.end - case.first, prefix=case.first)


def ids_of(case: Case) -> Ids:
    """The prompts that every method gets."""
    prompts = task_of(case).prompts(Vocabulary.of(None, case.shape.vocab), lint=False)
    return Ids(*map(torch.from_numpy, (prompts.clean, prompts.corrupted, prompts.answer)))


def _by_cell(table: Any, axes: list[str]) -> dict[Any, Any]:
    grouped = table.frame.sort_values("example", kind="stable").groupby(axes, sort=False)["effect"]
    return {tuple(map(int, cell)): effects.to_numpy() for cell, effects in grouped}
