"""The claims file of a run: what it says holds on the run's own prompts, and on others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import circuitry as ct
from circuitry.claims import claims_of
from circuitry.claims.reading import parse_claims
from circuitry.suites import SuiteResult
from support.command import called, circuitry
from support.no_pictures import no_pictures
from support.short_discovery import shorten

OPTIONS = {"examples": 12, "baseline": 0}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "induction-mamba": ("induction", "compiled:mamba", {"distances": [8], "distance": 8, **OPTIONS}),
    "induction-transformer": ("induction", "compiled:transformer", {"distances": [8], "distance": 8, **OPTIONS}),
    "ioi": ("ioi", "compiled:ioi", {"template": 0, **OPTIONS}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs by name."""
    out = tmp_path_factory.mktemp("runs")
    with no_pictures():
        results = {
            name: ct.run(suite, ct.load(model), out=out / name, **options) for name, (suite, model, options) in RUNS.items()
        }
    return {name: Path(result.record["folder"]) for name, result in results.items()}


@pytest.mark.parametrize("name", RUNS)
def test_every_component_is_a_claim_and_holds_again(name: str, runs: dict[str, Path]) -> None:
    text, result = claims_of(runs[name]), SuiteResult.load(runs[name])
    claims = parse_claims(text)
    for component in result.summary.components:
        assert any(component.node in claim.text and component.role in claim.text for claim in claims.claims), component
    assert "left out" not in text and any(claim.quantity.kind == "accuracy" for claim in claims.claims)
    assert {claim.quantity.model.weights for claim in claims.claims} == {result.record["identity"]["weights"]}
    for seed in (None, 1):
        checked = ct.check(claims, seed=seed)
        assert checked.verdicts == ["holds"] * len(claims.claims), checked


def test_a_claims_estimate_is_the_number_of_the_run(runs: dict[str, Path]) -> None:
    """The path that is written measures the very cell that the summary is from."""
    result = SuiteResult.load(runs["induction-mamba"])
    checked = ct.check(claims_of(runs["induction-mamba"]))
    values = {
        one.claim.text.split(",")[0] + one.claim.text.split(",")[1]: one.checks[0].parts[0].estimate.value
        for one in checked.checked
        if "," in one.claim.text
    }
    shown = sorted(round(component.normalized, 4) for component in result.summary.components)
    assert shown and all(any(abs(value - number) < 1e-3 for value in values.values()) for number in shown)


def test_the_circuit_of_the_ioi_suite_is_scored_again(runs: dict[str, Path]) -> None:
    [claim] = [claim for claim in parse_claims(claims_of(runs["ioi"])).claims if claim.quantity.kind == "faithfulness"]
    result = SuiteResult.load(runs["ioi"])
    assert set(claim.quantity.what) == {component.node for component in result.summary.components}
    said = re.search(r"faithfulness (\d\.\d+)", result.summary.verdict)
    assert said and f"{float(said[1]):.2f}" in claim.text


def test_the_command_writes_what_check_reads(runs: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "claims.yaml"
    assert f"written: {file.resolve()}" in circuitry("claims", str(runs["induction-transformer"]), "--out", str(file))
    assert file.read_text() == circuitry("claims", str(runs["induction-transformer"])) == claims_of(runs["induction-transformer"])
    assert called("claims", str(tmp_path / "nowhere"))[0] == 2


def test_a_discoverys_circuit_is_a_claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    with no_pictures():
        ct.discover(
            ct.load("compiled:mamba"),
            ct.task("induction", distance=4, examples=8),
            method="eap",
            verify=4,
            edges=30,
            out=tmp_path / "found",
        )
    claims = parse_claims(claims_of(tmp_path / "found"))
    assert [claim.quantity.kind for claim in claims.claims] == ["faithfulness"]
    assert ct.check(claims).verdicts == ["holds"]
