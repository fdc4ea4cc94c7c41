"""Executors on one path: what each says of it, and how far they are apart."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from circuitry import Path, parse
from circuitry.executing.effects import Effects
from circuitry.executing.executor import Executor
from circuitry.executing.reference.executor import Reference
from circuitry.executing.reference.follow import Unpatched, follow, remembering
from circuitry.executing.reference.hooks import Reference as HookReference
from circuitry.executing.reference.hooks import Values
from circuitry.executing.rows import driver
from circuitry.executing.rows.chunks import reading_alike
from circuitry.executing.rows.executor import Rows
from circuitry.executing.rows.schedule import schedule
from circuitry.executing.suffix.executor import Suffix
from circuitry.planning import METRICS, Plan, cells, join, plan
from circuitry.prompting import Prompts
from support import tiny

Direction = Literal["noising", "denoising"]
SWEEP = ("A", "B", "B+1", "END")
model: Callable[..., Any] = functools.cache(tiny.model)


@dataclass(frozen=True)
class _Same:
    """A module whose weights and settings are what they were."""

    module: Any
    versions: tuple[tuple[int, torch.dtype], ...]
    config: str


@functools.lru_cache(maxsize=4)
def _runs_of(same: _Same) -> Unpatched:
    return remembering()


def remembered(reference: HookReference, ids: Tensor) -> Values:
    """The reference's run without edits, once for the many paths that are tried on the same model and prompts."""
    hf = reference.hf
    versions = tuple((tensor._version, tensor.dtype) for tensor in (*hf.parameters(), *hf.buffers()))
    return _runs_of(_Same(hf, versions, str(vars(hf.config))))(reference, ids)


def ragged(examples: int = 3, length: int = 10, vocab: int = 61, seed: int = 0) -> Prompts:
    """Prompts of different lengths, padded on the right; A and B stand elsewhere in each, and both are corrupted."""
    rng = np.random.default_rng(seed)
    a, end = 1 + np.arange(examples) % 3, length - 1 - np.arange(examples) % 3
    clean = rng.integers(1, vocab, (examples, length))
    clean[np.arange(length) > end[:, None]] = 0
    corrupted, rows = clean.copy(), np.arange(examples)
    for at in (a, a + 1):
        corrupted[rows, at] = (clean[rows, at] + rng.integers(1, vocab, examples)) % vocab
    where = {"A": a, "B": a + 1, "END": end}
    return Prompts(clean, corrupted, clean[rows, a + 1], corrupted[rows, a + 1], where, ("A", "B"))


@dataclass(frozen=True)
class Cell:
    """One cell and one target: values in the patched run by each engine, and in the base run; all [example, ...]."""

    path: str
    engine: Tensor
    reference: Tensor
    base: Tensor

    @property
    def error(self) -> float:
        """The largest difference between the engines."""
        return (self.engine - self.reference).abs().max().item()

    @property
    def effect(self) -> float:
        """The largest effect of the patch, by the reference."""
        return (self.reference - self.base).abs().max().item()


def both(model: Any, path: str, prompts: Prompts, direction: Direction = "noising") -> list[Cell]:
    """Run every cell of a path in one batch, and again by the reference, one cell and one target at a time."""
    made = plan(path, model.graph, where=where(prompts), length=prompts.length, sweep=SWEEP, direction=direction)
    paths = {cell.values: in_full(cell.path, model) for cell in cells(parse(path), model.graph, SWEEP)}
    found = []
    for alike in reading_alike(made.cells):
        batch = [made.cells[k] for k in alike]
        laid = schedule(made, batch, prompts)
        values = driver.run(model, laid, prompts)
        for cell, rows in zip(batch, torch.from_numpy(laid.reading.rows), strict=True):
            for number, value in enumerate(values):
                base, _, patched = by_reference(model, paths[cell.values], prompts, direction, target=number)
                found.append(Cell(str(paths[cell.values]), value[rows], patched, base))
    return found


def in_full(path: Path, model: Any) -> Path:
    """The path with each target that names a layer alone written out, so that the reference can be asked for one node of it."""
    last, known = path.legs[-1], model.graph.indices
    targets = [replace(s, node=replace(s.node, indices=at)) for s in last.targets for at in known(s.node.family)
               if at[: len(s.node.indices)] == s.node.indices]  # fmt: skip
    return replace(path, legs=(*path.legs[:-1], replace(last, targets=tuple(targets))))


def by_reference(
    model: Any, path: Path, prompts: Prompts, direction: Direction = "noising", target: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """The reference's base, other and patched value of one target of the last leg; it reads the first, so that one goes there."""
    last = path.legs[-1]
    turned = replace(last, targets=(*last.targets[target:], *last.targets[:target]))
    clean, corrupted = torch.from_numpy(prompts.clean), torch.from_numpy(prompts.corrupted)
    base, other = (clean, corrupted) if direction == "noising" else (corrupted, clean)
    turned_path = replace(path, legs=(*path.legs[:-1], turned))
    return follow(model.hf, turned_path, base, other, where(prompts), unpatched=remembered)


def planned(model: Any, paths: Sequence[Path | str], prompts: Prompts, **options: Any) -> Plan:
    """One plan of paths that end alike. Raises PathError where one of them can have no effect."""
    known = {"where": where(prompts), "length": prompts.length, "sweep": SWEEP, **options}
    made = {str(number): plan(path, model.graph, **known) for number, path in enumerate(dict.fromkeys(paths))}
    return join(made, "path") if len(made) > 1 else made["0"]


OTHERS: dict[str, Callable[..., Executor]] = {"rows": Rows, "reference": Reference}


def apart(
    model: Any,
    made: Plan,
    prompts: Prompts,
    metrics: Sequence[str] = ("logit",),
    memory: int = 1 << 30,
    others: Sequence[str] = ("reference",),
) -> float:
    """How far the suffix executor is from the others on a plan, relative to the largest value that one of them has."""
    chosen = [METRICS[name] for name in metrics]
    ours = Suffix(model, memory=memory, progress=False).run(made, prompts, chosen)
    theirs = [OTHERS[name](model, memory=memory, progress=False).run(made, prompts, chosen) for name in others]
    return float(np.max([_differ(ours, one) for one in theirs]))  # not a number where one of them is none


def _differ(ours: Sequence[Effects], theirs: Sequence[Effects]) -> float:
    fields = ("effect", "base", "source")
    most = [
        np.abs(getattr(one, field) - getattr(other, field)).max()
        for one, other in zip(ours, theirs, strict=True)
        for field in fields
    ]
    largest = [np.abs(getattr(one, field)).max() for one in theirs for field in fields]
    return float(np.max(most) / np.max([1.0, *largest]))


def where(prompts: Prompts) -> dict[str, list[int]]:
    """Named positions as plain lists."""
    return {name: at.tolist() for name, at in prompts.where.items()}


def disagreement(model: Any, path: str, prompts: Prompts) -> float:
    """How far the engines are apart on a path, at worst."""
    return max(cell.error for cell in both(model, path, prompts))
