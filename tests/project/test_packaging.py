"""The wheel: one top-level name, every definition inside it, and nothing else importable after installing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = ("graphs", "tasks")

# Run where only the installed package can be found: an editable install puts the checkout on sys.path, so it is taken off.
INSPECT = """
import importlib.util, json, sys
from pathlib import Path
sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(sys.argv[1])]
sys.path.insert(0, sys.argv[2])
import circuitry
from circuitry import content
print(json.dumps({
    "file": circuitry.__file__,
    "importable": [name for name in ("graphs", "tasks", "tests", "docs") if importlib.util.find_spec(name)],
    "graphs": content.names("graphs"),
    "tasks": content.names("tasks"),
    "runs": [len(circuitry.graph(name).nx) > 0 for name in content.names("graphs")],
}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a source distribution and the wheel built from it, as an upload would have them."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT), cwd=out)
    return out


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("circuitry_lm-*.whl")
    return found


def run(*command: str, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def definitions(kind: str) -> list[str]:
    return sorted(file.stem for file in (ROOT / kind).glob("*.py"))


def test_the_wheel_owns_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"circuitry", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    for kind in KINDS:
        shipped = {Path(name).stem for name in names if name.startswith(f"circuitry/{kind}/")}
        assert shipped == set(definitions(kind))


def test_the_wheel_holds_what_the_package_reads(wheel: Path) -> None:
    """Whatever git keeps in the package is in the wheel: weights and C sources as well as Python."""
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"circuitry/py.typed", "circuitry/training/scan.c"} <= names
    kept = {str(p.relative_to(ROOT)) for p in (ROOT / "circuitry").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert kept <= names


def test_the_wheel_names_its_command_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        read = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "circuitry = circuitry.__main__:main" in read["entry_points.txt"]
    assert "License-Expression: Apache-2.0" in read["METADATA"] and "Apache License" in read["LICENSE"]


def test_the_source_distribution_has_what_a_packager_needs(built: Path) -> None:
    (source,) = built.glob("circuitry_lm-*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"Makefile", "constraints.txt", "README.md", "CHANGELOG.md", "LICENSE", "tests/project/test_packaging.py"} <= names
    assert {f"{kind}/{name}.py" for kind in KINDS for name in definitions(kind)} <= names
    assert not {name for name in names if name.startswith((".venv", "runs/", "work/", "site/", "dist/"))}


def test_the_installed_package_finds_every_definition(wheel: Path, tmp_path: Path) -> None:
    target, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", str(target), str(wheel), cwd=elsewhere)
    seen = json.loads(run(sys.executable, "-c", INSPECT, str(ROOT), str(target), cwd=elsewhere))
    assert Path(seen["file"]).is_relative_to(target)
    assert seen["importable"] == []
    assert {kind: seen[kind] for kind in KINDS} == {kind: definitions(kind) for kind in KINDS}
    assert seen["runs"] and all(seen["runs"])


def test_the_checkout_finds_the_same(tmp_path: Path) -> None:
    """The meta-test: from the checkout the folders beside the package are found, and would be importable by name."""
    seen = json.loads(run(sys.executable, "-c", INSPECT, str(tmp_path), str(ROOT), cwd=tmp_path))
    assert Path(seen["file"]).is_relative_to(ROOT)
    assert set(KINDS) <= set(seen["importable"])
    assert {kind: seen[kind] for kind in KINDS} == {kind: definitions(kind) for kind in KINDS}
