"""Run folders: no run touches what is not its own, and what is written is whole."""

from __future__ import annotations

import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitry as ct
from circuitry.suites.folder import RunFolder, plain, read_record
from support import tiny


@functools.cache
def model() -> ct.Model:
    made: ct.Model = tiny.model("mamba")
    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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
    with pytest.raises(ct.CircuitryError, match="expected a run folder"):
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
    made = ct.patch(model(), ct.task("induction", distance=8, examples=4), "h[{layer}] @ B+1 -> logits", lint=False)
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
