"""``circuitry doctor``: what it finds, and that it fails where something is wrong."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import circuitry as ct
from circuitry.cli import examination
from circuitry.compiled import TrueNode
from support.command import called

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def untested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the test of a model, which has its own tests."""
    monkeypatch.setattr(examination, "self_test", lambda: "passed: not run")


def test_a_healthy_machine() -> None:
    code, out, err = called("doctor")
    assert code == 0 and not err, out + err
    assert f"circuitry {ct.__version__}" in out and f"torch {metadata.version('torch')}" in out
    assert "passed: 4 of 12 states of compiled:mamba have an effect" in out and "everything that circuitry needs is there" in out


def test_json_holds_the_same(untested: None) -> None:
    code, out, _ = called("doctor", "--json")
    found = json.loads(out)
    assert code == 0 and found["healthy"] and found["problems"] == [] and found["test"] == "passed: not run"
    assert found["versions"]["transformers"] == metadata.version("transformers")
    assert any(device.startswith("cpu") for device in found["devices"])


def test_every_extra_has_its_purpose_and_what_is_missing(untested: None, monkeypatch: pytest.MonkeyPatch) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == set(examination.PURPOSES)
    version = examination._version
    monkeypatch.setattr(examination, "_version", lambda name: None if name == "gguf" else version(name))
    found = {extra.name: extra for extra in examination.examine().extras}
    assert [text.split(":")[0] for text in found["gguf"].missing] == ["gguf is not installed"]
    assert found["gguf"].text().endswith("not installed (pip install 'circuitry-lm[gguf]')")


def test_a_package_of_another_version_is_a_problem(untested: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "requirements", lambda: ([Requirement("numpy<1"), Requirement("no-such-package")], {}))
    code, out, _ = called("doctor")
    assert code == 1 and "2 to mend" in out
    assert f"numpy {metadata.version('numpy')} is installed, and <1 is needed: pip install 'numpy<1'" in out
    assert "no-such-package is not installed: pip install 'no-such-package'" in out


def test_a_folder_that_cannot_be_written_is_a_problem(untested: None) -> None:
    Path("runs").write_text("in the way")
    code, out, _ = called("doctor")
    assert code == 1 and "runs is a file, not a folder" in out and "give --out" in out


def test_the_test_fails_if_what_is_measured_is_not_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a kernel of this machine computes something else: here the truth is moved instead."""
    known = ct.compiled.truth("mamba")
    moved = tuple(TrueNode(n.corruption, n.node.replace("[1]", "[0]"), n.positions, n.role) for n in known.nodes)

    monkeypatch.setattr("circuitry.compiled.truth", lambda *_: dataclasses.replace(known, nodes=moved))
    code, out, _ = called("doctor")
    assert code == 1 and "failed: CircuitryError: in compiled:mamba the states" in out and "1 to mend" in out


def test_a_broken_installation_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise ImportError("libtorch.so: cannot open")

    monkeypatch.setattr(examination, "self_test", broken)
    code, out, _ = called("doctor")
    assert code == 1 and "failed: ImportError: libtorch.so: cannot open" in out
