"""From measurements to a verdict: the intervals of a claim's cells, each beside its bound."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..errors import CircuitryError
from ..results.table import PatchingTable
from ..results.top_1 import below_threshold
from . import intervals
from .intervals import Estimate
from .kinds import KINDS
from .measuring import Measured, Outcome
from .values import Bound, Claim, Quantity, Verdict, every


@dataclass(frozen=True)
class Part:
    """One number of a claim: the cell it is of, its interval, its bound and its verdict. ``other``: a cell of ``others``."""

    cell: str
    estimate: Estimate
    bound: Bound
    verdict: Verdict
    other: bool = False


@dataclass(frozen=True)
class Check:
    """A claim checked on the prompts of one seed. ``reason`` says why nothing could be measured, and is empty if something was."""

    seed: int
    verdict: Verdict
    parts: tuple[Part, ...] = ()
    reason: str = ""
    note: str = ""


def judge(claim: Claim, measured: Measured) -> Check:
    """The verdict on a claim whose quantities are measured.

    >>> from circuitry.claims.measuring import measure
    >>> from circuitry.claims.reading import parse_claims
    >>> text = "claims: [{text: It does, model: bundled:mamba, task: {name: induction, examples: 32}, accuracy: top-1, at_least: 0.5}]"
    >>> claim = parse_claims(text).claims[0]
    >>> str(judge(claim, measure([claim.quantity])).verdict)
    'holds'
    """
    seed = claim.quantity.task.seed
    outcomes = [measured.of(quantity) for quantity in (claim.quantity, claim.minus) if quantity]
    reasons = [outcome for outcome in outcomes if isinstance(outcome, str)]
    if reasons:
        return Check(seed, Verdict.OPEN, reason=reasons[0])
    try:
        parts = _difference(claim, *outcomes) if claim.minus else _cells(claim, outcomes[0])
    except CircuitryError as error:
        return Check(seed, Verdict.OPEN, reason=str(error))
    return Check(seed, every(part.verdict for part in parts), tuple(parts), note=_note(claim, outcomes))


def _cells(claim: Claim, table: Outcome) -> list[Part]:
    """A part for each cell that the claim names, and for all others if it bounds these too."""
    assert isinstance(table, PatchingTable)
    named = _mask(table, claim.quantity.cell)
    kept = table if claim.others else replace(table, frame=table.frame[named])
    inside = named[table.frame.groupby(_keys(table), sort=False).head(1).index] if claim.others else None
    estimates = KINDS[claim.quantity.kind].estimates(kept, claim.confidence)
    parts = []
    for number, (cell, estimate) in enumerate(zip(kept.mean().index, estimates, strict=True)):
        other = inside is not None and not inside.iloc[number]
        bound = claim.others if other and claim.others else claim.bound
        parts.append(Part(_name(kept, cell), estimate, bound, _verdict(bound, estimate), other))
    return parts


def _difference(claim: Claim, first: Outcome, second: Outcome) -> list[Part]:
    assert isinstance(first, PatchingTable) and isinstance(second, PatchingTable) and claim.minus
    kind = KINDS[claim.quantity.kind]
    one, other = (_single(table, quantity) for table, quantity in ((first, claim.quantity), (second, claim.minus)))
    if kind.by is not None:
        estimate = intervals.difference(one, other, kind.by, claim.confidence)
    else:  # each with half of the errors
        estimate = intervals.apart(*(kind.estimates(side, (1 + claim.confidence) / 2)[0] for side in (one, other)))
    return [Part("difference", estimate, claim.bound, _verdict(claim.bound, estimate))]


def _single(table: PatchingTable, quantity: Quantity) -> PatchingTable:
    """The one cell of a quantity as a table without axes."""
    frame = table.frame[_mask(table, quantity.cell)]
    cells = frame[list(table.axes)].drop_duplicates() if table.axes else frame.head(1)
    if len(cells) != 1:
        raise CircuitryError(f"minus needs one cell on each side, and {quantity.what} has {len(cells)}; name one with 'cell'")
    return replace(table, frame=frame.drop(columns=list(table.axes)), axes=())


def _mask(table: PatchingTable, cell: Mapping[str, tuple[Any, ...]]) -> pd.Series:
    """Which rows belong to the cells that a claim names. Raises CircuitryError if an axis or a value is not in the table."""
    mask = pd.Series(True, index=table.frame.index)
    for axis, values in cell.items():
        if axis not in table.axes:
            raise CircuitryError(f"the sweep has no axis {axis!r}, which 'cell' names; it has {', '.join(table.axes) or 'none'}")
        column = table.frame[axis].map(str)
        if missing := [value for value in map(str, values) if value not in set(column)]:
            there = ", ".join(dict.fromkeys(column))
            raise CircuitryError(f"the sweep has no cell with {axis} {missing[0]}; there are {there}")
        mask &= column.isin([str(value) for value in values])
    if not mask.any():
        raise CircuitryError(f"the sweep has no cell with {', '.join(f'{axis} {values}' for axis, values in cell.items())}")
    return mask


def _keys(table: PatchingTable) -> list[Any]:
    return [table.frame[axis] for axis in table.axes] or [np.zeros(len(table.frame), int)]


def _verdict(bound: Bound, estimate: Estimate) -> Verdict:
    return bound.decide(estimate.low, estimate.high, estimate.rounding)


def _name(table: PatchingTable, cell: Any) -> str:
    values = cell if isinstance(cell, tuple) and len(table.axes) > 1 else (cell,)
    return ", ".join(f"{axis} {table.named(axis, value)}" for axis, value in zip(table.axes, values, strict=False))


def _note(claim: Claim, outcomes: list[Outcome]) -> str:
    """That the model does not do the task, if it does not: what carries an answer that it does not give?"""
    notes = [below_threshold(outcome.provenance.get("top_1")) for outcome in outcomes if isinstance(outcome, PatchingTable)]
    return next(filter(None, notes), "")
