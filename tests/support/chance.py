"""How often a suite names something in random models, and how often its level lets it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from scipy.stats import poisson

import circuitry as ct
from circuitry.errors import CircuitryError
from circuitry.suites import SuiteResult
from circuitry.thresholds import SIGNIFICANT
from support import tiny
from support.suite_runs import random_model

FOLLOW_UPS = ("ioi_heads._movers", "ioi_states.score", "induction_heads.reads", "induction_states._writes")
SEEDS = 3
RARE = 1e-3


class Named(CircuitryError):
    """The suite begins to follow up what it has named. Any other exception would be taken for a fault in a user's file."""


def by_chance(suite: str, tested: dict[str, int], **options: Any) -> list[SuiteResult]:
    """The runs of a suite on random models of every kind that name nothing. Fails if more name something than the level allows.

    ``tested``: how many tables decide about heads, and about states; each names something by chance in at most SIGNIFICANT of
    the runs. All kinds count together, since a few seeds of one kind show nothing, and its chance is the same in all.
    """
    empty, named, allowed = list[SuiteResult](), list[tuple[str, int]](), 0.0
    with pytest.MonkeyPatch.context() as patched:
        for name in FOLLOW_UPS:
            module, function = name.split(".")
            patched.setattr(importlib.import_module(f"circuitry.suites.{module}"), function, _stop)
        for kind in tiny.CONFIGS:
            for seed in range(SEEDS):
                model = random_model(kind, seed)
                allowed += SIGNIFICANT * sum(count for role, count in tested.items() if model.graph.by_role(role))
                try:
                    empty.append(ct.run(suite, model, examples=20, **options))
                except Named:
                    named.append((kind, seed))
    assert poisson.sf(len(named) - 1, allowed) > RARE, f"{len(named)} runs name something, {allowed:.1f} are expected: {named}"
    return empty


def nothing_is_named(found: SuiteResult, circuit: str) -> None:
    """The summary says that it found no circuit, or, where effects are too skewed for the examples, that they cannot tell."""
    few, none = f"too few examples to say whether an {circuit} circuit exists", f"no {circuit} circuit was found"
    text = found.summary.text()
    if found.summary.undecided:
        assert few in text  # of a hybrid, heads may be too few to tell about while states are not
    else:
        assert none in text and few not in text, text


def _stop(*_: Any, **__: Any) -> None:
    raise Named
