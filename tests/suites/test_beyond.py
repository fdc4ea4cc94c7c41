"""A suite's run can ask discovery for edges that the suite did not look for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import circuitry as ct
from circuitry.errors import CircuitryError
from circuitry.suites import SuiteResult
from circuitry.suites.beyond import TABLE, TITLE, known
from circuitry.suites.result import Component

OPTIONS: dict[str, Any] = {"distances": [8], "distance": 8, "examples": 24}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> SuiteResult:
    out = tmp_path_factory.mktemp("runs")
    return ct.run("induction", ct.load("bundled:gpt_neox"), out=out, discover=30, **OPTIONS)


def test_new_edges_are_a_table_of_the_run(result: SuiteResult) -> None:
    table = result.tables[TABLE]
    edges = table.frame["edge"].unique()
    assert len(edges) and not any(known(ct.graph("gpt_neox"), edge, result.summary.components) for edge in edges)
    assert any("mlp" in edge for edge in edges)  # the suite looks at heads only
    assert table.statistics()["q"].max() < 0.2 and TITLE in table.provenance["title"]


def test_the_page_and_the_summary_say_so(result: SuiteResult) -> None:
    folder = Path(result.record["folder"])
    assert TITLE in (folder / "report.html").read_text(encoding="utf-8")
    assert any("discovery verified 30 edges at positions" in note for note in result.summary.notes)


def test_a_complete_run_is_read_with_its_table(result: SuiteResult) -> None:
    folder = Path(result.record["folder"])
    again = ct.run("induction", ct.load("bundled:gpt_neox"), out=folder.parent, discover=30, **OPTIONS)
    assert again.record["folder"] == str(folder) and TABLE in again.tables
    without = ct.run("induction", ct.load("bundled:gpt_neox"), **OPTIONS)
    assert TABLE not in without.tables


@pytest.mark.parametrize(
    ("name", "edge", "is_known"),
    [
        ("gpt2", "head[0,3] -> head[1,1].k", True),
        ("gpt2", "embed -> head[0,3].v", True),
        ("gpt2", "head[1,1] -> logits", True),
        ("gpt2", "head[1,1] -> mlp[2]", False),
        ("gpt2", "head[0,1] -> head[1,1].k", False),
        ("gpt2", "head[1,10] -> logits", False),
        ("gpt2", "head[11,1] -> logits", False),
        ("mamba2", "ssm_state[3,1].read -> ssm_out[3,1]", True),
        ("mamba2", "ssm_in[3].B -> ssm_state[3]", True),
        ("mamba2", "embed -> conv_in[3]", True),
        ("mamba2", "mixer_out[1] -> conv_in[3]", False),
        ("mamba2", "conv_tap[13,0] -> ssm_in[13]", False),
        ("rwkv", "wkv_in[2].value -> wkv_state[2]", True),
        ("rwkv", "shift_tap[2,1].key -> wkv_in[2].key", True),
        ("rwkv", "mlp_tap[2,1].key -> mlp_hidden[2]", False),
    ],
)
def test_an_edge_is_known_if_both_ends_belong_to_components(name: str, edge: str, is_known: bool) -> None:
    nodes = {"gpt2": ("head[1,1]", "head[0,3]"), "mamba2": ("ssm_state[3]",), "rwkv": ("wkv_state[2]", "shift_tap[2,1]")}
    components = [Component(node, "found", 1.0, "END") for node in nodes[name]]
    assert known(ct.graph(name), edge, components) is is_known


def test_how_many_to_verify_is_a_number() -> None:
    with pytest.raises(CircuitryError, match="discover"):
        ct.run("induction", ct.load("bundled:gpt_neox"), discover=-1)
