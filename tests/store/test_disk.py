"""Disks that are full or cannot be written: one line that says where and why, what was there stays, and the same call goes on."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.cli import main
from circuitry.errors import FileError
from circuitry.evidence.offsets_result import Offsets
from circuitry.features.dashboard.answers import Answers
from circuitry.features.dashboard.proxy import ProxyScorer
from circuitry.features.dashboard.question import COMPLEXITY, Question
from circuitry.features.matching import FeatureActs, mppc
from circuitry.features.sae import SAE, SAEConfig, Trained, train_sae
from circuitry.models import convert
from circuitry.reports import write_comparison, write_report
from circuitry.results.writing import write_frames
from circuitry.store.files import write_whole
from circuitry.studies.circuits import circuits
from circuitry.suites import SuiteResult, Summary
from circuitry.suites.folder import RunFolder
from circuitry.universality import Corpus
from support import checkpoints, run_folders, some_tables, tiny
from support.full_disk import contents, fill, free, full
from support.planted import Planted, weights

TABLE = some_tables.table()
X = np.maximum(np.random.default_rng(0).normal(size=(200, 6)) - 1, 0)
EMPTY = SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {}), record={"layers": 4})


def answered(folder: Path) -> None:
    Answers(folder).put(ProxyScorer(), Question(COMPLEXITY, ()), 3)


def trained(folder: Path) -> Trained:
    points = [torch.randn(64, 4, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    return train_sae(None, "resid[0]", activations=points, tokens=256, features=8, save_every=0.0, progress=False, out=folder)


def corpus() -> Corpus:
    return Corpus(np.arange(9, dtype=np.int32), np.array([0, 4, 9]), np.zeros(9, bool), "numbers", "")


def begun(folder: Path) -> RunFolder:
    return RunFolder.open(folder, "run", {"identity": {}, "suite": "s"}, fresh=True)


DOORS: dict[str, Callable[[Path], object]] = {
    **{f"table{end}": functools.partial(lambda end, at: getattr(TABLE, f"to_{end[1:]}")(at / f"t{end}"), end)
       for end in (".csv", ".json", ".parquet")},
    "table.md": lambda at: TABLE.to_markdown(at / "t.md"),
    "table.tex": lambda at: TABLE.to_latex(at / "t.tex"),
    **{f"table{end}": functools.partial(lambda end, at: TABLE.plot(at / f"t{end}"), end) for end in (".png", ".svg", ".pdf")},
    "a table's folder": lambda at: TABLE.save(at, "t"),
    "a comparison": lambda at: TABLE.compare(TABLE).save(at, "c"),
    "frames": lambda at: write_frames({"f": pd.DataFrame({"a": ["x"], "b": ["y"], "c": [1.0]})}, at),
    **{f"circuit{end}": functools.partial(lambda end, at: run_folders.circuit().save(at / f"c{end}"), end)
       for end in (".dot", ".mmd", ".json", ".svg")},
    "offsets.json": lambda at: Offsets("B", pd.DataFrame({"offset": [0]}), (), {}).to_json(at / "o.json"),
    "a suite's result": lambda at: EMPTY.save(at),
    "a new run": begun,
    "circuits": lambda at: circuits([EMPTY, EMPTY]).save(at),
    "an autoencoder": lambda at: SAE(SAEConfig(4, 8)).save(at),
    "a training": lambda at: trained(at / "run"),
    "a corpus": lambda at: corpus().save(at / "c.safetensors"),
    "feature activations": lambda at: FeatureActs.write(at / "acts", [X], features=6),
    "matches": lambda at: mppc(X, X, min_count=1, out=at / "out", progress=False),
    "answers of scorers": answered,
}  # fmt: skip


def one_line(caught: pytest.ExceptionInfo[FileError], place: Path) -> str:
    told = str(caught.value)
    assert "\n" not in told and told.startswith(str(place)) and "cannot be written: " in told
    return told


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_a_full_disk_loses_nothing_and_the_same_call_goes_on(tmp_path: Path, door: Callable[[Path], object]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with full(), pytest.raises(FileError) as caught:
        door(tmp_path)
    assert one_line(caught, tmp_path).endswith("File too large; what was there before is unchanged") or "os error 27" in str(
        caught.value
    )
    assert contents(tmp_path) in ({"mine/notes.txt": b"mine"}, {"mine/notes.txt": b"mine", "answers.jsonl": b""})
    door(tmp_path)
    assert len(contents(tmp_path)) > 1
    assert not [name for name in contents(tmp_path) if name.endswith((".new", ".lock"))]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_the_reason_is_the_disks(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the last moment, after all bytes were written."""
    TABLE.to_json(tmp_path / "t.json")
    before = contents(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched, pytest.raises(FileError) as caught:
        patched.setattr(os, "replace", fail)
        some_tables.layers(1, 2).to_json(tmp_path / "t.json")
    assert os.strerror(code) in one_line(caught, tmp_path / "t.json") and contents(tmp_path) == before


@pytest.mark.parametrize("door", [name for name in DOORS if name not in ("a new run",)])
def test_a_file_where_a_folder_should_be_is_told(tmp_path: Path, door: str) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(FileError) as caught:
        DOORS[door](tmp_path / "taken")
    assert "Not a directory" in one_line(caught, tmp_path) or "is a file, not a folder" in str(caught.value)
    assert contents(tmp_path) == {"taken": b"mine"}


def test_a_folder_where_a_file_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(FileError, match=r"t\.csv cannot be written: it is a folder"):
        TABLE.to_csv(tmp_path / "t.csv")
    assert not contents(tmp_path)


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(new: Path) -> None:
        new.mkdir()
        (new / "one").write_text("1")
        fill()
        (new / "two").write_text("2")

    try:
        with pytest.raises(FileError):
            write_whole(tmp_path / "folder", half)
    finally:
        free()
    assert not list(tmp_path.iterdir())


class Filling(Planted):
    """A stream during which the disk runs full."""

    def values(self, node: str, number: int) -> Tensor:
        if number == 9:
            fill()
        return super().values(node, number)


def test_a_training_whose_checkpoint_finds_no_space_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    how: dict[str, Any] = {"tokens": 64 * 24, "features": 24, "measured": 128, "progress": False}
    try:
        with pytest.raises(FileError) as caught:
            train_sae(None, activations=Filling(("resid[0]", "mlp[0]")), out=tmp_path / "run", save_every=0.0, **how)
    finally:
        free()
    one_line(caught, tmp_path / "run" / "checkpoint-10")
    assert sorted(file.name for file in (tmp_path / "run").iterdir()) == ["checkpoint-9", "training.json"]
    stream = Planted(("resid[0]", "mlp[0]"))
    whole = train_sae(None, activations=stream, **how)
    again = train_sae(None, activations=stream, out=tmp_path / "run", save_every=0.0, **how)
    assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(again).items())


def test_encoding_that_finds_no_space_keeps_its_whole_files(tmp_path: Path) -> None:
    def filling() -> Any:
        yield X[:50]
        fill()
        yield X[50:]

    try:
        with pytest.raises(FileError):
            FeatureActs.write(tmp_path / "a", filling(), features=6, shard=20)
    finally:
        free()
    assert (tmp_path / "a" / "shard-00001.safetensors").is_file() and not (tmp_path / "a" / "index.json").exists()
    again = FeatureActs.write(tmp_path / "a", [X], features=6, shard=20)
    assert again.index == FeatureActs.write(tmp_path / "b", [X], features=6, shard=20).index


def test_a_suite_that_finds_no_space_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    part = RunFolder.part

    def filling(self: RunFolder, key: object, make: Callable[[], ct.PatchingTable]) -> ct.PatchingTable:
        made.append(key)
        if len(made) == 2:
            fill()
        return part(self, key, make)

    monkeypatch.setattr(ct.PatchingTable, "plot", lambda _, path: None)
    tables = [ct.TableSpec(name, name, f"{name}[{{layer}}] @ B -> logits") for name in ("resid", "mlp")]
    suite = ct.Suite(name="mine", description="two tables", task="induction", options={"distance": 8}, tables=tables)
    how: dict[str, Any] = {"out": tmp_path, "examples": 4, "baseline": 0}
    model = tiny.model("gpt_neox")
    try:
        with monkeypatch.context() as patched, pytest.raises(FileError) as caught:
            patched.setattr(RunFolder, "part", filling)
            ct.run(suite, model, **how)
    finally:
        free()
    one_line(caught, tmp_path)
    (folder,) = tmp_path.iterdir()
    assert len(list((folder / "parts").iterdir())) == 1
    assert write_report(folder).is_file(), "what was done has its report"
    found = ct.run(suite, model, **how)
    assert found.record["state"] == "complete" and [file.name for file in tmp_path.iterdir()] == [folder.name]


def test_a_conversion_and_reports_leave_nothing_half_done(tmp_path: Path) -> None:
    source = checkpoints.written("mamba", tmp_path / "source", ".bin")
    with full(), pytest.raises(FileError) as caught:
        convert(source, tmp_path / "made")
    one_line(caught, tmp_path / "made")
    assert [file.name for file in tmp_path.iterdir()] == ["source"]
    assert convert(source, tmp_path / "made").folder.is_dir()
    runs = [EMPTY.save(tmp_path / name) for name in ("a", "b")]
    before = contents(tmp_path)
    writes: tuple[Callable[[], object], ...] = (
        lambda: write_report(runs[0]),
        lambda: write_comparison(runs[0], runs[1], tmp_path / "both"),
    )
    for write in writes:
        with full(), pytest.raises(FileError):
            write()
        assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "given",
    [
        ["patch", "bundled:mamba", "h[{layer}] @ B -> logits", "--out", "taken/t.csv"],
        ["sensitivity", "bundled:mamba", "h[1] @ B -> logits", "--out", "taken/t.csv"],
        ["offsets", "bundled:mamba", "--out", "taken/o.json"],
        ["graph", "bundled:mamba", "--out", "taken/g.svg"],
        ["sae", "evaluate", "nowhere", "--out", "taken/e.csv"],
        ["sae", "encode", "nowhere", "--out", "out", "--corpus", "taken/c.safetensors"],
    ],
    ids=lambda given: given[0] if given[0] != "sae" else given[1],
)
def test_the_command_line_looks_at_the_place_before_it_computes(
    given: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    monkeypatch.setattr("circuitry.models.loading.load", lambda *_, **__: pytest.fail("a model was loaded"))
    monkeypatch.setattr(sys, "argv", ["circuitry", *given])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr().err
    assert ended.value.code == 2 and told.startswith("taken/") and "cannot be written" in told and told.count("\n") == 1
    assert contents(tmp_path) == {"taken": b"mine"}


def test_a_full_disk_of_another_library_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/cache/fonts.json")

    monkeypatch.setattr("circuitry.cli.app", broken)
    with pytest.raises(SystemExit, match="2"):
        main()
    assert capsys.readouterr().err == "/cache/fonts.json cannot be written: No space left on device\n"
