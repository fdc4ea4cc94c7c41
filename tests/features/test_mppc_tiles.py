"""Results of MPPC on disk: written and read back, resumed layer pair by layer pair, shared by processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from circuitry.cli import mppc as command
from circuitry.errors import CircuitryError
from circuitry.features.matching import FeatureActs, Matches, mppc
from circuitry.features.matching.tiles import Tiles, Unfinished
from support.some_activations import A, B, same

ROOT = Path(__file__).parents[2]


def test_results_are_written_and_read_back(tmp_path: Path) -> None:
    found = mppc(A, B, out=tmp_path, progress=False)
    again = Matches.load(tmp_path)
    same(found.forward, again.forward)
    same(found.reverse, again.reverse)
    assert again.provenance == found.provenance and again.provenance["min_count"] == 10
    assert pd.read_csv(tmp_path / "forward.csv")["mppc"].count() == found.forward["mppc"].count()
    with pytest.raises(CircuitryError, match="holds no matches"):
        Matches.load(tmp_path / "tiles")


def test_a_killed_comparison_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mppc(A, B, progress=False)
    put, done = Tiles.put, []

    def killed(self: Tiles, pair: tuple[int, int], tile: Any) -> None:
        put(self, pair, tile)
        done.append(pair)
        if len(done) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(Tiles, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        mppc(A, B, out=tmp_path, progress=False)
    assert not (tmp_path / "forward.parquet").exists()
    (tmp_path / "tiles" / "000-001.safetensors").write_bytes(b"half a file")
    again = mppc(A, B, out=tmp_path, progress=False)
    assert done[4:] == [(0, 1), (1, 1), (1, 2)]
    same(whole.forward, again.forward)
    same(whole.reverse, again.reverse)


def test_a_folder_of_another_comparison_is_refused(tmp_path: Path) -> None:
    mppc(A, B, out=tmp_path, progress=False)
    with pytest.raises(CircuitryError, match=r"another comparison \(min_count: 10 there, 3 here\)"):
        mppc(A, B, out=tmp_path, min_count=3, progress=False)
    with pytest.raises(CircuitryError, match=r"another comparison \(other b\)"):
        mppc(A, [*B[:2], B[2] * 2], out=tmp_path, progress=False)


def test_tiles_in_any_order_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = mppc(A, B, progress=False)
    own = Tiles.own
    monkeypatch.setattr(Tiles, "own", lambda self: reversed(list(own(self))))
    other = mppc(A, B, progress=False)
    same(one.forward, other.forward)
    same(one.reverse, other.reverse)


Sides: TypeAlias = tuple[list[FeatureActs], list[FeatureActs]]


@pytest.fixture
def written(tmp_path: Path) -> Sides:
    rng = np.random.default_rng(0)
    x = np.where(rng.random((400, 30)) < 0.1, rng.exponential(1, (400, 30)), 0)
    provenance = [{"layer": k, "node": f"resid[{k}]"} for k in range(3)]
    sides = []
    for side, order in (("a", np.arange(30)), ("b", rng.permutation(30))):
        layers = [x[:, order] * (rng.random(x.shape) < 0.9) for _ in provenance]
        sides.append(
            [
                FeatureActs.write(tmp_path / side / f"resid-{k}", [layer], features=30, provenance=provenance[k], corpus="c")
                for k, layer in enumerate(layers)
            ]
        )
    return sides[0], sides[1]


def test_the_command_matches_folders(tmp_path: Path, written: Sides) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(command.app, [str(tmp_path / "a"), "--with", str(tmp_path / "b"), "--out", str(out), "--null", "7"])
    assert done.exit_code == 0, done.output
    assert "forward: mean MPPC" in done.stdout and "above 0.95" in done.stdout and "near chance" in done.stdout
    found = mppc(*written, null=7, progress=False)
    pd.testing.assert_frame_equal(Matches.load(out).forward, found.forward)
    assert found.provenance["shift"] == 7 and "90 of 90 features compared" in done.stdout
    assert {file.name for file in out.glob("*.*")} >= {"forward.parquet", "forward.csv", "reverse.parquet", "reverse.csv"}
    folders = [str(acts.folder) for acts in written[1][:2]]
    done = CliRunner().invoke(
        command.app,
        [str(tmp_path / "a"), "--with", folders[0], "--with", folders[1], "--out", str(tmp_path / "2"), "--null", "none"],
    )
    assert done.exit_code == 0, done.output
    assert len(Matches.load(tmp_path / "2").reverse) == 60 and "chance" not in done.stdout


def test_two_processes_share_the_work(tmp_path: Path, written: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun starts them: each with its RANK, the same folder, and nothing else in common. This one is number 0."""
    code = "from circuitry.cli.mppc import app; app(standalone_mode=False)"
    given = [str(tmp_path / "a"), "--with", str(tmp_path / "b"), "--out", str(tmp_path / "out"), "--engine", "scipy"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    environment = os.environ | {"RANK": "1"}
    other = subprocess.Popen([sys.executable, "-c", code, *given], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    monkeypatch.setenv("RANK", "0")
    done = CliRunner().invoke(command.app, given)
    assert other.communicate(timeout=60)[0] == "" and other.returncode == 0
    assert done.exit_code == 0 and "forward: mean MPPC" in done.stdout
    found, alone = Matches.load(tmp_path / "out"), mppc(*written, engine="scipy", progress=False)
    pd.testing.assert_frame_equal(found.forward, alone.forward, check_exact=True)
    pd.testing.assert_frame_equal(found.reverse, alone.reverse, check_exact=True)


def test_each_process_computes_its_own_tiles_and_waits_for_the_others(
    tmp_path: Path, written: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []

    def meanwhile(seconds: float) -> None:
        paused.append(seconds)
        monkeypatch.setattr("circuitry.features.matching.tiles.time.sleep", lambda _: pytest.fail("waited for what was there"))
        mppc(*written, out=tmp_path / "out", rank=1, world_size=2, progress=False)

    monkeypatch.setattr("circuitry.features.matching.tiles.time.sleep", meanwhile)
    found = mppc(*written, out=tmp_path / "out", rank=0, world_size=2, progress=False)
    assert len(paused) == 1
    pd.testing.assert_frame_equal(found.forward, mppc(*written, progress=False).forward)
    with pytest.raises(CircuitryError, match="a folder that they share"):
        mppc(*written, rank=0, world_size=2)


def test_the_processes_of_a_job_array_wait_for_no_other(tmp_path: Path, written: Sides) -> None:
    """They run one after another; one is lost, and a call without a rank does its part."""

    def run(*words: str) -> str:
        done = CliRunner().invoke(
            command.app, [str(tmp_path / "a"), "--with", str(tmp_path / "b"), "--out", str(tmp_path / "out"), *words]
        )
        assert done.exit_code == 0, done.output
        return done.output

    first = run("--rank", "0", "--world", "3")
    assert "6 of 9 layer pairs are not computed yet: (0, 1), (0, 2), (1, 1)" in first and "without a rank" in first
    assert "3 of 9 layer pairs" in run("--rank", "2", "--world", "3")
    tiles = {file: file.stat().st_mtime_ns for file in (tmp_path / "out" / "tiles").iterdir()}
    assert "forward: mean MPPC" in run()
    assert len(tiles) == 6 and all(file.stat().st_mtime_ns == time for file, time in tiles.items())
    pd.testing.assert_frame_equal(Matches.load(tmp_path / "out").forward, mppc(*written, progress=False).forward)


def test_the_last_process_of_a_job_array_writes_the_result(tmp_path: Path, written: Sides) -> None:
    how: dict[str, Any] = {"out": tmp_path / "out", "world_size": 2, "wait": False, "progress": False}
    with pytest.raises(Unfinished, match="4 of 9 layer pairs"):
        mppc(*written, rank=0, **how)
    found = mppc(*written, rank=1, **how)
    pd.testing.assert_frame_equal(Matches.load(tmp_path / "out").forward, found.forward)
    done = CliRunner().invoke(command.app, ["a", "--with", "b", "--out", "c", "--rank", "0"])
    assert "--rank and --world belong together" in str(done.exception)
