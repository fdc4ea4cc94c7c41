"""Processes that torchrun starts give the numbers of one process, bit for bit; where one of them is killed, the rest of the work can go on."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from support.command import called
from support.no_pictures import no_pictures
from support.two_processes import Two, environment, launch

STATES = "ssm_state[{layer}] @ {pos} -> logits freezing ssm_state"
SUITE = '''
"""A suite of two tables, in which process 1 may be killed between them."""

import os
import signal
from pathlib import Path

from circuitry.suites import Suite, TableSpec


def second(study):
    marker = Path(__file__).with_name("kill")
    if marker.exists() and os.environ.get("RANK") == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return "resid[{layer}] @ B -> logits"


SUITE = Suite(
    name="two",
    description="two tables",
    task="induction",
    options={"distance": 8},
    tables=[
        TableSpec("states", "States", "ssm_state[{layer}] @ B+2 -> logits freezing ssm_state", needs="state"),
        TableSpec("stream", "Stream", second),
    ],
)
'''


def alone(*words: str) -> subprocess.CompletedProcess[str]:
    """What a command says in this process, with one thread, as each of two has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return subprocess.CompletedProcess(words, *called(*words))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    with Two(tmp_path_factory.mktemp("two")) as processes:
        yield processes


def both(two: Two, *words: str, out: Path) -> tuple[str, str]:
    """What one process says and what two say, with the file they wrote, which must be the same."""
    said = []
    for run, name in ((alone, f"one{out.suffix}"), (two.run, f"two{out.suffix}")):
        done = run(*words, "--out", str(out.with_name(name)))
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.replace(name, "file"))
    assert out.with_name(f"one{out.suffix}").read_bytes() == out.with_name(f"two{out.suffix}").read_bytes()
    return said[0], said[1]


def test_patch_writes_the_same_bytes(two: Two, tmp_path: Path) -> None:
    axis = ["--axis", "pos=B,B+2", "--examples", "20", "-o", "distance=8"]
    said = both(two, "patch", "bundled:mamba", STATES, *axis, out=tmp_path / "table.csv")
    assert said[0] == said[1]
    assert said[0].count("written: ") == 1


def test_offsets_writes_the_same_bytes(two: Two, tmp_path: Path) -> None:
    said = both(two, "offsets", "bundled:gpt_neox", "--examples", "24", "-o", "distance=8", out=tmp_path / "found.md")
    assert said[0] == said[1]


def tables(folder: Path) -> dict[str, bytes]:
    found = {file.name: file.read_bytes() for file in (folder / "tables").glob("*.csv")}
    assert len(found) == 4, "effects and statistics of two tables"
    return found


def written(folder: Path) -> dict[str, tuple[int, int]]:
    found = {str(file): file.stat() for file in folder.rglob("*")}
    return {name: (one.st_ino, one.st_mtime_ns) for name, one in found.items()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("suite") / "two.py"
    file.write_text(SUITE)
    return file


@pytest.fixture(scope="module")
def whole(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of the suite in one process that nothing disturbs."""
    out = tmp_path_factory.mktemp("whole")
    with no_pictures():
        done = alone(*run_suite(suite, out))
    assert done.returncode == 0, done.stderr
    return tables(out / "two-mamba")


def run_suite(suite: Path, out: Path) -> list[str]:
    return ["run", str(suite), "--model", "bundled:mamba", "--out", str(out), "--examples", "20"]


def test_a_suite_in_two_processes(two: Two, suite: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    done = two.run(*run_suite(suite, tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1, "only the first process says anything"
    assert [one.name for one in tmp_path.iterdir()] == ["two-mamba"]
    assert tables(tmp_path / "two-mamba") == whole
    finished = written(tmp_path / "two-mamba")
    again = two.run(*run_suite(suite, tmp_path))
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert written(tmp_path / "two-mamba") == finished, "a complete run is read"
    assert [one.name for one in tmp_path.iterdir()] == ["two-mamba"]


def test_a_killed_process_is_reported_and_the_run_goes_on(two: Two, suite: Path, whole: dict[str, bytes], tmp_path: Path) -> None:
    marker = suite.with_name("kill")
    marker.touch()
    try:
        command = launch("-m", "circuitry", *run_suite(suite, tmp_path / "runs"))
        killed = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    finally:
        marker.unlink()
    assert killed.returncode != 0
    assert "process 1 of 2 has ended" in killed.stderr
    folder = tmp_path / "runs" / "two-mamba"
    assert json.loads((folder / "run.json").read_text())["state"] == "running"
    parts = list((folder / "parts").iterdir())
    assert len(parts) == 1, "the first table was finished"
    shutil.copytree(tmp_path / "runs", tmp_path / "other")
    for out, run in (("runs", two.run), ("other", alone)):  # whoever goes on
        done = run(*run_suite(suite, tmp_path / out))
        assert done.returncode == 0, done.stderr
        assert [one.name for one in (tmp_path / out).iterdir()] == ["two-mamba"]
        assert tables(tmp_path / out / "two-mamba") == whole


def test_an_error_is_said_once(two: Two) -> None:
    done = two.run("patch", "bundled:mamba", "ssm_stat -> logits")
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("mamba has no node 'ssm_stat'") == 1
