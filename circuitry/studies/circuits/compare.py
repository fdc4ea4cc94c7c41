"""One suite on several models, and the agreement of their circuits: the paper's Figure 7 as a measurement."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...errors import CircuitryError, expected, several
from ...evidence.write_profile import least_examples
from ...html.shown import Shown
from ...models.loading import load
from ...models.model import Model
from ...progress import together
from ...results.statistics import least_discovery
from ...results.writing import write_frames
from ...store.files import write_whole
from ...suites.result import SuiteResult
from ...suites.runner import run
from .alignment import PlacedComponent, depths, measured, normalized, overlap, placed, strengths

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Circuits(Shown):
    """Circuits of several models on one task, aligned. Made by ``circuitry.studies.circuits``.

    ``results`` are the suite's, by model. A *step* is a function that nodes of different kinds share (a state and an induction head
    both keep the answer and pass it on); ``circuitry.reports.roles`` lists the roles of each step.
    """

    suite: str
    results: Mapping[str, SuiteResult]

    @functools.cached_property
    def placed(self) -> list[PlacedComponent]:
        """Every component of every model, with its measurements."""
        return [component for model, result in self.results.items() for component in placed(model, result)]

    @functools.cached_property
    def steps(self) -> list[str]:
        """The steps that any model has, those of most models first."""
        steps = {component.step for component in self.placed}
        having = {step: len({component.model for component in self.placed if component.step == step}) for step in steps}
        return sorted(steps, key=lambda step: (-having[step], step))

    @functools.cached_property
    def examples(self) -> int:
        """Number of prompts on which each model was measured. Raises CircuitryError if models differ in it."""
        counts = {component.model: len(component.effect) for component in self.placed}
        if len(set(counts.values())) > 1:
            raise CircuitryError(f"expected runs with the same number of examples, got {counts}; run them with one number")
        return next(iter(counts.values()), 0)

    def of(self, model: str) -> list[PlacedComponent]:
        """The components of one model."""
        return [component for component in self.placed if component.model == model]

    @functools.cached_property
    def frame(self) -> pd.DataFrame:
        """A row for every component: model, step, role, node, position, layer, depth (0 to 1), normalized effect with its interval."""
        columns = ["model", "step", "role", "node", "position", "layer", "depth"]
        rows = pd.DataFrame([[getattr(component, c) for c in columns] for component in self.placed], columns=columns)
        value, low, high = measured(normalized(self.placed), self.examples) if self.placed else (np.zeros(0),) * 3
        return rows.assign(normalized=value, low=low, high=high)

    @functools.cached_property
    def by_step(self) -> pd.DataFrame:
        """A row for every step and model: the step's normalized effect in the model, and its mean depth, with intervals.

        NaN means that the suite named no node of the model for the step.
        """
        rows = []
        for model in self.results:
            components = self.of(model)
            strong, deep = (measured(quantity(components, self.steps), self.examples) for quantity in (strengths, depths))
            for number, step in enumerate(self.steps):
                doing = [component for component in components if component.step == step]
                values = [*(a[number] for a in strong), *(a[number] for a in deep)] if doing else [float("nan")] * 6
                rows.append([step, model, len(doing), ", ".join(dict.fromkeys(component.role for component in doing)), *values])
        names = ["step", "model", "nodes", "roles", "strength", "low", "high", "depth", "depth_low", "depth_high"]
        return pd.DataFrame(rows, columns=names)

    @functools.cached_property
    def agreement(self) -> pd.DataFrame:
        """A row for every pair of models: the share of their circuits that they have in common, by step, and by step and depth.

        Strengths of steps (``by_step``) are compared by Ruzicka's similarity: 1 means equal, 0 nothing in common. With depth, a
        step in another third of the layers counts as another step. Intervals are over prompts, the same in both models.
        """
        rows = []
        for first, second in itertools.combinations(self.results, 2):
            values: list[float] = []
            for by_depth in (False, True):
                a, b = (strengths(self.of(model), self.steps, by_depth) for model in (first, second))
                values += _agreement(a, b, self.examples)
            rows.append([first, second, *values])
        names = ["first", "second", "by step", "low", "high", "by step and depth", "depth_low", "depth_high"]
        return pd.DataFrame(rows, columns=names)

    def matched(self) -> dict[str, list[str]]:
        """The models that have each step."""
        return {step: [m for m in self.results if any(p.step == step for p in self.of(m))] for step in self.steps}

    @functools.cached_property
    def doubt(self) -> str:
        """A warning that so few examples can miss components; empty if there are enough."""
        cells = max((len(table.mean()) for result in self.results.values() for table in result.tables.values()), default=0)
        if not self.examples or least_discovery(self.examples, cells) == 1:
            return ""
        return (
            f"{self.examples} examples are few for tables of up to {cells} cells: a cell cannot be significant by itself, so "
            f"components may be missed; try {least_examples(cells)} or more"
        )

    def text(self) -> str:
        """The results, for a terminal: step by step, then pair by pair."""
        lines = [f"circuits of {self.suite} in {len(self.results)} models, {self.examples} examples"]
        for step, having in self.matched().items():
            lines.append(f"  {step} ({len(having)} of {len(self.results)} models)")
            for row in self.by_step[self.by_step["step"] == step].to_dict("records"):
                lines.append(f"    {row['model']:<28} {_described(row)}")
        lines.append("  agreement of pairs (1: the same circuit)")
        for row in self.agreement.to_dict("records"):
            by_step = _interval(row["by step"], row["low"], row["high"])
            deep = _interval(row["by step and depth"], row["depth_low"], row["depth_high"])
            lines.append(f"    {row['first']} and {row['second']}: {by_step} by step, {deep} by step and depth")
        return "\n".join([*lines, *([f"  note: {self.doubt}"] if self.doubt else [])])

    def __repr__(self) -> str:
        return self.text()

    def plot(self, style: str | None = None) -> Figure:
        """Depth and strength of every step in every model, and the agreement of every pair."""
        from ...drawing.figures import plotted
        from .figure import draw

        return plotted(draw, self, None, style)

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write the three tables (CSV and Markdown), the figure (PNG and SVG), circuits.json and circuits.html; returns the folder."""
        from ...drawing.figures import save
        from .page import write_page

        target = Path(folder)
        frames = {"components": self.frame, "steps": self.by_step, "agreement": self.agreement}
        write_frames(frames, target)
        for suffix in (".png", ".svg"):
            save(self.plot(), target / f"circuits{suffix}")
        records = {name: json.loads(frame.to_json(orient="records")) for name, frame in frames.items()}
        data = {"suite": self.suite, "examples": self.examples, **records}
        write_whole(target / "circuits.json", json.dumps(data, indent=1))
        write_page(self, target)
        return target


@together()
def circuits(
    models: Sequence[str | Model | SuiteResult],
    task: str = "induction",
    *,
    out: str | PathLike[str] | None = None,
    examples: int = 32,
    seed: int = 0,
    dtype: str = "float32",
    device: str = "cpu",
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> Circuits:
    """Run a suite on several models and align their circuits by step and relative depth.

    ``models``: names as for ``circuitry.load``, loaded models, or results of the suite. ``options`` go to ``circuitry.run``; with
    ``out`` each run gets a folder there, and a complete run is not repeated. Raises CircuitryError for fewer than two models.

    >>> comparison = circuits(["bundled:gpt_neox", "bundled:mamba"], "induction", distances=[8], distance=8, examples=12)
    >>> [len(having) for having in comparison.matched().values()]
    [2, 2, 1]
    """
    if len(several("models", models)) < 2:
        raise CircuitryError(expected("at least two models to compare", len(models)))
    results: dict[str, SuiteResult] = {}
    for given in models:
        result = given if isinstance(given, SuiteResult) else None
        if result is None:
            model = given if isinstance(given, Model) else load(str(given), dtype=dtype, device=device)
            say(f"{task} on {model.name}")
            result = run(task, model, out=out, examples=examples, seed=seed, say=say, **options)
        results[_free(result.summary.model, results)] = result
    return Circuits(task, results)


def _agreement(first: Callable[..., Any], second: Callable[..., Any], examples: int) -> list[float]:
    """Estimate, low and high of the overlap of two circuits."""
    estimates = measured(lambda weights: overlap(first(weights), second(weights))[:, None], examples)
    return [float(values[0]) for values in estimates]


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number = sum(label.split(" #")[0] == name for label in taken)
    return name if not number else f"{name} #{number + 1}"


def _described(row: Mapping[Any, Any]) -> str:
    if not row["nodes"]:
        return "none found"
    strength, depth = _interval(row["strength"], row["low"], row["high"]), row["depth"]
    return f"{strength} at depth {depth:.2f}: {row['nodes']} {row['roles']}"


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.2f} ({low:.2f} to {high:.2f})"
