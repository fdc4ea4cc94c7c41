"""Nodes of several circuits on common scales: the step that a node performs, and its depth as a share of the model's layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...errors import CircuitryError
from ...reports.roles import row_of
from ...results.statistics import Array, corrected, resampling
from ...suites.result import SuiteResult
from ...thresholds import RESAMPLES

Weighted: TypeAlias = Callable[[Array], Array]
"""From weights of examples [row, example], rows adding up to 1, to estimates [row, quantity]."""


@dataclass(frozen=True)
class PlacedComponent:
    """One component of one model's circuit, with its measured effects.

    ``effect`` and ``whole`` [example]: the effects of patching the node and of patching the whole input, in the unit of the
    suite's table. ``depth`` is the middle of its layer as a share of all layers, 0 to 1.
    """

    model: str
    step: str
    role: str
    node: str
    position: str
    layer: int
    depth: float
    effect: Array
    whole: Array


def placed(model: str, result: SuiteResult) -> list[PlacedComponent]:
    """The components that a suite named, each with its measurements.

    Raises CircuitryError for a result whose components do not name their table.
    """
    layers, components = int(result.record["layers"]), []
    for named in result.summary.components:
        if named.table not in result.tables:
            raise CircuitryError(f"{named.node} of {model} does not name its table; run its suite again")
        table = result.tables[named.table]
        row = list(table.mean().index).index(named.cell if len(named.cell) > 1 else named.cell[0])
        whole = table.values("source")[row] - table.values("base")[row]
        depth, effect = (named.layer + 0.5) / layers, table.values()[row]
        components.append(
            PlacedComponent(model, step_of(named.role), named.role, named.node, named.position, named.layer, depth, effect, whole)
        )
    return _once(components)


def step_of(role: str) -> str:
    """What a role does in the algorithm, in words that fit every architecture, and the token it concerns.

    >>> step_of("induction head"), step_of("writes the k ([A'])")
    ('keeps it and hands it to the answer', 'brings earlier tokens together and writes them: A')
    """
    token = re.search(r"\(\[(\w+)'\]\)", role)
    return f"{row_of(role)}: {token[1]}" if token else row_of(role)


def _once(components: Sequence[PlacedComponent]) -> list[PlacedComponent]:
    """A node that does one step in two ways counts once, with the stronger effect."""
    best: dict[tuple[str, str], PlacedComponent] = {}
    for component in components:
        strongest = best.get((component.step, component.node))
        if strongest is None or _normalized(component) > _normalized(strongest):
            best[component.step, component.node] = component
    return list(best.values())


def _normalized(component: PlacedComponent) -> float:
    return float(component.effect.mean() / component.whole.mean())


def normalized(components: Sequence[PlacedComponent]) -> Weighted:
    """The normalized effect of each component (1 is that of the whole input); negative ones work against the circuit.

    >>> component = PlacedComponent("m", "s", "r", "h[0]", "B", 0, 0.5, np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    >>> normalized([component])(np.array([[0.5, 0.5]])).tolist()
    [[0.5]]
    """
    effect, whole = (np.array([getattr(component, name) for component in components]) for name in ("effect", "whole"))
    return lambda weights: np.asarray((weights @ effect.T) / (weights @ whole.T))


def strengths(components: Sequence[PlacedComponent], steps: Sequence[str], by_depth: bool = False) -> Weighted:
    """The strength of each step: the sum of its components' normalized effects, at most 1; ``by_depth``: for each third of the depth.

    Components are measured one at a time and may overlap, so a sum above 1 means no more than 1.

    >>> component = PlacedComponent("m", "s", "r", "h[0]", "B", 0, 0.5, np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    >>> strengths([component], ["s", "t"])(np.array([[0.5, 0.5]])).tolist()
    [[0.5, 0.0]]
    >>> strengths([component], ["s"], by_depth=True)(np.array([[0.5, 0.5]])).tolist()
    [[0.0, 0.5, 0.0]]
    """
    member = np.array([[component.step == step for step in steps] for component in components], float).reshape(
        len(components), len(steps)
    )
    third = np.array([[_third(component) == number for number in range(3)] for component in components], float).reshape(
        len(components), 3
    )

    def measured(weights: Array) -> Array:
        if not components:
            return np.zeros((len(weights), len(steps) * (3 if by_depth else 1)))
        effects = np.clip(normalized(components)(weights), 0, None)
        total = effects @ member
        within = total if not by_depth else np.einsum("rp,ps,pt->rst", effects, member, third)
        bound = np.maximum(1, total)  # total / total is exactly 1, so a bounded strength is the same under all weights
        return np.asarray((within / bound) if not by_depth else (within / bound[:, :, None]).reshape(len(weights), -1))

    return measured


def _third(component: PlacedComponent) -> int:
    return min(2, int(3 * component.depth))


def depths(components: Sequence[PlacedComponent], steps: Sequence[str]) -> Weighted:
    """The mean depth of each step, weighted by the normalized effects of its components; NaN if it has none.

    >>> component = PlacedComponent("m", "s", "r", "h[0]", "B", 0, 0.25, np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    >>> depths([component], ["s"])(np.array([[0.5, 0.5]])).tolist()
    [[0.25]]
    """
    member = np.array([[component.step == step for step in steps] for component in components], float).reshape(
        len(components), len(steps)
    )
    depth = np.array([component.depth for component in components])

    def measured(weights: Array) -> Array:
        if not components:
            return np.full((len(weights), len(steps)), np.nan)
        effects = np.clip(normalized(components)(weights), 0, None)
        with np.errstate(invalid="ignore"):
            return np.asarray(((effects * depth) @ member) / (effects @ member))

    return measured


def overlap(first: Array, second: Array) -> Array:
    """Ruzicka's similarity of rows of strengths, the sum of minima over the sum of maxima; 1 is the same circuit.

    >>> overlap(np.array([[0.5, 0.0]]), np.array([[1.0, 0.0]])).tolist()
    [0.5]
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(np.minimum(first, second).sum(1) / np.maximum(first, second).sum(1))


def measured(quantity: Weighted, examples: int, seed: int = 0) -> tuple[Array, Array, Array]:
    """Estimate, low and high of each quantity: the BCa bootstrap over examples, with the jackknife for its correction.

    >>> value, low, high = measured(lambda weights: weights @ np.array([[1.0], [2.0], [3.0], [4.0]]), 4)
    >>> value.tolist(), bool(low[0] < 2.5 < high[0])
    ([2.5], True)
    """
    value = quantity(np.full((1, examples), 1 / max(1, examples)))[0]
    if examples < 2:
        return value, np.full_like(value, np.nan), np.full_like(value, np.nan)
    replicates = quantity(resampling(examples, RESAMPLES, np.random.default_rng(seed)))
    without_one = quantity((1 - np.eye(examples)) / (examples - 1))
    finite = np.isfinite(replicates).all(0)
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    below, above = corrected((replicates - value)[:, finite], (value - without_one)[:, finite].T)
    low[finite], high[finite] = value[finite] + below, value[finite] + above
    return value, low, high
