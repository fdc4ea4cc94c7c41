"""Discoveries as files: in EAP-IG's layout, and read back with their model and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry import CircuitryError
from circuitry.discovery import eap_ig, read
from circuitry.discovery.curve import Curve
from circuitry.discovery.eap_ig_names import edge_names
from circuitry.discovery.result import Discovery

TASK = ct.task("induction", distance=4, examples=8)
NAMES = ("gpt_neox", "mamba")


@pytest.fixture(scope="module", params=NAMES)
def found(request: pytest.FixtureRequest) -> Discovery:
    made: Discovery = ct.discover(ct.load(f"bundled:{request.param}"), TASK, verify=4, progress=False)
    return made


@pytest.fixture(scope="module")
def saved(found: Discovery, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("saved") / "found.json"
    found.save(file, edges=30)
    return file


def test_without_its_model_it_has_the_same_table_ranking_agreement_and_circuit(found: Discovery, saved: Path) -> None:
    again = read(saved)
    assert again.table.frame.equals(found.table.frame)
    assert again.ranking.equals(found.ranking)
    assert again.agreement.equals(found.agreement)
    assert np.array_equal(again.mean, found.mean)
    assert again.circuit(30).to_json() == found.circuit(30).to_json()
    assert again.text() == found.text() and again.provenance["task"] == json.loads(json.dumps(found.provenance["task"]))


def test_with_its_model_it_can_be_run(found: Discovery, saved: Path) -> None:
    again = read(saved, found.question.model, TASK)
    few: dict[str, Any] = {"fractions": (0.05, 1.0), "random": 1}
    assert again.curves(**few).frame.equals(found.curves(**few).frame)


def test_what_needs_the_model_says_so(saved: Path) -> None:
    again = read(saved)
    with pytest.raises(CircuitryError, match=r"read without its model and task.*give both"):
        _ = again.curve
    with pytest.raises(CircuitryError, match="by prompt of the best cells only"):
        again.inclusion(10)
    with pytest.raises(CircuitryError, match="both the model and the task, or neither"):
        read(saved, task=TASK)


def test_another_task_or_model_is_refused(found: Discovery, saved: Path) -> None:
    with pytest.raises(CircuitryError, match="about another task"):
        read(saved, found.question.model, TASK.but(seed=1))
    other = ct.load(f"bundled:{NAMES[found.question.model.name.endswith(NAMES[0])]}")
    with pytest.raises(CircuitryError, match="about another model"):
        read(saved, other, TASK)


def test_scores_are_summed_over_positions_and_positive_where_an_edge_is_needed(found: Discovery, saved: Path) -> None:
    data = json.loads(saved.read_text())
    assert set(data) == {"cfg", "nodes", "edges", "circuitry"}
    scores = [edge["score"] for edge in data["edges"].values()]
    assert sorted(scores) == pytest.approx(sorted(-found.mean.sum(1)))
    inside = sum(edge["in_graph"] for edge in data["edges"].values())
    assert inside == len({text for text, _ in found.circuit(30).cells})


def test_a_transformers_file_is_one_of_eap_ig(tmp_path: Path) -> None:
    model = ct.load("bundled:gpt_neox")
    found = ct.discover(model, TASK, verify=0, progress=False)
    for suffix in (".json", ".pt"):
        found.save(tmp_path / f"graph{suffix}", edges=30)
        file = eap_ig.read(tmp_path / f"graph{suffix}", model.graph)
        assert file.scores.keys() == set(edge_names(model.graph).values())
        best = max(file.scores, key=lambda edge: file.scores[edge])
        assert found.ranking["edge"][0] == str(best) and best in file.in_graph
    data = json.loads((tmp_path / "graph.json").read_text())
    assert data["cfg"]["d_model"] == 128 and data["nodes"].keys() >= {"input", "a0.h0", "m0", "logits"}


def test_nodes_are_saved_too_and_not_as_tensors(tmp_path: Path) -> None:
    found = ct.discover(ct.load("bundled:mamba"), TASK, level="node", verify=2, confirm=False, progress=False)
    found.save(tmp_path / "nodes.json")
    again = read(tmp_path / "nodes.json")
    assert again.ranking.equals(found.ranking) and again.confirming is again.question
    with pytest.raises(CircuitryError, match=r"save these nodes of mamba as .json"):
        found.save(tmp_path / "nodes.pt")
    with pytest.raises(CircuitryError, match=r"ends with .json or .pt"):
        found.save(tmp_path / "nodes.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "holds no discovery"),
        ('{"cfg": {}, "nodes": {}, "edges": {}}', "eap_ig.read"),
        ('{"circuitry": {"format": 2}}', "expected format 1, got 2"),
        ('{"circuitry": {"format": 1}}', "is damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(CircuitryError, match=message):
        read(tmp_path / "x.json")


def test_a_curve_survives_json(found: Discovery) -> None:
    curve = found.curves(fractions=(0.1, 1.0), random=1)
    again = Curve.of(json.loads(json.dumps(curve.data)))
    assert again.text() == curve.text() and np.array_equal(again.frame, curve.frame)
    assert again.cpr_interval == curve.cpr_interval


def test_a_curve_needs_no_random_circuits(found: Discovery) -> None:
    curve = found.curves(fractions=(0.1, 1.0), random=0)
    assert np.isnan(curve.random_cpr) and np.isnan(curve.frame["random"]).all() and curve.cpr > 0
