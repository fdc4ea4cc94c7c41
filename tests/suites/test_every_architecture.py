"""The shipped suites run on every architecture there is a graph for: they ask for roles, not for names."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch

import circuitry as ct
from circuitry import content
from support import tiny

_KIND = {"deepseek": "deepseek_v3"}
KINDS = [_KIND.get(name, name) for name in content.names("graphs")]
CHANGES: dict[str, dict[str, Any]] = {"gpt_neo": {"window_size": 64}, "persimmon": {"seed": 1}}
"""Suites refuse heads whose window is shorter than the prompt, and a random model whose only heads above the threshold are in layer 0."""
SHORT: dict[str, Any] = {"examples": 3, "baseline": 2}
INDUCTION: dict[str, Any] = {"distances": [8], "distance": 8, "prefix": 2}


@pytest.mark.parametrize("suite", ["induction", "ioi"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_suite_runs_and_finds_nothing_in_random_weights(kind: str, suite: str) -> None:
    options: dict[str, Any] = INDUCTION if suite == "induction" else {}
    changes = CHANGES.get(kind, {})
    model = tiny.model(kind, dtype=torch.float32, vocab=61 if suite == "induction" else 2000, **changes)
    found = ct.run(suite, model, **SHORT, **options)
    assert found.tables and found.summary.text()


@pytest.mark.parametrize("suite", ["induction", "ioi"])
@pytest.mark.parametrize("kind", ["mamba2", "jamba", "falcon_h1", "zamba2", "rwkv", "recurrent_gemma", "qwen3_next"])
def test_a_suite_goes_through_to_the_end(kind: str, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a threshold that anything passes, so that every table, the circuit and the scores are made."""
    for module in ("keys", "senders", "induction_states", "ioi_heads"):
        monkeypatch.setattr(importlib.import_module(f"circuitry.suites.{module}"), "KEY_EFFECT", -math.inf)
    options: dict[str, Any] = INDUCTION if suite == "induction" else {}
    model = tiny.model(kind, dtype=torch.float32, vocab=61 if suite == "induction" else 2000)
    found = ct.run(suite, model, **SHORT, **options)
    assert found.summary.components and found.circuit is not None and found.circuit.nodes
    for one in found.summary.components:
        share = found.tables[one.table].normalized()[one.cell if len(one.cell) > 1 else one.cell[0]]
        assert math.isclose(one.normalized, float(share)), one


def test_convolutions_without_a_state_are_named() -> None:
    """Beside heads they are live; where there is nothing else, there is nothing that these suites measure."""
    found = ct.run("induction", tiny.model("lfm2", dtype=torch.float32), **SHORT, **INDUCTION)
    assert "heads_to_logits" in found.tables and "the model's convolutions, which have no state" in found.summary.text()
    alone = tiny.model("lfm2", dtype=torch.float32, full_attn_idxs=[])
    with pytest.raises(ct.CircuitryError, match="measures attention heads and recurrent states, and this model has neither"):
        ct.run("induction", alone, **SHORT, **INDUCTION)


def test_a_hybrid_has_both_halves() -> None:
    found = ct.run("induction", tiny.model("jamba", dtype=torch.float32), **SHORT, **INDUCTION)
    assert {"states_state_by_position", "heads_heads_to_logits"} <= set(found.tables)
