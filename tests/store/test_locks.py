"""Two that write into one folder at once: the second is told who holds it. Processes that share a folder on purpose may."""

from __future__ import annotations

import errno
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

import circuitry as ct
from circuitry.errors import CircuitryError, FileError
from circuitry.features.activations import Corpus
from circuitry.features.dashboard.study import study
from circuitry.features.matching import FeatureActs, mppc
from circuitry.features.matching.tiles import Tiles
from circuitry.features.sae import Trained, train_sae
from circuitry.store.locks import Presence, held, hold
from circuitry.suites.folder import RunFolder
from support import tiny

ROOT = Path(__file__).parents[2]
X = np.maximum(np.random.default_rng(0).normal(size=(200, 6)) - 1, 0)
SIDES = [X, X[:, ::-1]], [X, 2 * X]


class Other:
    """Another process that runs some code, says when it is there, and goes on when it is told to."""

    def __init__(self, code: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "here\n"

    def kill(self) -> None:
        """SIGKILL: nothing of its own code runs any more."""
        self.process.kill()
        self.process.communicate()


Start = Callable[[str], Other]


@pytest.fixture
def start() -> Iterator[Start]:
    others: list[Other] = []

    def one(code: str) -> Other:
        others.append(Other(code))
        return others[-1]

    yield one
    for other in others:
        other.kill()


def holding(folder: Path, what: str = "hold(folder)") -> str:
    return (
        "from pathlib import Path\nfrom circuitry.store.locks import Presence, hold\n"
        f"folder = Path({str(folder)!r})\nwith {what}:\n    print('here', flush=True)\n    input()"
    )


# --- the lock ----------------------------------------------------------------------------------------------------------------


def test_a_lock_is_held_as_long_as_its_process_lives(tmp_path: Path, start: Start) -> None:
    other = start(holding(tmp_path / "run"))
    with pytest.raises(FileError) as caught, hold(tmp_path / "run"):
        pytest.fail("held twice")
    told = str(caught.value)
    assert f"{tmp_path / 'run'} is in use by process {other.process.pid} on {socket.gethostname()} since 20" in told
    assert "\n" not in told and held(tmp_path / "run")
    other.kill()
    assert not held(tmp_path / "run")
    with hold(tmp_path / "run"):
        assert held(tmp_path / "run")
    assert not list((tmp_path / "run").iterdir())


def test_one_process_cannot_hold_a_folder_twice_either(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(FileError, match=f"process {os.getpid()} "), hold(tmp_path):
        pytest.fail("held twice")
    with hold(tmp_path, "one"), hold(tmp_path, "other"):
        pass


def test_an_error_releases(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), hold(tmp_path):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_shared_and_alone_exclude_each_other(tmp_path: Path) -> None:
    with hold(tmp_path, shared=True):
        with hold(tmp_path, shared=True):
            pass
        with pytest.raises(FileError), hold(tmp_path):
            pytest.fail("held alone beside one who shares")
    with hold(tmp_path), pytest.raises(FileError), hold(tmp_path, shared=True):
        pytest.fail("shared with one who is alone")
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_locked_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems know no locks."""

    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("circuitry.store.locks.fcntl.flock", unknown)
    with hold(tmp_path), hold(tmp_path):
        assert held(tmp_path), "as nobody can know"


# --- the doors ---------------------------------------------------------------------------------------------------------------


def trained(at: Path) -> object:
    points = [torch.randn(64, 4, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    return train_sae(None, "resid[0]", activations=points, tokens=256, features=8, progress=False, out=at)


def run(at: Path) -> object:
    suite = ct.Suite(
        name="s",
        description="a",
        task="induction",
        options={"distance": 8},
        tables=[ct.TableSpec("t", "T", "resid[1] @ B -> logits")],
    )
    return ct.run(suite, tiny.model("gpt_neox"), out=at.parent, examples=4, baseline=0)


def browsed(at: Path) -> object:
    text = Corpus(np.array([0, 5, 6], np.int32), np.array([0, 3]), np.array([True, False, False]), "three ids", "")
    table = pd.DataFrame([{"layer_a": 0, "feature_a": 0, "mppc": 1.0, "layer_b": 0, "feature_b": 0}])
    acts = [csr_array([[0.0], [2.0]])]
    return study(table, acts, acts, text, None, at)


DOORS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "training": ("folder", trained),
    "encoding": ("folder", lambda at: FeatureActs.write(at, [X], features=6)),
    "matching": ("folder", lambda at: mppc(*SIDES, min_count=1, null=None, out=at, progress=False)),
    "a part of matching": (
        "folder",
        lambda at: mppc(*SIDES, min_count=1, null=None, out=at, rank=0, world_size=2, progress=False),
    ),
    "a suite": ("s-model", run),
    "features": ("folder", browsed),
}


@pytest.mark.parametrize(("name", "door"), DOORS.values(), ids=DOORS)
def test_the_second_is_told_who_is_at_it(
    tmp_path: Path, start: Start, name: str, door: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ct.PatchingTable, "plot", lambda _, path: None)
    if door is run:
        with pytest.raises(ct.CircuitryError, match="ZeroDivisionError"), monkeypatch.context() as patched:
            patched.setattr(RunFolder, "part", lambda *_: 1 / 0)
            door(tmp_path / name)  # an interrupted one
        (folder,) = tmp_path.iterdir()
    else:
        folder = tmp_path / name
    other = start(holding(folder))
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(FileError, match=f"{re.escape(str(folder))} is in use by process {other.process.pid} on "):
        door(tmp_path / name)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    other.kill()
    if door is not DOORS["a part of matching"][1]:  # which would wait for the other part
        for _ in range(2):
            door(tmp_path / name)
            assert not list(tmp_path.rglob("*.lock"))


def test_two_trainings_in_one_folder(tmp_path: Path) -> None:
    """The second starts while the stream of the first makes its batches, in the same process even."""
    seen: list[str] = []

    class Meanwhile:
        def __iter__(self) -> Iterator[torch.Tensor]:
            for k in range(4):
                if k == 3 and not seen:
                    with pytest.raises(FileError) as caught:
                        trained(tmp_path / "run")
                    seen.append(str(caught.value))
                yield torch.randn(64, 4, generator=torch.Generator().manual_seed(k))

    how: dict[str, Any] = {"tokens": 256, "features": 8, "progress": False}
    found = train_sae(None, "resid[0]", activations=Meanwhile(), out=tmp_path / "run", **how)
    assert f"is in use by process {os.getpid()} on " in seen[0]
    alone = train_sae(None, "resid[0]", activations=list(Meanwhile()), **how)
    assert torch.equal(found["resid[0]"].W_enc, alone["resid[0]"].W_enc)


def test_what_is_complete_is_read_while_another_holds_it(tmp_path: Path, start: Start) -> None:
    trained(tmp_path / "run"), FeatureActs.write(tmp_path / "acts", [X], features=6)
    for folder in ("run", "acts"):
        start(holding(tmp_path / folder))
    assert isinstance(trained(tmp_path / "run"), Trained)
    assert FeatureActs.write(tmp_path / "acts", [X], features=6).tokens == 200


# --- processes that share a folder on purpose --------------------------------------------------------------------------------


def part(folder: Path, rank: int, then: str) -> str:
    """Process ``rank`` of two, which computes the first of its layer pairs, or none, and stops there."""
    return f"""
import numpy as np
from circuitry.features.matching import mppc
from circuitry.features.matching.tiles import Tiles
put = Tiles.put
def stop(self, pair, tile):
    {then}
    print("here", flush=True)
    input()
Tiles.put = stop
X = np.maximum(np.random.default_rng(0).normal(size=(200, 6)) - 1, 0)
mppc([X, X[:, ::-1]], [X, 2 * X], min_count=1, null=None, engine="scipy", out={str(folder)!r}, rank={rank}, world_size=2, progress=False)
"""


HOW: dict[str, Any] = {"min_count": 1, "null": None, "engine": "scipy", "progress": False}


def test_waiting_for_a_process_that_is_killed_ends(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed while this one waits: no time has to pass until that is seen, and its first pair is kept."""
    other = start(part(tmp_path / "out", 1, "put(self, pair, tile)"))
    waits: list[float] = []

    def meanwhile(seconds: float) -> None:
        waits.append(seconds)
        other.kill()

    monkeypatch.setattr("circuitry.features.matching.tiles.time.sleep", meanwhile)
    with pytest.raises(CircuitryError) as caught:
        mppc(*SIDES, **HOW, out=tmp_path / "out", rank=0, world_size=2)
    told = str(caught.value)
    assert "process 1 of 2 has ended, and layer pairs of its part are missing" in told and ": (1, 1); all others are kept" in told
    assert "\n" not in told and "run the same command, or one without a rank, to compute these" in told and len(waits) == 1
    assert len(list((tmp_path / "out" / "tiles").iterdir())) == 3
    whole = mppc(*SIDES, **HOW)
    made: list[Any] = []
    put = Tiles.put

    def noted(self: Tiles, pair: tuple[int, int], tile: Any) -> None:
        made.append(pair)
        put(self, pair, tile)

    monkeypatch.setattr(Tiles, "put", noted)
    found = mppc(*SIDES, **HOW, out=tmp_path / "out")
    assert made == [(1, 1)] and found.forward.equals(whole.forward)
    assert not list((tmp_path / "out").glob("*.lock"))


def test_waiting_for_a_process_that_fails_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: float) -> None:
        with pytest.raises(ZeroDivisionError), Tiles(2, 2, identity, tmp_path, 1, 2).open():
            raise ZeroDivisionError

    identity = {"some": "comparison"}
    tiles = Tiles(2, 2, identity, tmp_path, 0, 2)
    monkeypatch.setattr("circuitry.features.matching.tiles.time.sleep", fails)
    monkeypatch.setattr(Tiles, "_missing", lambda self, pairs: [(0, 1), (1, 1)])
    with pytest.raises(CircuitryError, match=r"process 1 of 2 has ended.*missing.*: \(0, 1\), \(1, 1\);"), tiles.open():
        tiles.wait()


def test_a_process_that_is_yet_to_come_is_waited_for(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one that was killed before had left does not look like its end; after long enough nobody is expected any more."""
    start(part(tmp_path / "out", 1, "pass")).kill()
    assert (tmp_path / "out" / "rank-1.lock").is_file()
    came: list[float] = []

    def comes(seconds: float) -> None:
        came.append(seconds)
        if len(came) == 3:
            mppc(*SIDES, **HOW, out=tmp_path / "out", rank=1, world_size=2)

    monkeypatch.setattr("circuitry.features.matching.tiles.time.sleep", comes)
    found = mppc(*SIDES, **HOW, out=tmp_path / "out", rank=0, world_size=2)
    assert len(came) == 3 and found.forward.equals(mppc(*SIDES, **HOW).forward)
    monkeypatch.setattr("circuitry.features.matching.tiles.PATIENCE", -1.0)
    with pytest.raises(CircuitryError, match=r"process 1 of 2 has not come.*: \(0, 1\), \(1, 1\);"):
        mppc(*SIDES, **HOW, out=tmp_path / "other", rank=0, world_size=2)


def test_a_process_that_has_just_ended_well_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last file came between a look for files and a look for processes."""
    tiles = Tiles(1, 2, {}, tmp_path, 0, 2)
    looks = iter([[(0, 1)], [], []])
    monkeypatch.setattr(Tiles, "_missing", lambda *_: next(looks))
    monkeypatch.setattr(Presence, "state", lambda *_: "ended")
    monkeypatch.setattr("circuitry.features.matching.tiles.time.sleep", lambda _: None)
    with tiles.open():
        tiles.wait()


def test_one_part_is_computed_by_one_process(tmp_path: Path, start: Start) -> None:
    other = start(part(tmp_path / "out", 1, "pass"))
    with pytest.raises(FileError, match=f"is in use by process {other.process.pid} on "):
        mppc(*SIDES, **HOW, out=tmp_path / "out", rank=1, world_size=2)
    with pytest.raises(FileError, match="is in use by process"):
        mppc(*SIDES, **HOW, out=tmp_path / "out")
