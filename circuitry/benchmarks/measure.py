"""How well methods of discovery find known circuits: the table methods x families."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from ..discovery.methods import METHODS
from ..discovery.methods import method as named
from ..discovery.question import Question
from ..discovery.search import asked
from ..discovery.verify import patched
from ..errors import several
from ..models.loading import load
from ..prompting.task import task as make_task
from ..store.files import write_whole
from ..thresholds import KEY_EFFECT
from .cases import BUNDLED, CORRUPTIONS, COUNT, Case, CellNumbers, trained, truth

NODES = (*(f"bundled:{name}" for name in BUNDLED), "compiled:transformer")
"""The models in which effects of nodes are compared."""
SAMPLE = 200
"""Cells of a compiled model whose exact effect is measured, beside the true ones."""
Floats = NDArray[np.float64]


def auroc(scores: Floats, true: NDArray[np.bool_]) -> float:
    """The chance that a true cell has a larger score in magnitude than another; ties count half. NaN without either kind.

    >>> auroc(np.array([3.0, -2.0, 1.0]), np.array([True, True, False]))
    1.0
    """
    ranks, hits = rankdata(np.abs(scores)), int(true.sum())
    if hits in (0, len(true)):
        return float("nan")
    return float((ranks[true].sum() - hits * (hits + 1) / 2) / (hits * (len(true) - hits)))


def precision(scores: Floats, true: NDArray[np.bool_]) -> float:
    """The fraction of true cells among as many of the best as there are true ones.

    >>> precision(np.array([3.0, 1.0, 2.0]), np.array([True, True, False]))
    0.5
    """
    best = np.argsort(-np.abs(scores), kind="stable")[: int(true.sum())]
    return float(true[best].mean()) if len(best) else float("nan")


@dataclass(frozen=True)
class Benchmark:
    """``frame`` has a row for each case and method: ``auroc``, ``precision`` (at truth size), ``r`` with exact effects, ``passes``
    (forward passes over one prompt), ``exhaustive`` (those of patching every edge), ``seconds`` (CPU)."""

    frame: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """Means by method and family, and over all compiled models: AUROC, precision, r, the fraction of exhaustive passes, CPU seconds."""
        frame = self.frame.assign(cost=self.frame["passes"] / self.frame["exhaustive"])
        columns = ["auroc", "precision", "r", "cost", "seconds"]
        compiled = frame[~frame["family"].str.startswith("bundled")].assign(family="all compiled")
        both = pd.concat([frame, compiled])
        return both.groupby(["method", "family"], sort=False)[columns].mean()

    def text(self) -> str:
        """The table as text."""
        shown = {"auroc": "AUROC", "precision": "precision", "r": "r", "cost": "cost", "seconds": "CPU seconds"}
        table = self.table().rename(columns=shown).to_string(float_format=lambda value: f"{value:.3f}")
        return (
            f"{table}\n(means over {self.frame['case'].nunique()} models; cost: forward passes over those of patching every edge)"
        )


def discovery(
    *,
    count: int = COUNT,
    methods: Sequence[str] | None = None,
    examples: int = 16,
    with_trained: bool = True,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Benchmark:
    """Measure methods on compiled models, and on the bundled ones. With a ``folder`` each case is kept there, and another call resumes.

    >>> len(discovery(count=1, methods=["eap", "random"], examples=4, with_trained=False).frame)
    4
    """
    chosen = [name for name in METHODS if name != "exact"] if methods is None else list(several("methods", methods))
    rows: list[dict[str, Any]] = []
    for case in _cases(count, examples, with_trained):
        file = None if folder is None else folder / f"{case.name} {case.corruption}.json".replace(":", "-").replace(" ", "-")
        kept = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else []
        missing = [name for name in chosen if name not in [row["method"] for row in kept]]
        found = [*kept, *(measured(case, missing) if missing else ())]
        if file is not None and missing:
            write_whole(file, json.dumps(found))
        rows += [row for row in found if row["method"] in chosen]
        progress(
            f"{case.name}, corruption {case.corruption}: " + ", ".join(f"{row['method']} {row['auroc']:.3f}" for row in found)
        )
    return Benchmark(pd.DataFrame(rows))


def nodes(*, methods: Sequence[str] | None = None, examples: int = 8, models: Sequence[str] = NODES) -> pd.DataFrame:
    """Pearson's r with exact effects of the outputs of all mixers and MLPs at single positions: a row for each method, a column for each model
    and corruption.

    By default the models are the bundled ones and ``compiled:transformer``, whose attention is 0 or 1. Effects are means over prompts.

    >>> nodes(methods=["random"], examples=2).shape
    (1, 10)
    """
    chosen = [name for name in METHODS if name != "exact"] if methods is None else list(several("methods", methods))
    found: dict[str, dict[str, float]] = {}
    for name in models:
        model = load(name)
        for corruption in CORRUPTIONS:
            question = asked(model, make_task("induction", distance=8, corruption=corruption, examples=examples), level="node")
            blocks = [question.items.index(node) for node in question.wiring.blocks]
            cells = [(item, label) for item in blocks for label in range(len(question.labels))]
            exact = {cell: np.zeros(len(question.prompts)) for cell in cells} | dict(patched(question, cells))
            effects = np.array([values.mean() for values in exact.values()])
            for method in chosen:
                scores = named(method).scores(question).mean(0, dtype=np.float64)
                at = np.array([scores[cell] for cell in exact])
                r = float(np.corrcoef(at, effects)[0, 1]) if at.std() > 0 else float("nan")
                found.setdefault(method, {})[f"{name.partition(':')[2]} {corruption}"] = r
    return pd.DataFrame(found).T


def _cases(count: int, examples: int, with_trained: bool) -> Iterator[Case]:
    yield from truth(count, examples)
    if with_trained:
        yield from trained(examples)


def measured(case: Case, methods: Iterable[str]) -> Iterator[dict[str, Any]]:
    """One row for each method.

    >>> [row["method"] for row in measured(next(truth(1, examples=4)), ["random"])]
    ['random']
    """
    question = asked(case.model, case.task)
    shape = len(question.items), len(question.labels)
    exact, true = _truth(case, question, shape)
    known = np.array(list(exact), np.int64)
    effects = np.array([values.mean() for values in exact.values()])
    for name in methods:
        method = named(name)
        start = time.process_time()
        scores = method.scores(question).mean(0, dtype=np.float64)
        seconds = time.process_time() - start
        at = scores[known[:, 0], known[:, 1]]
        spread = at.std() > 0 and effects.std() > 0
        yield {
            "case": case.name, "family": case.family, "corruption": case.corruption, "method": name, "cells": int(true.size),
            "true": int(true.sum()), "auroc": auroc(scores.ravel(), true.ravel()), "precision": precision(scores.ravel(), true.ravel()),
            "r": float(np.corrcoef(at, effects)[0, 1]) if spread else float("nan"),
            "passes": method.passes(question), "exhaustive": METHODS["exact"].passes(question), "seconds": seconds,
        }  # fmt: skip


def _truth(case: Case, question: Question, shape: tuple[int, int]) -> tuple[dict[CellNumbers, Floats], NDArray[np.bool_]]:
    """Exact effects of cells, and which cells are true [edge, label]."""
    true = np.zeros(shape, bool)
    every = [(item, label) for item in range(shape[0]) for label in range(shape[1])]
    if case.truth is None:
        exact = {cell: np.zeros(len(question.prompts)) for cell in every} | dict(patched(question, every))
        largest = max(abs(values.mean()) for values in exact.values())
        for cell, values in exact.items():
            true[cell] = abs(values.mean()) >= KEY_EFFECT * largest
        return exact, true
    cells = case.cells(question)
    for cell in cells:
        true[cell] = True
    others = np.random.default_rng(0).permutation([k for k, cell in enumerate(every) if cell not in cells])[:SAMPLE]
    chosen = [*sorted(cells), *(every[k] for k in others)]
    return {cell: np.zeros(len(question.prompts)) for cell in chosen} | dict(patched(question, chosen)), true
