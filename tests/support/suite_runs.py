"""Runs of the induction suite that tests share, each made once, and what tests read from tables."""

from __future__ import annotations

import functools

import pandas as pd

import circuitry as ct
from circuitry.results.table import PatchingTable
from circuitry.suites import SuiteResult
from support import tiny


@functools.cache
def result(name: str) -> SuiteResult:
    return ct.run("induction", ct.load(f"bundled:{name}"), distances=[8], distance=10, examples=12, baseline=4)


@functools.cache
def random_model(kind: str, seed: int = 0) -> ct.Model:
    made: ct.Model = tiny.model(kind, seed=seed)
    return made


def shares(table: PatchingTable | None) -> pd.Series:
    """The normalized effects of a table that must have been made."""
    assert table is not None
    return table.normalized()
