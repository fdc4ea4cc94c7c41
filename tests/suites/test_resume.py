"""A run goes on where it was killed and ends with the same numbers; other settings are another run."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import circuitry as ct
from circuitry.patching import patch
from circuitry.suites import SuiteResult
from circuitry.suites.folder import read_record
from support import tiny
from support.no_pictures import no_pictures

# `HOLD` stops the child process of the test below in the middle of the run, so that there is something to kill.
MINE = """
import os, signal
import circuitry as ct

STATES = "h[{layer}] @ {position} -> logits freezing h"

def writes(study):
    if os.environ.get("HOLD"):
        signal.pause()
    layer = study.tables["states"].normalized().groupby("layer").max().idxmax()
    return f"ssm_in[{layer}] @ {{position}} -> logits freezing h except h[{layer}]"

SUITE = ct.Suite(
    name="mine",
    description="states, and where the strongest is written",
    task="induction",
    options={"distance": 8},
    tables=[
        ct.TableSpec("states", "States", STATES, over={"distance": [8, 10]}, axes={"position": ["B+1", "B+2"]}, note="Read it so."),
        ct.TableSpec("writes", "Writes", writes, axes={"position": ["B", "B+1", "B+2"]}),
        ct.TableSpec("parts", "Parts", ct.labelled("part", {p: f"h[{{layer}}].{p} @ B+1 -> logits freezing h" for p in ("read", "carry")})),
    ],
)
"""

PATCHES = 4
"""States at two distances, writes, parts."""


@functools.cache
def model() -> ct.Model:
    made: ct.Model = tiny.model("mamba")
    return made


@pytest.fixture(autouse=True)
def undrawn() -> Iterator[None]:
    """tests/test_suites.py looks at the pictures."""
    with no_pictures():
        yield


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    return file


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The path of every patch that is computed, in order."""
    calls: list[str] = []

    def counting(of: Any, task: Any, path: Any, **options: Any) -> Any:
        calls.append(str(path))
        return patch(of, task, path, **options)

    monkeypatch.setattr("circuitry.suites.study.patch", counting)
    return calls


def run(suite: Path, **options: Any) -> SuiteResult:
    return ct.run(suite, model(), **{"out": suite.parent / "runs", "examples": 4, **options})


def interrupted(suite: Path, after: int, **options: Any) -> None:
    """Start the run and interrupt it, as Ctrl-C does, before patch number ``after``."""
    said: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        if len(said) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(suite, say=say, **options)


def folder_of(found: SuiteResult) -> Path:
    return Path(found.record["folder"])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def numbers(folder: Path) -> dict[str, bytes]:
    """The tables of a run, to the last bit."""
    return {name: data for name, data in contents(folder / "tables").items() if name.endswith((".json", ".csv"))}


# --- going on --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", range(PATCHES))
def test_an_interrupted_run_goes_on_and_ends_with_the_same_tables(after: int, mine: Path, patched: list[str]) -> None:
    interrupted(mine, after)
    assert len(patched) == after
    resumed = run(mine)
    assert len(patched) == PATCHES, "what was finished is not computed again"
    whole = run(mine, fresh=True)
    assert len(patched) == 2 * PATCHES
    assert numbers(folder_of(resumed)) == numbers(folder_of(whole)) != {}
    assert resumed.summary.to_json() == whole.summary.to_json()


def test_a_run_may_be_interrupted_more_than_once(mine: Path, patched: list[str]) -> None:
    for after in range(PATCHES):
        interrupted(mine, after)
    assert len(patched) == PATCHES - 1
    run(mine)
    assert len(patched) == PATCHES and [p.name for p in (mine.parent / "runs").iterdir()] == ["mine-model"]


def test_an_interrupted_run_says_so_and_a_report_shows_its_tables(mine: Path) -> None:
    from circuitry.reports import write_report

    interrupted(mine, 3)
    folder = mine.parent / "runs" / "mine-model"
    record = read_record(folder)
    assert (record["state"], record["finished"], record["tables"]) == ("interrupted", None, ["states", "writes"])
    page = (folder / "report.html").read_text()
    assert "States" in page and "Parts" not in page
    assert "This run is incomplete" in page and "Missing tables: parts." in page
    assert write_report(folder).read_text() == page
    with pytest.raises(ct.CircuitryError, match="is incomplete"):
        SuiteResult.load(folder)


def test_a_run_that_was_killed_goes_on_in_another_process(mine: Path, patched: list[str]) -> None:
    """SIGKILL leaves no time to tidy up: what is on disk at that moment must be whole."""
    script = (
        f"import circuitry as ct, tiny; ct.run({str(mine)!r}, tiny.model('mamba'), out={str(mine.parent / 'runs')!r}, examples=4)"
    )
    here = os.pathsep.join([str(Path(ct.__file__).parents[1]), str(Path(tiny.__file__).parent)])
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "HOLD": "1", "PYTHONPATH": here})
    parts, deadline = mine.parent / "runs" / "mine-model" / "parts", time.monotonic() + 200
    while not list(parts.glob("*.json")):
        assert child.poll() is None and time.monotonic() < deadline, "the first part never came"
        time.sleep(0.02)
    child.kill()
    assert child.wait() < 0
    finished = len(list(parts.glob("*.json")))
    assert read_record(parts.parent)["state"] == "running" and 1 <= finished < PATCHES
    resumed = run(mine)
    assert folder_of(resumed) == parts.parent and len(patched) == PATCHES - finished
    assert numbers(parts.parent) == numbers(folder_of(run(mine, fresh=True)))


def test_a_complete_run_is_read_back_and_not_touched(mine: Path, patched: list[str]) -> None:
    first = run(mine)
    before, told = contents(folder_of(first)), list[str]()
    again = run(mine, say=told.append)
    assert len(patched) == PATCHES and folder_of(again) == folder_of(first)
    assert contents(folder_of(first)) == before
    assert again.summary.to_json() == first.summary.to_json() and list(again.tables) == list(first.tables)
    assert all((again.tables[k].frame["effect"] == t.frame["effect"]).all() for k, t in first.tables.items())
    assert again.tables["states"].provenance["note"] == "Read it so."
    assert "is complete" in told[0] and "--fresh" in told[0]


def test_a_complete_run_keeps_no_parts_and_says_when_it_ended(mine: Path) -> None:
    folder = folder_of(run(mine))
    record = read_record(folder)
    assert not (folder / "parts").exists() and (folder / "report.html").stat().st_size
    assert record["state"] == "complete" and record["started"] <= record["finished"]
    assert record["tables"] == ["states", "writes", "parts"]


def test_fresh_runs_again_beside_the_first(mine: Path, patched: list[str]) -> None:
    first = run(mine)
    before = contents(folder_of(first))
    assert folder_of(run(mine, fresh=True)).name == "mine-model-2"
    assert len(patched) == 2 * PATCHES and contents(folder_of(first)) == before


# --- runs that are not the same --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"examples": 5},
        {"seed": 1},
        {"prefix": 6},
        {"metric": "probability"},
        {"baseline": 2},
        {"executor": ct.executor(verify=1)},
    ],
)
def test_other_settings_get_another_folder(other: dict[str, Any], mine: Path, patched: list[str]) -> None:
    interrupted(mine, 2)
    before = contents(mine.parent / "runs" / "mine-model")
    interrupted(mine, 1, **other)
    assert {folder.name for folder in (mine.parent / "runs").iterdir()} == {"mine-model", "mine-model-2"}
    assert len(patched) == 2 + 1 and contents(mine.parent / "runs" / "mine-model") == before


@pytest.mark.parametrize(
    "same",
    [{"executor": ct.executor(memory="64MiB", progress=False)}, {"executor": "suffix"}, {"command": "circuitry run ./mine.py"}],
)
def test_what_changes_no_number_makes_no_other_run(same: dict[str, Any], mine: Path, patched: list[str]) -> None:
    interrupted(mine, 2)
    interrupted(mine, 3, **same)
    assert [folder.name for folder in (mine.parent / "runs").iterdir()] == ["mine-model"]
    assert len(patched) == 3, "what was finished is not computed again"


def test_other_weights_get_another_folder(mine: Path) -> None:
    first = folder_of(run(mine))
    other = ct.run(mine, tiny.model("mamba", seed=1), out=mine.parent / "runs", examples=4)
    assert (first.name, folder_of(other).name) == ("mine-model", "mine-model-2")


def test_an_edited_suite_is_another_run(mine: Path, patched: list[str]) -> None:
    interrupted(mine, 2)
    mine.write_text(MINE.replace("B+2", "B+3"))
    found = run(mine)
    assert folder_of(found).name == "mine-model-2" and len(patched) == 2 + PATCHES
    assert set(found.tables["states"].frame["position"]) == {"B+1", "B+3"}


def test_a_suite_given_as_a_value_is_known_by_all_it_says(tmp_path: Path) -> None:
    """Two suites of one name in one notebook: the second must not be answered with the tables of the first."""

    def made(position: str) -> SuiteResult:
        tables = [ct.TableSpec("states", "States", f"h[{{layer}}] @ {position} -> logits freezing h")]
        suite = ct.Suite("mine", "", "induction", options={"distance": 8}, tables=tables)
        return ct.run(suite, model(), out=tmp_path, examples=4)

    assert [folder_of(made(position)).name for position in ("B+1", "B+2", "B+1")] == ["mine-model", "mine-model-2", "mine-model"]
    assert "@ B+2" in made("B+2").tables["states"].provenance["path"]


def test_an_edited_task_is_another_run(mine: Path) -> None:
    shipped = ct.content.find("tasks", "induction").read_text()
    task = mine.parent / "mytask.py"
    task.write_text(shipped)
    mine.write_text(MINE.replace('task="induction"', f"task={str(task)!r}"))
    assert folder_of(run(mine)).name == "mine-model"
    task.write_text(shipped + "\n# another comment\n")
    assert folder_of(run(mine)).name == "mine-model-2"
