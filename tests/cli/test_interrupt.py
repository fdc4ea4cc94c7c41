"""Ctrl-C: one line, exit code 130, and a record that says what happened, whatever the command was doing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.command import called, circuitry

MINE = """
import circuitry as ct

SUITE = ct.Suite("mine", "states", "induction", options={"distance": 8}, tables=[
    ct.TableSpec("states", "States of every layer", "h[{layer}] @ B+1 -> logits freezing h"),
])
"""
STATES = "h[{layer}] @ B+1 -> logits freezing h"


def stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(MINE)


@pytest.mark.parametrize(
    "words",
    [
        ("run", "induction"),
        ("patch", "bundled:mamba", STATES),
        ("discover", "bundled:mamba"),
        ("offsets", "bundled:mamba"),
        ("demo",),
    ],
)
def test_while_a_model_is_loaded(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("circuitry.models.loading.load", stop)
    code, _, err = called(*words)
    assert (code, err) == (130, "Interrupted.\n") and not Path("runs").exists()


RUN = ("run", "./mine.py", "--model", "bundled:mamba", "--examples", "4")
DISCOVER = (
    "discover",
    "bundled:mamba",
    "-o",
    "distance=8",
    "--examples",
    "8",
    "--verify",
    "2",
    "--method",
    "eap",
    "--out",
    "found",
)


@pytest.mark.parametrize(
    ("words", "where", "folder"),
    [(RUN, "circuitry.suites.study.patch", "runs/mine-mamba"), (DISCOVER, "circuitry.discovery.search._found", "found")],
    ids=["run", "discover"],
)
def test_a_run_says_so_until_it_is_resumed(
    words: tuple[str, ...], where: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state() -> str:
        return str(json.loads((Path(folder) / "run.json").read_text())["state"])

    with monkeypatch.context() as patched:
        patched.setattr(where, stop)
        code, _, err = called(*words)
    assert code == 130 and err.count("\n") == 1 and state() == "interrupted"
    assert err == f"Interrupted. Run the same command to resume; what is finished is in {folder}.\n"
    seen = list[str]()

    def look_and_stop(*_: Any, **__: Any) -> None:
        seen.append(state())
        stop()

    with monkeypatch.context() as patched:
        patched.setattr(where, look_and_stop)
        assert called(*words)[0] == 130
    assert seen == ["running"], "while it is resumed"
    if words is RUN:
        circuitry(*words)
        assert state() == "complete"


AT = """
import os, signal, sys

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.meta_path.insert(0, AtImport())
sys.argv = ["circuitry", "explain", "bundled:mamba", "h[0] -> logits"]
from circuitry.__main__ import main
main()
"""


@pytest.mark.parametrize("name", ["circuitry.cli", "torch"])
def test_while_python_imports(name: str) -> None:
    """A real SIGINT, at the first import of our own commands and of torch."""
    done = subprocess.run([sys.executable, "-c", AT.format(name=name)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "Interrupted.\n")
