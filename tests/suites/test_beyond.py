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
    assert len(edges) and not any(known(edge, result.summary.components) for edge in edges)
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
    ("edge", "is_known"),
    [
        ("head[0,3] -> head[1,0].k", True),
        ("embed -> head[0,3].v", True),
        ("head[1,0] -> logits", True),
        ("head[1,0] -> mlp[2]", False),
        ("head[0,1] -> head[1,0].k", False),
        ("ssm_state[3,1].read -> ssm_out[3,1]", False),
    ],
)
def test_an_edge_is_known_if_both_ends_are_components(edge: str, is_known: bool) -> None:
    components = [Component("head[1,0]", "induction head", 1.0, "END"), Component("head[0,3]", "writes the k", 1.0, "B")]
    assert known(edge, components) is is_known


def test_how_many_to_verify_is_a_number() -> None:
    with pytest.raises(CircuitryError, match="discover"):
        ct.run("induction", ct.load("bundled:gpt_neox"), discover=-1)
