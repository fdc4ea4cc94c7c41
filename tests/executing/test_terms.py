"""Latents and errors as nodes: what the executors do with them, what the reference does by itself, and what must add up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import termed, tiny
from support.agreement import apart
from support.random_paths import experiment, few

EXACT = 1e-10


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@given(seed=st.integers(0, 10**9))
@few(12)
def test_any_experiment_on_terms(kind: str, seed: int) -> None:
    ours: Any = termed.model(kind)
    drawn = experiment(ours, seed, draw=termed.termed)
    others = ("rows", "reference") if drawn.plan.intervention.from_source else ("rows",)
    assert apart(ours, drawn.plan, drawn.prompts, drawn.metrics, drawn.memory, others) < EXACT, drawn
