"""Run folders: a run goes on where it was killed and ends with the same numbers, and no run touches what is not its own."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitry as ct
import tiny
from circuitry.running import patch
from circuitry.suites import SuiteResult
from circuitry.suites.folder import RunFolder, plain, read_record

# `HOLD` stops the child process of the test below in the middle of the run, so that there is something to kill.
MINE = """
import os, signal
import circuitry as ct

STATES = "h[{layer}] @ {position} -> logits freezing h"

def writes(study):
    if os.environ.get("HOLD"):
        signal.pause()
    layer = study.tables["states"].share().groupby("layer").max().idxmax()
    return f"ssm_in[{layer}] @ {{position}} -> logits freezing h except h[{layer}]"

SUITE = ct.Suite(
    name="mine",
    about="states, and where the strongest is written",
    task="induction",
    options={"distance": 8},
    tables=[
        ct.Table("states", "States", STATES, over={"distance": [8, 10]}, axes={"position": ["B+1", "B+2"]}, note="Read it so."),
        ct.Table("writes", "Writes", writes, axes={"position": ["B", "B+1", "B+2"]}),
        ct.Table("parts", "Parts", {p: f"h[{{layer}}].{p} @ B+1 -> logits freezing h" for p in ("read", "carry")}, axis="part"),
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
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time of so small a run; tests/test_suites.py looks at the pictures."""
    monkeypatch.setattr(ct.PatchingTable, "plot", lambda _, path: Path(path).write_text("a picture"))


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
    return ct.run(suite, model(), **{"out": suite.parent / "runs", "examples": 4, "progress": False, **options})


def interrupted(suite: Path, after: int) -> None:
    """Start the run and interrupt it, as Ctrl-C does, before patch number ``after``."""
    said: list[str] = []

    def say(what: str) -> None:
        said.append(what)
        if len(said) > after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(suite, say=say)


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
    from circuitry.results.report import write_report

    interrupted(mine, 3)
    folder = mine.parent / "runs" / "mine-model"
    record = read_record(folder)
    assert (record["state"], record["finished"], record["tables"]) == ("running", None, ["states", "writes"])
    page = write_report(folder).read_text()
    assert "States" in page and "Parts" not in page
    with pytest.raises(ct.CircuitryError, match="no complete run"):
        SuiteResult.load(folder)


def test_a_run_that_was_killed_goes_on_in_another_process(mine: Path, patched: list[str]) -> None:
    """SIGKILL leaves no time to tidy up: what is on disk at that moment must be whole."""
    script = f"import circuitry as ct, tiny; ct.run({str(mine)!r}, tiny.model('mamba'), out={str(mine.parent / 'runs')!r}, examples=4, progress=False)"
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
    assert again.tables["states"].about["note"] == "Read it so."
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


@pytest.mark.parametrize("other", [{"examples": 5}, {"seed": 1}, {"prefix": 6}, {"metric": "probability"}, {"baseline": 2}])
def test_other_settings_get_another_folder(other: dict[str, Any], mine: Path, patched: list[str]) -> None:
    interrupted(mine, 2)
    before = contents(mine.parent / "runs" / "mine-model")
    assert folder_of(run(mine, **other)).name == "mine-model-2"
    assert len(patched) == 2 + PATCHES and contents(mine.parent / "runs" / "mine-model") == before


@pytest.mark.parametrize("same", [{"memory": "64MiB"}, {"command": "circuitry run ./mine.py"}])
def test_what_changes_no_number_makes_no_other_run(same: dict[str, Any], mine: Path, patched: list[str]) -> None:
    interrupted(mine, 2)
    assert folder_of(run(mine, **same)).name == "mine-model"
    assert len(patched) == PATCHES


def test_other_weights_get_another_folder(mine: Path) -> None:
    first = folder_of(run(mine))
    other = ct.run(mine, tiny.model("mamba", seed=1), out=mine.parent / "runs", examples=4, progress=False)
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
        tables = [ct.Table("states", "States", f"h[{{layer}}] @ {position} -> logits freezing h")]
        suite = ct.Suite("mine", "", "induction", options={"distance": 8}, tables=tables)
        return ct.run(suite, model(), out=tmp_path, examples=4, progress=False)

    assert [folder_of(made(position)).name for position in ("B+1", "B+2", "B+1")] == ["mine-model", "mine-model-2", "mine-model"]
    assert "@ B+2" in made("B+2").tables["states"].about["path"]


def test_an_edited_task_is_another_run(mine: Path) -> None:
    shipped = ct.content.find("tasks", "induction").read_text()
    task = mine.parent / "mytask.py"
    task.write_text(shipped)
    mine.write_text(MINE.replace('task="induction"', f"task={str(task)!r}"))
    assert folder_of(run(mine)).name == "mine-model"
    task.write_text(shipped + "\n# another comment\n")
    assert folder_of(run(mine)).name == "mine-model-2"


# --- what is not ours ------------------------------------------------------------------------------------------------------

FOREIGN: dict[str, Callable[[Path], object]] = {
    "no run.json": lambda at: (at / "notes.txt").write_text("mine"),
    "empty": lambda at: None,
    "damaged": lambda at: (at / "run.json").write_text('{"state": "running", "identity": {'),
    "no object": lambda at: (at / "run.json").write_text("[1, 2]"),
    "of another tool": lambda at: (at / "run.json").write_text('{"name": "sweep"}'),
    "no text": lambda at: (at / "run.json").write_bytes(b"\xff\xfe\x00{"),
    "a folder": lambda at: (at / "run.json").mkdir(),
}


@pytest.mark.parametrize("fill", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("fresh", [False, True])
def test_a_foreign_folder_of_the_same_name_is_never_touched(fill: Callable[[Path], object], fresh: bool, tmp_path: Path) -> None:
    taken = tmp_path / "run"
    taken.mkdir()
    fill(taken)
    before, listed = contents(taken), sorted(taken.iterdir())
    made = opened(tmp_path, 0, fresh=fresh)
    assert made.path.name == "run-2"
    made.finish()
    assert contents(taken) == before and sorted(taken.iterdir()) == listed
    with pytest.raises(ct.CircuitryError, match="is no run"):
        read_record(taken)


def test_a_file_of_the_same_name_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    assert opened(tmp_path, 0).path.name == "run-2" and (tmp_path / "run").read_text() == "mine"


# --- laws ------------------------------------------------------------------------------------------------------------------


def opened(parent: Path, identity: Any, **options: Any) -> RunFolder:
    return RunFolder.open(parent, "run", {"identity": identity, "suite": "s"}, **options)


def table(value: float) -> ct.PatchingTable:
    cells = [{"layer": n, "position": "B"} for n in range(2)]
    return ct.PatchingTable.of(cells, np.full((2, 3), value), np.zeros(3), np.ones(3), "logit", {"title": "T"})


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
def test_one_identity_has_one_folder_and_a_fresh_run_a_new_one(asked: list[tuple[int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        first: dict[int, Path] = {}
        seen: set[Path] = set()
        for identity, fresh in asked:
            found = opened(Path(name), {"seed": identity}, fresh=fresh)
            if identity in first and not fresh:
                assert found.path == first[identity]
            else:
                assert found.path not in seen
            assert read_record(found.path)["identity"] == {"seed": identity}
            first.setdefault(identity, found.path)
            seen.add(found.path)
        assert seen == set(Path(name).iterdir())


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)  # fmt: skip


@given(JSON, st.permutations(range(3)))
def test_an_identity_is_the_same_after_json_and_in_any_order(value: Any, order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole = {f"k{n}": (value, n) for n in range(3)}
        first = opened(Path(name), whole)
        again = opened(Path(name), {f"k{n}": (value, n) for n in order})
        assert again.path == first.path


def test_a_part_is_made_once_for_every_key(tmp_path: Path) -> None:
    folder, made = opened(tmp_path, 0), list[float]()

    def make(value: float) -> ct.PatchingTable:
        made.append(value)
        return table(value)

    keys = [("path", {"layer": [0]}), ("path", {"layer": [1]}), ("other path", {"layer": [0]})]
    for key, value in zip(keys, (1.0, 2.0, 3.0), strict=True):
        for _ in range(2):
            assert folder.part(key, lambda value=value: make(value)).mean().tolist() == [value, value]  # type: ignore[misc]
    assert made == [1.0, 2.0, 3.0]
    assert opened(tmp_path, 0).part(keys[0], lambda: make(4.0)).mean().tolist() == [1.0, 1.0]


def test_a_part_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    folder = opened(tmp_path, 0)

    def fail() -> ct.PatchingTable:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        folder.part("key", fail)
    assert list((folder.path / "parts").iterdir()) == []
    folder.part("key", lambda: table(1.0))
    (part,) = (folder.path / "parts").iterdir()
    part.rename(part.with_suffix(".new"))  # as a kill between writing and renaming leaves it
    part.with_suffix(".new").write_text("{")
    assert folder.part("key", lambda: table(2.0)).mean().tolist() == [2.0, 2.0]


def test_a_part_comes_back_as_it_was_made(tmp_path: Path) -> None:
    """Also the first time, so that an interrupted run and a whole one see the same values."""
    made = ct.patch(
        model(), ct.task("induction", distance=8, examples=4), "h[{layer}] @ B+1 -> logits", lint=False, progress=False
    )
    for _ in range(2):
        found = opened(tmp_path, 0).part("key", lambda: made)
        assert found.axes == made.axes and found.unit == made.unit
        assert made.random is not None and found.random is not None
        assert found.frame.equals(made.frame) and found.random.equals(made.random)
        assert found.statistics().equals(made.statistics())


def test_tables_are_listed_once_in_the_order_they_were_last_kept(tmp_path: Path) -> None:
    folder = opened(tmp_path, 0)
    for name in ("a", "b", "a"):
        folder.keep(name, table(1.0))
    assert read_record(folder.path)["tables"] == ["b", "a"]
    assert {p.name for p in (folder.path / "tables").iterdir()} == {"a.json", "b.json"}


def test_the_record_is_whole_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while run.json is written leaves the one before."""
    folder = opened(tmp_path, 0)
    before = (folder.path / "run.json").read_text()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.finish()
    assert (folder.path / "run.json").read_text() == before and opened(tmp_path, 0).path == folder.path


def test_what_cannot_be_json_in_a_record_is_written_as_text(tmp_path: Path) -> None:
    folder = opened(tmp_path, {"metric": max})
    assert json.loads((folder.path / "run.json").read_text())["identity"]["metric"] == repr(max)
    assert opened(tmp_path, {"metric": max}).path == folder.path


@given(st.text(min_size=1))
def test_a_models_name_becomes_one_plain_folder_name(name: str) -> None:
    made = plain(name)
    assert all(c.isalnum() or c in "-_." for c in made) and Path("runs", f"ioi-{made}").parent == Path("runs")


def test_folders_are_numbered_without_gaps(tmp_path: Path) -> None:
    paths = [opened(tmp_path, n).path.name for n in range(4)]
    assert paths == ["run", "run-2", "run-3", "run-4"]
