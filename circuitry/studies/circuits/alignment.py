"""Nodes of several circuits on common rows: the step a node does, and its depth as a share of the model's layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ...errors import CircuitryError
from ...reports.roles import row_of
from ...results.statistics import Array, corrected, resampling
from ...suites import SuiteResult
from ...thresholds import RESAMPLES

Weighted: TypeAlias = Callable[[Array], Array]
"""From weights of examples [row, example], rows adding up to 1, to estimates [row, quantity]."""


@dataclass(frozen=True)
class PlacedComponent:
    """One component of one model's circuit, with the effects it was named for.

    ``effect`` and ``whole`` [example]: what patching the node does, and what patching the whole input does, in the unit of the
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
    """The components a suite named that stand in a layer, each with its measurements.

    Raises CircuitryError for a result whose components do not say which cell of which table they are.

    >>> import circuitry as ct
    >>> found = ct.run("induction", ct.load("bundled:mamba"), distances=[8], distance=8, examples=8)
    >>> placed("m", found)[0].node, placed("m", found)[0].depth
    ('ssm_state[3]', 0.875)
    """
    layers, found = int(result.record["layers"]), []
    for one in result.summary.components:
        if one.table not in result.tables:
            raise CircuitryError(f"{one.node} of {model} does not say from which table it comes; run its suite again")
        table = result.tables[one.table]
        row = list(table.mean().index).index(one.cell if len(one.cell) > 1 else one.cell[0])
        whole = table.values("source")[row] - table.values("base")[row]
        depth = (one.layer + 0.5) / layers
        found.append(
            PlacedComponent(
                model, step_of(one.role), one.role, one.node, one.position, one.layer, depth, table.values()[row], whole
            )
        )
    return _once(found)


def step_of(role: str) -> str:
    """What a role does in the algorithm, in words that hold for every architecture, with the token it is about.

    >>> step_of("induction head"), step_of("writes the k ([A'])")
    ('keeps it and hands it to the answer', 'brings earlier tokens together and writes them: A')
    """
    token = re.search(r"\(\[(\w+)'\]\)", role)
    return f"{row_of(role)}: {token[1]}" if token else row_of(role)


def _once(found: Sequence[PlacedComponent]) -> list[PlacedComponent]:
    """A node that does one step in two ways counts once, where it is strongest."""
    best: dict[tuple[str, str], PlacedComponent] = {}
    for component in found:
        kept = best.get((component.step, component.node))
        if kept is None or _normalized(component) > _normalized(kept):
            best[component.step, component.node] = component
    return list(best.values())


def _normalized(component: PlacedComponent) -> float:
    return float(component.effect.mean() / component.whole.mean())


def normalized(found: Sequence[PlacedComponent]) -> Weighted:
    """Each part's share of the whole effect; negative ones are those that work against it.

    >>> component = PlacedComponent("m", "s", "r", "h[0]", "B", 0, 0.5, np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    >>> normalized([component])(np.array([[0.5, 0.5]])).tolist()
    [[0.5]]
    """
    effect, whole = (np.array([getattr(component, name) for component in found]) for name in ("effect", "whole"))
    return lambda weights: np.asarray((weights @ effect.T) / (weights @ whole.T))


def strengths(found: Sequence[PlacedComponent], steps: Sequence[str], by_depth: bool = False) -> Weighted:
    """How much of the whole effect each step has: its parts' normalized added up, at most 1; by thirds of the depth if asked.

    Parts are measured one at a time and may overlap, so a sum above 1 says no more than 1.

    >>> component = PlacedComponent("m", "s", "r", "h[0]", "B", 0, 0.5, np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    >>> strengths([component], ["s", "t"])(np.array([[0.5, 0.5]])).tolist()
    [[0.5, 0.0]]
    >>> strengths([component], ["s"], by_depth=True)(np.array([[0.5, 0.5]])).tolist()
    [[0.0, 0.5, 0.0]]
    """
    member = np.array([[component.step == step for step in steps] for component in found], float).reshape(len(found), len(steps))
    third = np.array([[_third(component) == number for number in range(3)] for component in found], float).reshape(len(found), 3)

    def measured(weights: Array) -> Array:
        if not found:
            return np.zeros((len(weights), len(steps) * (3 if by_depth else 1)))
        each = np.clip(normalized(found)(weights), 0, None)
        total = each @ member
        within = total if not by_depth else np.einsum("rp,ps,pt->rst", each, member, third)
        bound = np.maximum(1, total)  # divided by, so that what is above 1 becomes 1 to the bit, whatever the weights
        return np.asarray((within / bound) if not by_depth else (within / bound[:, :, None]).reshape(len(weights), -1))

    return measured


def _third(component: PlacedComponent) -> int:
    return min(2, int(3 * component.depth))


def depths(found: Sequence[PlacedComponent], steps: Sequence[str]) -> Weighted:
    """The mean depth of each step, weighted by the shares of its parts; NaN where it has none.

    >>> component = PlacedComponent("m", "s", "r", "h[0]", "B", 0, 0.25, np.array([1.0, 1.0]), np.array([2.0, 2.0]))
    >>> depths([component], ["s"])(np.array([[0.5, 0.5]])).tolist()
    [[0.25]]
    """
    member = np.array([[component.step == step for step in steps] for component in found], float).reshape(len(found), len(steps))
    depth = np.array([component.depth for component in found])

    def measured(weights: Array) -> Array:
        if not found:
            return np.full((len(weights), len(steps)), np.nan)
        each = np.clip(normalized(found)(weights), 0, None)
        with np.errstate(invalid="ignore"):
            return np.asarray(((each * depth) @ member) / (each @ member))

    return measured


def overlap(first: Array, second: Array) -> Array:
    """Agreement of two rows of strengths: what both have, as a share of what either has (Ruzicka); 1 is the same circuit.

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
    known = np.isfinite(replicates).all(0)
    low, high = np.full_like(value, np.nan), np.full_like(value, np.nan)
    found = corrected((replicates - value)[:, known], (value - without_one)[:, known].T)
    low[known], high[known] = value[known] + found[0], value[known] + found[1]
    return value, low, high
