"""A training that is killed goes on to the same bits; several processes train as one; other settings are refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import circuitry as ct
from circuitry.features.sae import Trained, train_sae
from circuitry.features.sae.checkpoints import TrainingFolder
from support import planted, shared_training
from support.planted import Planted, weights

SETTINGS: dict[str, Any] = {"features": 24, "measured": 128, "dead_after": 256, "progress": False}
TOKENS = 64 * 24


def run(*program: str, processes: int) -> subprocess.Popen[bytes]:
    """A program, in one process or several, each with one thread."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    here = os.pathsep.join([str(Path(ct.__file__).parents[1]), str(Path(planted.__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, *launch, *program], env=environment)


def child(folder: Path, batch: int, *settings: str, processes: int = 1, wait: bool = True) -> subprocess.Popen[bytes]:
    """tests/support/planted.py as a program."""
    started = run(planted.__file__, str(folder), str(batch), *settings, processes=processes)
    if wait:
        assert started.wait(timeout=200) == 0
    return started


def chosen(settings: dict[str, Any]) -> dict[str, Any]:
    """SETTINGS with others in their place; None leaves one out."""
    return {name: value for name, value in {**SETTINGS, "tokens": TOKENS, **settings}.items() if value is not None}


def train(out: Path | None, **settings: Any) -> Trained:
    stream = Planted(("resid[0]", "mlp[0]"))
    saved: dict[str, Any] = {} if out is None else {"save_every": 0.0}
    return train_sae(None, activations=stream, out=out, **saved, **chosen(settings))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL while the stream makes batch 13; dead features were resampled before and are again after."""
    run = tmp_path / "run"
    killed = child(tmp_path, 64, "kind=topk", "k=1", "revive=resample", "resample_every=512", "hold=13", wait=False)
    deadline = time.monotonic() + 200
    while not (run / "checkpoint-13").is_dir() or (run / "checkpoint-12").is_dir():
        assert killed.poll() is None and time.monotonic() < deadline, "the checkpoint never came"
        time.sleep(0.02)
    killed.kill()
    assert killed.wait() < 0
    assert json.loads((run / "training.json").read_text())["state"] == "running"
    with pytest.raises(ct.CircuitryError, match="no complete training"):
        Trained.load(run)
    how: dict[str, Any] = {"kind": "topk", "k": 1}
    revived: dict[str, Any] = {**how, "revive": "resample", "resample_every": 512}
    begun = list[int]()

    class Noting(Planted):
        def batches(self, start: int = 0) -> Any:
            begun.append(start)
            return super().batches(start)

    stream = Noting(("resid[0]", "mlp[0]"))
    resumed = train_sae(None, activations=stream, out=run, tokens=TOKENS, **revived, **SETTINGS)
    whole = train(None, **revived)
    assert begun == [0, 13], "the first batch tells one stream from another"
    assert same(weights(resumed), weights(whole))
    assert resumed.log.equals(whole.log) and len(whole.log) == 48
    assert not same(weights(whole), weights(train(None, **how))), "nothing was resampled"


class Stop(Exception):
    """Raised in the middle of a training."""


def stopped(out: Path, after: int, **settings: Any) -> None:
    """A training whose stream breaks before batch ``after``."""

    class Breaking(Planted):
        def values(self, node: str, number: int) -> Tensor:
            if number == after:
                raise Stop
            return super().values(node, number)

    stream = Breaking(("resid[0]", "mlp[0]"))
    with pytest.raises(Stop):
        train_sae(None, activations=stream, out=out, save_every=0.0, **chosen(settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"kind": "topk", "k": 3, "revive": "auxiliary", "dead_after": 128},
        {"kind": "topk", "k": 3},
        {"kind": "batchtopk", "k": 2},
        {"kind": "jumprelu", "revive": "resample", "resample_every": 128, "dead_after": 64},
        {"kind": "matryoshka", "k": 2, "prefixes": 3},
        {"normalise": False, "measured": None},
    ],
    ids=str,
)
def test_what_resumes_is_what_stopped(tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The report too, which is due every fourth step: what was added up before is kept."""
    monkeypatch.setattr("circuitry.features.sae.passes.REPORTS", 6)
    stopped(tmp_path / "run", 9, **settings)
    resumed, whole = train(tmp_path / "run", **settings), train(None, **settings)
    assert same(weights(resumed), weights(whole)) and resumed.log.equals(whole.log) and len(whole.log) == 12


def test_a_kill_between_the_last_checkpoint_and_the_files_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise Stop

    points = [torch.randn(64, 4, generator=torch.Generator().manual_seed(k)) for k in range(8)]
    how: dict[str, Any] = {"tokens": 512, "features": 8, "save_every": 0.0, "progress": False, "out": tmp_path / "run"}
    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(Trained, "save", broken)
        train_sae(None, "resid[0]", activations=points, **how)
    assert (tmp_path / "run" / "checkpoint-8").is_dir()
    whole = train_sae(None, "resid[0]", activations=points, tokens=512, features=8, progress=False)
    assert same(weights(train_sae(None, "resid[0]", activations=points, **how)), weights(whole))


def test_tensors_that_are_others_are_refused(tmp_path: Path) -> None:
    how: dict[str, Any] = {"tokens": 128, "features": 8, "progress": False, "out": tmp_path / "run"}
    train_sae(None, "resid[0]", activations=[torch.ones(64, 4)] * 2, **how)
    with pytest.raises(ct.CircuitryError, match=r"first batch: .* there, .* here"):
        train_sae(None, "resid[0]", activations=[torch.full((64, 4), 2.0)] * 2, **how)


def test_a_kill_while_the_first_record_is_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "training.json.1a2b3c4d.new").write_text("{")
    assert train(tmp_path).folder == tmp_path
    assert not list(tmp_path.glob("*.new")), "what was begun is cleared away"


def test_a_kill_while_a_checkpoint_is_written_costs_that_checkpoint_only(tmp_path: Path) -> None:
    """What such a kill may leave behind: a checkpoint half written, and the one before the last not yet removed."""
    run = tmp_path / "run"
    stopped(run, 5)
    shutil.copytree(run / "checkpoint-5", tmp_path / "earlier")
    stopped(run, 9)
    shutil.copytree(tmp_path / "earlier", run / "checkpoint-5")
    shutil.copytree(run / "checkpoint-9", run / "checkpoint.new")
    (run / "checkpoint.new" / "1.safetensors").write_bytes(b"half")
    assert TrainingFolder(run).open(TrainingFolder(run).work.record()["identity"]) == 9  # type: ignore[index]
    assert same(weights(train(run)), weights(train(None)))
    assert sorted(file.name for file in run.iterdir()) == ["log.csv", "mlp-0", "resid-0", "training.json"]


def test_no_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    stopped(tmp_path, 5)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    state = load_file(tmp_path / "checkpoint-5" / "0.safetensors")
    assert {"weight.W_enc", "exp_avg.W_dec", "exp_avg_sq.b_dec", "step.b_enc", "tokens_since_fired", "meter", "scale"} <= set(
        state
    )
    assert state["weight.W_enc"].dtype == torch.float32 and float(state["step.b_enc"]) == 5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"l1": 3.0}, r"recipe l1: 2\.0 there, 3\.0 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"tokens": 2 * TOKENS}, "recipe tokens: 1536 there, 3072 here"),
    ],
)
def test_a_folder_with_other_settings_is_refused(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    stopped(tmp_path, 3)
    with pytest.raises(ct.CircuitryError, match=told):
        train(tmp_path, **settings)
    assert (tmp_path / "checkpoint-3").is_dir()


def test_another_stream_and_a_folder_of_something_else_are_refused(tmp_path: Path) -> None:
    stopped(tmp_path / "run", 3)
    with pytest.raises(ct.CircuitryError, match="stream seed: 0 there, 5 here"):
        train_sae(None, activations=Planted(("resid[0]", "mlp[0]"), seed=5), out=tmp_path / "run", tokens=TOKENS, **SETTINGS)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(ct.CircuitryError, match="not empty"):
        train(tmp_path / "notes")
    assert [file.name for file in (tmp_path / "notes").iterdir()] == ["mine.txt"]


def test_a_complete_training_is_read_back(tmp_path: Path) -> None:
    first = train(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}

    class Unread(Planted):
        def values(self, node: str, number: int) -> Tensor:
            assert number == 0, "of a complete training only the first batch is looked at, to know it again"
            return super().values(node, number)

    again = train_sae(None, activations=Unread(("resid[0]", "mlp[0]")), out=tmp_path, tokens=TOKENS, **SETTINGS)
    assert same(weights(first), weights(again)) and before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    assert first.log.round(9).equals(again.log.round(9)) and first.folder == again.folder == tmp_path
    assert first["mlp[0]"].config == again["mlp[0]"].config


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Each trains one of the two SAEs, on batches that are given to both."""
    how: dict[str, Any] = {"kind": "topk", "k": 1, "revive": "resample", "resample_every": 512}
    child(tmp_path, 64, *(f"{name}={value}" for name, value in how.items()), processes=2)
    ranks = [load_file(tmp_path / f"rank-{rank}.safetensors") for rank in range(2)]
    one, written = train(None, **how), Trained.load(tmp_path / "run")
    assert all(same(weights(one), found) for found in (*ranks, weights(written)))
    assert written.log.round(9).equals(one.log.round(9))


@pytest.mark.parametrize("nodes", [shared_training.NODES, shared_training.NODES[:1]], ids=len)
def test_two_processes_share_the_passes_of_a_model(tmp_path: Path, nodes: list[str]) -> None:
    """A process without an SAE runs its part of the passes too."""
    (tmp_path / "two").mkdir()
    started = run(shared_training.__file__, str(tmp_path / "two"), " ".join(nodes), processes=2)
    assert started.wait(timeout=200) == 0
    one = sorted(shared_training.train(tmp_path / "one", nodes=nodes))
    ran = [json.loads((tmp_path / "two" / f"ran-{rank}.json").read_text()) for rank in range(2)]
    assert sorted(tuple(size) for several in ran for size in several) == one, "some pass ran twice, or never"
    first, second = (sum(rows * length for rows, length in several) for several in ran)
    assert 0.8 < first / second < 1.25
    found = load_file(tmp_path / "one-0.safetensors")
    assert all(same(found, load_file(tmp_path / "two" / f"run-{rank}.safetensors")) for rank in range(2))
    assert (tmp_path / "one" / "log.csv").read_text() == (tmp_path / "two" / "run" / "log.csv").read_text()


def test_more_processes_resume_what_one_has_begun(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        shared_training.train(tmp_path / "run", stop=40)
    (begun,) = (tmp_path / "run").glob("checkpoint-*")
    assert run(shared_training.__file__, str(tmp_path), " ".join(shared_training.NODES), processes=2).wait(timeout=200) == 0
    whole = shared_training.train(tmp_path / "whole")
    ran = [json.loads((tmp_path / f"ran-{rank}.json").read_text()) for rank in range(2)]
    assert 0 < len(ran[0]) + len(ran[1]) < len(whole) and not begun.exists()
    assert same(load_file(tmp_path / "whole-0.safetensors"), load_file(tmp_path / "run-1.safetensors"))
