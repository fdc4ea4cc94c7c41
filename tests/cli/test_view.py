"""``circuitry view`` without a folder: the runs that are there, and how to open one."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from circuitry.explorer import write_explorer
from support.command import called, circuitry
from support.run_folders import run_folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("nothing is opened"))


def record(name: str, **changes: Any) -> None:
    folder = Path("runs") / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps({"suite": "ioi", "model": "bundled:mamba", "state": "complete", "tables": [], **changes})
    )


def test_runs_are_listed_the_newest_first() -> None:
    record("old", finished="2026-11-20T10:00:00+00:00", started="2026-11-29T10:00:00+00:00")
    record("deep/new", model="bundled:gpt_neox", finished="2026-11-22T10:00:00+00:00")
    record("stopped", state="running", started="2026-11-21T10:00:00+00:00")
    record("found", kind="discovery", suite=None, finished="2026-11-19T10:00:00+00:00")
    record("other", tables=None, model=None, suite=None, state=None)
    Path("runs/other/run.json").write_text("not a run")
    head, *rows, empty, last = circuitry("view").splitlines()
    assert head.split() == ["folder", "model", "suite", "state", "when"] and empty == ""
    cells = [[cell for cell in row.split("  ") if cell] for row in rows]
    assert [[cell.strip() for cell in row[:4]] for row in cells] == [
        ["runs/deep/new", "bundled:gpt_neox", "ioi", "complete"],
        ["runs/stopped", "bundled:mamba", "ioi", "not finished"],
        ["runs/old", "bundled:mamba", "ioi", "complete"],
        ["runs/found", "bundled:mamba", "discovery", "complete"],
    ]
    here = datetime.fromisoformat("2026-11-22T10:00:00+00:00").astimezone()
    assert cells[0][4].strip() == f"{here:%Y-%m-%d %H:%M}", "in the time of this machine"
    assert last == "open one: circuitry view runs/deep/new"


def test_the_last_line_opens_a_run() -> None:
    folder = Path("runs") / "my run"
    folder.mkdir(parents=True)
    run_folder(folder)
    write_explorer(folder)
    line = circuitry("view").splitlines()[-1].removeprefix("open one: ")
    said = circuitry(*shlex.split(line)[1:], "--no-open")
    assert said.strip() == str((folder / "explorer.html").resolve())


def test_many_runs_are_counted() -> None:
    for number in range(23):
        record(f"run-{number:02}", finished=f"2026-11-20T10:00:{number:02}+00:00")
    said = circuitry("view")
    assert "run-03 " in said and "run-02 " not in said and "and 3 older" in said.splitlines()


@pytest.mark.parametrize("folder", ["", "runs"])
def test_without_runs_the_command_that_makes_one_is_named(folder: str) -> None:
    Path(folder).mkdir(exist_ok=True)
    code, out, err = called("view")
    assert (code, out) == (2, "")
    assert err == "no runs in ./runs; this makes one: circuitry run induction --model bundled:mamba\n"
