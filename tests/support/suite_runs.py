"""Runs of the induction suite that tests share, each made once."""

from __future__ import annotations

import functools

import circuitry as ct
from circuitry.suites import SuiteResult
from support import tiny


@functools.cache
def result(name: str) -> SuiteResult:
    return ct.run("induction", ct.load(f"bundled:{name}"), distances=[8], distance=10, examples=12, baseline=4)


@functools.cache
def random_model(kind: str, seed: int = 0) -> ct.Model:
    made: ct.Model = tiny.model(kind, seed=seed)
    return made
