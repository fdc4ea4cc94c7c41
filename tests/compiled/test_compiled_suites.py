"""The shipped suites recover the circuits of models that were built with them: all components, all edges, and nothing else."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import circuitry as ct
from circuitry.compiled import gated_delta, mamba, mamba2, rwkv, transformer, truth
from circuitry.models.model import wrap
from circuitry.suites import SuiteResult
from support.compiled import SMALL
from support.pages import ROOT, difference, outputs

MAKERS: dict[str, Callable[..., Any]] = {
    "gated_delta": gated_delta.build,
    "mamba": mamba.build,
    "mamba2": mamba2.build,
    "rwkv": rwkv.build,
    "transformer": transformer.build,
}
FOUND = ["ioi", "mamba", "rwkv", "transformer"]
EDGES = {
    "mamba": {
        ("conv_in[1] @ A", "ssm_in[1] @ B", "[A] lag 1"),
        ("conv_in[1] @ B", "ssm_in[1] @ B", "[B] lag 0"),
        ("ssm_in[1] @ B", "ssm_state[1] @ B+5", "kept in the state"),
        ("ssm_state[1] @ B+5", "logits", ""),
    },
    "rwkv": {
        ("shift_in[1] @ A", "wkv_in[1] @ B", "[A] lag 1"),
        ("shift_in[1] @ B", "wkv_in[1] @ B", "[B] lag 0"),
        ("wkv_in[1] @ B", "wkv_state[1] @ B+5", "kept in the state"),
        ("wkv_state[1] @ B+5", "logits", ""),
    },
    "transformer": {
        ("token @ A", "head[0,1] @ B", "v"),
        ("head[0,1] @ B", "k of these heads @ B", ""),
        ("k of these heads @ B", "head[1,0]", ""),
        ("token @ B", "head[1,0]", "v"),
        ("head[1,0]", "logits", ""),
    },
    "ioi": {
        ("token @ S1", "head[0,1] @ S2", "k"),
        ("head[0,1] @ S2", "v of S-inhibition @ S2", ""),
        ("v of S-inhibition @ S2", "head[1,0] @ END", ""),
        ("head[1,0] @ END", "q of answering heads @ END", ""),
        ("q of answering heads @ END", "head[2,2] @ END", ""),
        ("token @ IO", "head[2,2] @ END", "v"),
        ("head[2,2] @ END", "logits", ""),
    },
}
EDGES["mamba2"] = EDGES["gated_delta"] = EDGES["mamba"]
"""What each suite's circuit has to show, as it draws it: a hub stands for a port of the heads after it."""


@functools.cache
def run(name: str) -> SuiteResult:
    if name == "ioi":
        return ct.run("ioi", ct.load("compiled:ioi"), examples=12)
    model = wrap(MAKERS[name](SMALL), name=f"compiled:{name}")
    return ct.run("induction", model, distances=[8], distance=8, prefix=2, examples=12)


@pytest.mark.parametrize("name", FOUND)
def test_a_suite_names_exactly_the_components_of_the_truth(name: str) -> None:
    """Precision and recall 1, with role and position."""
    summary = run(name).summary
    found = [(one.node, one.role, one.position) for one in summary.components]
    assert len(found) == len(set(found))
    assert set(found) == {(one.node, one.role, one.position) for one in truth(name).components}
    assert summary.explained == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", EDGES)
def test_a_suite_draws_exactly_the_edges_of_the_truth(name: str) -> None:
    circuit = run(name).circuit
    assert circuit is not None
    assert {(edge.source, edge.target, edge.label) for edge in circuit.edges} == EDGES[name]


@pytest.mark.parametrize("name", EDGES)
def test_a_suite_says_where_the_token_is_taken_up(name: str) -> None:
    summary = run(name).summary
    token = "IO" if name == "ioi" else "B"
    assert truth(name).offsets[token] == 0 and summary.offset == token


def test_the_ioi_circuit_is_faithful_and_complete_and_no_part_of_it_is_idle() -> None:
    scores = run("ioi").tables["scores"].mean()
    whole = scores["nothing kept"]
    assert scores["circuit"] == pytest.approx(0, abs=1e-3 * abs(whole))
    assert all(abs(scores[f"circuit without all {one.role}"]) > 0.9 * abs(whole) for one in truth("ioi").components)


@pytest.mark.parametrize(("name", "state"), [("mamba2", "ssm_state[1,2]"), ("gated_delta", "ssm_state[1,1]")])
def test_the_suite_names_a_layer_where_states_have_heads(name: str, state: str) -> None:
    """The truth names heads; a suite patches all heads of a layer together."""
    named = {(one.node, one.role, one.position) for one in run(name).summary.components}
    assert named == {(_layer(one.node), one.role, one.position) for one in truth(name).components}
    assert {one.node for one in truth(name).components if one.role == "state"} == {state}


def _layer(node: str) -> str:
    return re.sub(r"^(ssm_state\[\d+),\d+", r"\1", node)


def test_the_page_shows_what_its_code_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = [difference(block.body, printed) for block, printed in outputs(ROOT / "docs/compiled.md")]
    assert shown and not any(shown), "\n".join(shown)
