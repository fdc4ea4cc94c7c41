"""The command ``discover``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from circuitry.discovery import search
from support.command import called, circuitry
from support.short_discovery import shorten

SHORT = ("-o", "distance=4", "--examples", "8", "--method", "eap", "--verify", "3", "--edges", "30")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fewer circuits for curve and scores, and a folder of its own."""
    shorten(monkeypatch)
    monkeypatch.chdir(tmp_path)


def test_it_prints_ranking_curve_and_scores_and_says_where_the_files_are() -> None:
    out = circuitry("discover", "bundled:mamba", *SHORT)
    assert "edges at positions ranked by eap on 4 prompts" in out and "the best 3 verified exactly on 4 other prompts" in out
    assert "CPR " in out and "faithfulness " in out and "minimality: " in out and "Jaccard" in out
    folder = Path("runs/discover-induction-mamba-eap").resolve()
    assert f"report: {folder / 'report.html'}" in out and f"edges: {folder / 'edges.json'}" in out
    record = json.loads((folder / "run.json").read_text())
    assert record["state"] == "complete" and record["command"].startswith("circuitry discover bundled:mamba -o distance=4")
    assert record["settings"]["method"] == "eap" and record["settings"]["verify"] == 3


def test_its_options_reach_the_search() -> None:
    options = (
        "--level",
        "node",
        "--no-positions",
        "--metric",
        "logit",
        "--direction",
        "denoising",
        "--no-confirm",
        "--seed",
        "3",
    )
    circuitry("discover", "bundled:mamba", *SHORT[:-2], *options, "--memory", "64MiB", "--out", "here")
    record = json.loads(Path("here/run.json").read_text())
    assert record["settings"] == {
        "method": "eap", "level": "node", "positions": "added up", "metric": "logit", "direction": "denoising", "seed": 3,
        "verify": 3, "confirm": False,
    }  # fmt: skip
    assert record["task"]["seed"] == 3 and record["identity"]["positions"] == ["all"]


def test_it_says_which_setting_differs_from_the_folders() -> None:
    circuitry("discover", "bundled:mamba", *SHORT, "--out", "here")
    code, _, err = called("discover", "bundled:mamba", *SHORT, "--out", "here", "--direction", "denoising")
    assert (
        code == 2
        and "here holds another discovery (direction: noising there, denoising here; " in err
        and "name another folder" in err
    )


def test_an_interrupted_one_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "patched", stopped)
    code, _, err = called("discover", "bundled:mamba", *SHORT)
    assert code == 130 and "Run the same command to resume;" in err
