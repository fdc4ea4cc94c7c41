"""The paper's numbers as data, their rules, and the run that measures them, on bundled models."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli.universality import app
from circuitry.errors import CircuitryError, ModelError
from circuitry.studies.replication import measure
from circuitry.studies.replication import run as command
from circuitry.studies.replication.published import Number, Rule, published
from circuitry.studies.replication.run import PARTS, Replication, replicate
from support.some_matches import found as made_up

BUNDLED = ("bundled:gpt_neox", "bundled:mamba")


def test_the_data_have_every_number_of_the_paper() -> None:
    numbers = published().numbers
    values = [number.value for number in numbers if not number.table]
    assert values == [0.74, 0.76, 0.81, 0.30, -0.22, 0.14, 0.60]
    counts = {name: sum(number.table == name for number in numbers) for name in published().tables}
    assert counts == {"Table 1": 5 * 24, "Table 2": 5 * 5, "Table 3": 5 * 3, "Table 4": 5 * 3}
    assert len({number.name for number in numbers}) == len(numbers) == 182
    assert all(number.where and number.rule.absolute > 0 for number in numbers)


def test_the_paper_s_findings_are_in_its_numbers() -> None:
    """A slip in copying would break these: layer 17 stands out, and so do B+1, B and A in Tables 2, 3 and 4."""
    rows = {(n.table, n.distance, n.at): n.value for n in published().numbers if n.table}
    for table, at in (("Table 1", 17), ("Table 2", "B+1"), ("Table 3", "B"), ("Table 4", "A")):
        for distance in (8, 16, 32, 64, 128):
            row = {key: value for (name, d, key), value in rows.items() if (name, d) == (table, distance)}
            assert min(row, key=lambda key: row[key]) == at and row[at] < -8
            assert all(value > -2.5 for key, value in row.items() if key != at)


@pytest.mark.parametrize(
    ("bound", "value", "measured", "wanted"),
    [
        (False, -8.0, -6.0, True),
        (False, -8.0, -5.9, False),
        (False, -8.0, -10.0, True),
        (False, 0.1, 1.1, True),
        (False, 0.1, 1.2, False),
        (False, 0.1, math.nan, False),
        (True, 8.0, 6.0, True),
        (True, 8.0, 5.9, False),
        (True, 8.0, 99.0, True),
    ],
)
def test_the_rule(bound: bool, value: float, measured: float, wanted: bool) -> None:
    assert Number("n", "here", value, Rule("logit", 1.0, 0.25), bound).passes(measured) is wanted


def test_tables_are_measured_where_the_model_has_their_layers() -> None:
    found = measure.tables(ct.load("bundled:mamba"), examples=4, distances=[8, 16])
    assert len(found) == 2 * (4 + 5 + 3 + 3)
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=16, examples=4)
    state = ct.patch(model, task, "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state", baseline=0).mean()
    strongest = state.abs().idxmax()
    for layer, value in state.items():
        assert found[f"Table 1, distance 16, layer {layer}"] == pytest.approx(value)
    path = f"conv_in[{strongest}] @ {{position}} -> logits freezing ssm_state except ssm_state[{strongest}]"
    of_a = ct.task("induction", distance=16, examples=4, corruption="A")
    table4 = ct.patch(model, of_a, path, axes={"position": ["A", "B", "B+1"]}, baseline=0).mean()
    for position, value in table4.items():
        assert found[f"Table 4, distance 16, position {position}"] == pytest.approx(value)
    assert found["Table 3, distance 8, position A"] == 0, "[A] is the same in both prompts"


def test_layer_17_is_the_paper_s_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[str] = []

    def seen(_: Any, __: Any, path: str, **___: Any) -> Any:
        paths.append(path)
        raise KeyboardInterrupt

    model = ct.load("bundled:mamba")
    monkeypatch.setattr(measure, "patch", seen)
    monkeypatch.setattr(model.graph, "sizes", {**model.graph.sizes, "layer": 24})
    only = {name: table for name, table in published().tables.items() if name == "Table 2"}
    monkeypatch.setattr(measure, "published", lambda: type("Only", (), {"tables": only, "numbers": published().numbers}))
    with pytest.raises(KeyboardInterrupt):
        measure.tables(model, distances=[8])
    assert paths == ["ssm_in[17] @ {position} -> logits freezing ssm_state except ssm_state[17]"]


def test_features_come_from_the_experiment() -> None:
    result = made_up()
    found = measure.features(result)
    frame = result.frame[result.frame["direction"] == "forward"].set_index("comparison")
    assert found["mean MPPC, another architecture"] == pytest.approx(frame.loc["architecture", "mean"])
    assert found["mean MPPC, another SAE seed"] == pytest.approx(frame.loc["SAE seed", "mean"])
    row = result.marginal.set_index("comparison").loc["architecture"]
    assert found["difference to the seed variant, lower end of the 90 % interval"] == row["low"]
    assert found["share of features with a difference near zero"] == row["within ±0.05"]
    assert len(found) == 7


def test_the_command_on_bundled_models_says_that_they_are_expected_to_differ(tmp_path: Path) -> None:
    words = [
        "replicate",
        "--models",
        *BUNDLED,
        "--only",
        "tables",
        "--examples",
        "2",
        "-o",
        "distances=8,16",
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "these are not the paper's models, so numbers are expected to differ" in done.output
    lines = [line for line in done.output.splitlines() if line.startswith(("pass", "differs"))]
    assert len(lines) == 2 * (4 + 5 + 3 + 3) and any(line.startswith("pass") for line in lines)
    assert "152 not measured" in done.output and "  mean: within 0.03\n  share: within 0.05\n" in done.output
    assert (tmp_path / "replication.csv").read_text().count("not measured") == 152


def test_features_are_measured_by_the_experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def experiment(models: Any, **options: Any) -> Any:
        asked.update(options, models=models)
        return made_up()

    monkeypatch.setattr(command, "experiment", experiment)
    found = replicate(BUNDLED, only=["features"], out=tmp_path, tokens=99)
    assert asked["models"] == BUNDLED and asked["tokens"] == 99 and asked["seed_variant"] is None
    assert len(found.measured) == 7 and "expansion" not in asked
    replicate(only=["features"], out=tmp_path)
    assert asked["models"] == tuple(published().paper["models"]) and asked["expansion"] == 32
    assert asked["seed_variant"] == "EleutherAI/pythia-160m-seed1" and asked["match_tokens"] == 1_000_000


def test_models_that_cannot_be_downloaded_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, **_: Any) -> Any:
        raise ModelError(f"{name} could not be downloaded")

    monkeypatch.setattr(command, "load", offline)
    found = replicate(only=["tables"], out=tmp_path)
    assert found.of_paper and found.why == {"tables": "state-spaces/mamba-130m-hf could not be downloaded"}
    assert "tables: not measured: state-spaces/mamba-130m-hf could not be downloaded" in found.text()
    assert "182 not measured" in found.text() and "expected to differ" not in found.text()
    with pytest.raises(ModelError, match="bundled:mamba could not be downloaded"):
        replicate(BUNDLED, only=["tables"], out=tmp_path)


def test_verdicts() -> None:
    first, second, *_ = published().numbers
    found = Replication({first.name: first.value + 0.03, second.name: second.value - 0.031}, BUNDLED, {})
    assert found.frame["verdict"].tolist()[:3] == ["pass", "differs", "not measured"]
    assert "1 pass, 1 differs, 180 not measured" in found.text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": BUNDLED, "only": ["figures"]}, "expected tables or features, got 'figures'"),
        ({"models": BUNDLED[:1]}, "expected two models, a Transformer and a Mamba"),
        ({"tokenz": 5}, "no setting 'tokenz'"),
        ({"models": BUNDLED[::-1], "only": PARTS[:1]}, "bundled:gpt_neox has no state; Tables 1 to 4 need a Mamba"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match=message):
        replicate(out=tmp_path, **arguments)
