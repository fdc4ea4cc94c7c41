"""The whole experiment in two processes: each does a part of every step, none does what another did, and the results are those of one."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from support import shared_universality as shared
from support.command import called
from support.two_processes import environment, launch

FOLDER = "universality-gpt_neox-mamba"
PARTS = ("read", "file", "tile", "neurons", "evaluated")
"""What all processes do; "look" (the dashboard and scores) and "save" are the first one's."""
OF_THE_RUN = {"run.json", "universality.json", "universality.html", "match.corpus.safetensors", "train.corpus.safetensors"}
"""Files that name the folder or the time of a run, or whose metadata come in any order; indices have the digest of a corpus."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared.text(tmp_path_factory.mktemp("texts"))


@pytest.fixture(scope="module")
def one(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process, with one thread, as each of two has."""
    out, threads = tmp_path_factory.mktemp("one"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with shared.noting(out):
            code, _, err = called(*shared.words(out, texts))
    finally:
        torch.set_num_threads(threads)
    assert code == 0, err
    return out


def two(out: Path, texts: Path) -> subprocess.CompletedProcess[str]:
    command = launch(shared.__file__, str(out), str(texts))
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=600)


def kinds(did: Counter[tuple[Any, ...]]) -> dict[str, int]:
    return {kind: sum(count for what, count in did.items() if what[0] == kind) for kind in (*PARTS, "look", "save")}


def files(out: Path) -> dict[str, bytes]:
    folder = out / "runs" / FOLDER
    found = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    return {name: file.read_bytes() for name, file in found.items() if name not in OF_THE_RUN}


def test_two_processes_do_what_one_does_even_if_one_of_them_is_killed_in_between(one: Path, texts: Path, tmp_path: Path) -> None:
    (tmp_path / "kill").touch()
    killed = two(tmp_path, texts)
    assert killed.returncode != 0 and "process 1 of 2 has ended" in killed.stderr
    did = [kinds(part) for part in shared.noted(tmp_path)]
    assert did[1]["tile"] == shared.KILLED - 1 and did[0]["save"] == 0
    (tmp_path / "kill").unlink()
    done = two(tmp_path, texts)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1, "only the first process says anything"

    (alone,), each = shared.noted(one), shared.noted(tmp_path)
    assert len(each) == 2 and each[0] + each[1] == alone, "nothing is left out, nothing is done twice"
    assert all(kinds(did)[kind] for did in each for kind in PARTS)
    assert [(kinds(did)["look"], kinds(did)["save"]) for did in each] == [(1, 1), (0, 0)]
    wanted = files(one)
    assert files(tmp_path) == wanted
    assert {"tables/summary.csv", "matched/features.html", "matches/neurons/forward.parquet"} <= set(wanted)
