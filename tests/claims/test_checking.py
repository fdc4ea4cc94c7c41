"""Checking claims: what is measured, what is kept, what cannot be decided, and what the command says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry.claims import cache, measuring
from circuitry.models.model import Model
from support.command import called

STATES = "ssm_state[{layer}] @ B+3 -> logits freezing ssm_state"
TASK = {"name": "induction", "distance": 8, "examples": 12}
BASE = {"text": "A claim.", "model": "bundled:mamba", "task": TASK}
HOLDS = {**BASE, "effect": STATES, "cell": {"layer": 3}, "at_least": 0.5, "others": {"at_most": 0.5}}
FAILS = {**BASE, "effect": STATES, "cell": {"layer": 3}, "at_most": 0.5}
OPEN = {**BASE, "effect": STATES, "cell": {"layer": 9}, "at_most": 0.5}


@pytest.fixture(scope="module")
def mamba() -> dict[str, Model]:
    return {"bundled:mamba": ct.load("bundled:mamba")}


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Every path that is patched."""
    paths: list[Any] = []

    def recording(model: Model, task: ct.Task, path: Any, **options: Any) -> Any:
        paths.append(path)
        return real(model, task, path, **options)

    from circuitry.patching.experiment import patch as real

    monkeypatch.setattr("circuitry.patching.experiment.patch", recording)
    monkeypatch.setattr(measuring, "patch", recording)
    yield paths


def test_numbers_are_those_of_the_table(mamba: dict[str, Model]) -> None:
    """The estimates are the table's normalized effects, its means, and the difference of two cells."""
    task = ct.task("induction", distance=8, examples=12)
    table = ct.patch(mamba["bundled:mamba"], task, STATES, baseline=0, lint="prompts")
    change = {**BASE, "change": STATES, "at_most": 99}
    less = {**BASE, "effect": STATES, "cell": {"layer": 3}, "minus": {"cell": {"layer": 2}}, "at_least": 0}
    all_cells, changes, gap = (
        one.checks[0].parts for one in ct.check([{**BASE, "effect": STATES, "at_most": 2}, change, less], models=mamba).checked
    )
    assert [part.estimate.value for part in all_cells] == pytest.approx(table.normalized().to_numpy(), abs=1e-6)
    assert [part.cell for part in all_cells] == ["layer 0", "layer 1", "layer 2", "layer 3"]
    assert [part.estimate.value for part in changes] == pytest.approx(table.mean().to_numpy(), abs=1e-4)
    assert [part.estimate.value for part in gap] == pytest.approx([table.normalized()[3] - table.normalized()[2]], abs=1e-6)


def test_faithfulness_is_that_of_score(mamba: dict[str, Model]) -> None:
    task = {"name": "induction", "distance": 8, "examples": 6}
    scores = ct.score(
        mamba["bundled:mamba"],
        ct.task("induction", distance=8, examples=6),
        ["ssm_state[2]", "ssm_state[3]"],
        random=0,
        subsets=0,
    )
    claim = {**BASE, "task": task, "faithfulness": ["ssm_state[2]", "ssm_state[3]"], "at_least": 0}
    [part] = ct.check([claim], models=mamba).checked[0].checks[0].parts
    assert part.estimate.value == pytest.approx(scores.faithfulness, abs=1e-6)


def test_claims_on_one_sweep_are_measured_once_and_closed_paths_together(mamba: dict[str, Model], patched: list[Any]) -> None:
    closed = [{**BASE, "effect": f"ssm_state[{layer}] @ B+{k} -> logits", "at_most": 9} for layer in (2, 3) for k in (1, 3)]
    checked = ct.check([HOLDS, FAILS, {**FAILS, "at_most": None, "at_least": 0}.copy() | {"at_most": 9}, *closed], models=mamba)
    assert checked.verdicts[:2] == ["holds", "does not hold"] and len(checked.verdicts) == 7
    assert len(patched) == 2 and patched[0] == STATES and len(patched[1].paths) == 4


def test_what_is_kept_is_not_measured_again(
    mamba: dict[str, Model], patched: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ct.check([HOLDS, FAILS], models=mamba, cache=tmp_path)
    again = ct.check([HOLDS, FAILS], models=mamba, cache=tmp_path)
    assert len(patched) == 1 and again.data() == first.data() and len(list(tmp_path.iterdir())) == 1
    ct.check([HOLDS], models=mamba, cache=tmp_path, seed=1)
    assert len(patched) == 2, "other prompts"
    monkeypatch.setattr(measuring, "engine", lambda: "other code")
    ct.check([HOLDS], models=mamba, cache=tmp_path)
    assert len(patched) == 3, "other code"
    for file in tmp_path.iterdir():
        file.write_text("{")
    assert ct.check([HOLDS], models=mamba, cache=tmp_path).verdicts == ["holds"] and len(patched) == 4, "broken files"


def test_the_default_cache_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_folder().parts[-2:] == ("circuitry", "claims")


def test_a_claim_on_other_weights_is_not_decided(mamba: dict[str, Model]) -> None:
    weights = mamba["bundled:mamba"].fingerprint
    right = {**HOLDS, "model": {"name": "bundled:mamba", "weights": weights}}
    wrong = {**HOLDS, "model": {"name": "bundled:mamba", "weights": "0" * 16}}
    checked = ct.check([right, wrong], models=mamba)
    assert checked.verdicts == ["holds", "cannot be decided"]
    assert f"their digest is {weights}, expected {'0' * 16}" in checked.checked[1].numbers()[0]


def test_what_cannot_be_measured_is_not_decided_and_stops_nothing(mamba: dict[str, Model]) -> None:
    claims = [
        {**HOLDS, "model": "bundled:mambo"},
        {**HOLDS, "task": {"name": "induction", "distence": 8}},
        {**BASE, "effect": "ssm_stat[3] @ B -> logits", "at_least": 0},
        {**BASE, "effect": "ssm_state[3] @ B+3 -> logits", "at_least": 0.1},
        OPEN,
        HOLDS,
    ]
    checked = ct.check(claims, models=mamba)
    assert checked.verdicts == [*["cannot be decided"] * 3, "holds", "cannot be decided", "holds"]
    said = ["mambo", "no option 'distence'", "did you mean 'ssm_state'", "", "no cell with layer 9; there are 0, 1, 2, 3", ""]
    assert all(text in one.numbers()[0] for text, one in zip(said, checked.checked, strict=True))
    assert checked.code == 2 and checked.summary() == "2 of 6 claims hold; 4 cannot be decided"


def test_a_claim_on_seeds_counts_them(mamba: dict[str, Model]) -> None:
    claim = {**HOLDS, "seeds": {"count": 3, "holding": 2}}
    checked = ct.check([claim, {**claim, **FAILS}], models=mamba)
    assert checked.verdicts == ["holds", "does not hold"]
    assert [one.seed for one in checked.checked[0].checks] == [0, 1, 2]
    values = {one.parts[-1].estimate.value for one in checked.checked[0].checks}
    assert len(values) == 3, "each seed has prompts of its own"
    assert checked.checked[0].numbers()[0] == "holds in 3 of 3 seeds; at least 2 are claimed"


def test_the_command_ends_with_the_verdicts_code(tmp_path: Path) -> None:
    def run(*claims: dict[str, Any]) -> tuple[int, str]:
        file = tmp_path / "claims.yaml"
        file.write_text(json.dumps({"claims": claims}))
        code, out, _ = called("check", str(file), "--cache", str(tmp_path / "cache"), "--json", str(tmp_path / "v.json"))
        return code, out

    for claims, code in (([HOLDS], 0), ([HOLDS, FAILS, OPEN], 1), ([HOLDS, OPEN], 2)):
        ended, out = run(*claims)
        assert ended == code
        written = json.loads((tmp_path / "v.json").read_text())
        assert [one["verdict"] for one in written["claims"]] == [
            line.split("  ")[0] for line in out.splitlines() if "A claim." in line
        ]
    numbers = written["claims"][0]["checks"][0]["numbers"]
    assert len(numbers) == 4 and f"{numbers[3]['value']:.3g} ({numbers[3]['low']:.3g} to {numbers[3]['high']:.3g})" in out


def test_a_wrong_file_or_output_ends_with_2_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "claims.yaml").write_text("claims: [{text: a, at_leest: 1}]")
    code, out, err = called("check", str(tmp_path / "claims.yaml"))
    assert (code, out) == (2, "") and "line 1: a claim has no key 'at_leest'" in err
    code, _, err = called("check", str(tmp_path / "claims.yaml"), "--json", str(tmp_path / "v.txt"))
    assert code == 2 and "cannot be written as '.txt'" in err


def test_html_escapes_what_it_shows(mamba: dict[str, Model]) -> None:
    page = ct.check([{**HOLDS, "text": "a <b> & c"}], models=mamba)._repr_html_()
    assert "a &lt;b&gt; &amp; c" in page and "<b>" not in page and "layer 3: normalized effect" in page


def test_an_open_number_is_null_in_json(mamba: dict[str, Model], tmp_path: Path) -> None:
    one = {**HOLDS, "task": {"name": "induction", "distance": 8, "examples": 1}}
    checked = ct.check([one], models=mamba)
    checked.to_json(tmp_path / "v.json")
    [first, *_] = json.loads((tmp_path / "v.json").read_text())["claims"][0]["checks"][0]["numbers"]
    assert checked.verdicts == ["cannot be decided"] and first["low"] is None and np.isfinite(first["value"])
    assert "one example has no interval" in checked.text()
