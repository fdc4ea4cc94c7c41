"""The shipped suites run on every architecture there is a graph for: they ask for roles, not for names."""

from __future__ import annotations

import importlib
import math
from typing import Any

import pytest
import torch

import circuitry as ct
from circuitry import content
from circuitry.suites import SuiteResult
from support import tiny

_KIND = {"deepseek": "deepseek_v3"}
KINDS = [_KIND.get(name, name) for name in content.names("graphs")]
SHORT: dict[str, Any] = {"examples": 3, "baseline": 2}
INDUCTION: dict[str, Any] = {"distances": [8], "distance": 8, "prefix": 2}
WINDOWS: dict[str, dict[str, Any]] = {
    "gpt_neo": {"window_size": 5},
    "mistral": {"sliding_window": 5},
    "gemma2": {"sliding_window": 5},
    "recurrent_gemma": {"attention_window_size": 5},
}
"""Windows shorter than the prompts of both suites: of every layer, or of some."""
HEADS_IN_LAYER_0: dict[str, dict[str, Any]] = {
    "persimmon": {"layers": 1},
    "jamba": {"attn_layer_period": 4, "attn_layer_offset": 0},
}
"""In the second, later layers have states."""


def run(suite: str, kind: str, **changes: Any) -> SuiteResult:
    options: dict[str, Any] = INDUCTION if suite == "induction" else {}
    model = tiny.model(kind, dtype=torch.float32, vocab=61 if suite == "induction" else 2000, **changes)
    return ct.run(suite, model, **SHORT, **options)


@pytest.fixture
def anything_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold that every cell passes, so that every table, the circuit and the scores are made."""
    for module in ("keys", "senders", "induction_states", "ioi_heads"):
        monkeypatch.setattr(importlib.import_module(f"circuitry.suites.{module}"), "KEY_EFFECT", -math.inf)


@pytest.mark.parametrize("suite", ["induction", "ioi"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_suite_runs_on_random_weights(kind: str, suite: str) -> None:
    found = run(suite, kind)
    assert found.tables and found.summary.text()


@pytest.mark.parametrize("suite", ["induction", "ioi"])
@pytest.mark.parametrize("kind", ["mamba2", "jamba", "falcon_h1", "zamba2", "rwkv", "rwkv7", "recurrent_gemma", "qwen3_next"])
@pytest.mark.usefixtures("anything_passes")
def test_a_suite_goes_through_to_the_end(kind: str, suite: str) -> None:
    found = run(suite, kind)
    assert found.summary.components and found.circuit is not None and found.circuit.nodes
    for one in found.summary.components:
        share = found.tables[one.table].normalized()[one.cell if len(one.cell) > 1 else one.cell[0]]
        assert math.isclose(one.normalized, float(share)), one


@pytest.mark.parametrize("suite", ["induction", "ioi"])
@pytest.mark.parametrize("kind", WINDOWS)
@pytest.mark.usefixtures("anything_passes")
def test_what_is_beyond_a_window_is_left_out(kind: str, suite: str) -> None:
    found = run(suite, kind, **WINDOWS[kind])
    assert found.summary.components and found.circuit is not None and found.circuit.nodes
    reasons = [reason for table in found.tables.values() for reason in table.provenance.get("skipped", [])]
    reasons += [note for note in found.summary.notes if "not measured: " in note]
    assert any("out of reach" in reason or "nothing flows" in reason for reason in reasons)


@pytest.mark.usefixtures("anything_passes")
def test_heads_that_see_too_little_have_no_senders_and_the_summary_says_so() -> None:
    """Three windows of 4 tokens span 8 tokens, but no head at END reads a token of the pair or just after it."""
    found = run("induction", "mistral", sliding_window=4)
    assert set(found.tables) == {"heads_to_logits"} and {c.position for c in found.summary.components} == {""}
    assert "not measured: Where the induction heads' values are read ([B']) (out of reach: " in found.summary.text()


def test_a_distance_that_no_window_spans_is_left_out_unless_it_is_the_one_asked_for() -> None:
    model = tiny.model("mistral", dtype=torch.float32, sliding_window=4)
    found = ct.run("induction", model, **SHORT, distances=[8, 16], distance=8, prefix=2)
    assert set(found.tables["heads_to_logits"].frame["distance"]) == {8}
    assert "not measured: Heads to the logits at END, distance 16 (no token in which the prompts differ" in found.summary.text()
    assert "top-1 accuracy, distance 16" in found.summary.baseline
    with pytest.raises(ct.PathError, match="no token in which the prompts differ reaches"):
        ct.run("induction", model, **SHORT, distances=[8, 16], distance=16, prefix=2)


@pytest.mark.parametrize("suite", ["induction", "ioi"])
@pytest.mark.parametrize("kind", HEADS_IN_LAYER_0)
@pytest.mark.usefixtures("anything_passes")
def test_the_key_heads_may_all_be_in_layer_0(kind: str, suite: str) -> None:
    found = run(suite, kind, **HEADS_IN_LAYER_0[kind])
    assert {c.layer for c in found.summary.components if c.node.startswith("head[")} == {0}
    assert not [name for name in found.tables if "senders" in name]
    if (kind, suite) == ("persimmon", "ioi"):
        ports = found.tables["mover_ports"]
        assert set(ports.frame["port"]) == {"k", "v"} and any("'port': 'q'" in reason for reason in ports.provenance["skipped"])


@pytest.mark.usefixtures("anything_passes")
def test_a_query_in_layer_0_does_not_keep_the_others_from_being_measured() -> None:
    """Heads of every layer write the answer; the path from their queries names those of later layers only."""
    found = run("ioi", "persimmon")
    assert {c.layer for c in found.summary.components if c.position == "END"} == {0, 1, 2}
    assert set(found.tables["mover_ports"].frame["port"]) == {"q", "k", "v"}


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
