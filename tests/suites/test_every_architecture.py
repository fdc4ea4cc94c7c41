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

KINDS = {"gpt2": "gpt2", "gpt_neox": "gpt_neox", "llama": "llama", "mamba": "mamba", "mamba2": "mamba2", "falcon_mamba": "falcon_mamba", "jamba": "jamba", "rwkv": "rwkv", "rwkv7": "rwkv7"}  # fmt: skip
SHORT: dict[str, Any] = {"examples": 3, "baseline": 2}
INDUCTION: dict[str, Any] = {"distances": [8], "distance": 8, "prefix": 2}


def test_every_graph_is_tried() -> None:
    assert set(KINDS) == set(content.names("graphs"))


@pytest.mark.parametrize("suite", ["induction", "ioi"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_suite_runs_and_finds_nothing_in_random_weights(kind: str, suite: str) -> None:
    options: dict[str, Any] = INDUCTION if suite == "induction" else {}
    model = tiny.model(kind, dtype=torch.float32, vocab=61 if suite == "induction" else 2000)
    found = ct.run(suite, model, **SHORT, **options)
    assert found.tables and found.summary.text()


@pytest.mark.parametrize("suite", ["induction", "ioi"])
@pytest.mark.parametrize("kind", ["mamba2", "jamba", "rwkv", "rwkv7"])
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


def test_a_hybrid_has_both_halves() -> None:
    found = ct.run("induction", tiny.model("jamba", dtype=torch.float32), **SHORT, **INDUCTION)
    assert {"states_state_by_position", "heads_heads_to_logits"} <= set(found.tables)
