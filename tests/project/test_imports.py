"""Which module may import which: data flows one way, and text, graphs and plans need no torch."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from support.layers import HEAVY, LAYERS, LEVEL, LIGHT, PACKAGE, ROOT, heavy_after_importing

SHALLOW = 20
"""Who reads a module has to know those below it: a chain of imports stays shorter than this."""


def test_the_language_the_graphs_and_the_planner_need_no_torch() -> None:
    assert heavy_after_importing(*LIGHT) == []


def test_planning_a_path_needs_no_torch() -> None:
    code = (
        "import sys, circuitry as ct; from circuitry.planning import explain, plan;"
        "explain(plan('h[{layer}] @ 4 -> logits freezing h', ct.graph('mamba', layer=2)));"
        "print(*[m for m in ('torch', 'nnsight') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_the_test_can_fail() -> None:
    assert "torch" in heavy_after_importing("circuitry", "torch")


def imported(file: Path) -> Iterator[str]:
    """Full names of everything a file of the package imports, at its top or inside a function."""
    package = file.relative_to(PACKAGE.parent).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*start, *([node.module] if node.module else [])))
            # `from .. import content` imports a module, `from ..errors import suggest` a name in one.
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "circuitry" else (base,)


def layer_of(module: str) -> str:
    """The first name below ``circuitry``, or nothing for a module that is not ours."""
    parts = module.split(".")
    return parts[1] if parts[0] == "circuitry" and len(parts) > 1 else ""


def forbidden(file: Path) -> list[str]:
    """Imports of a file that do not come from a lower row or from its own package."""
    own = layer_of(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts))
    wanted = {layer_of(module) for module in imported(file)} - {"", own}
    return sorted(name for name in wanted if LEVEL.get(name, len(LAYERS)) >= LEVEL[own])


FILES = [file for name in sorted(LEVEL) for file in sorted([*(PACKAGE / name).rglob("*.py"), *PACKAGE.glob(f"{name}.py")])]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below(file: Path) -> None:
    assert forbidden(file) == []


def test_every_layer_is_looked_at() -> None:
    assert {layer_of(".".join(file.relative_to(ROOT).with_suffix("").parts)) for file in FILES} == set(LEVEL)


def name_of(file: Path) -> str:
    """The name under which a file of the package is imported."""
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def at_the_top(file: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import of the package's own at a file's top: what loads with it. Types alone do not."""
    package = file.relative_to(PACKAGE.parent).parts[:-1]
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            yield from ((".".join((*start, *filter(None, [node.module]))), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


def needed() -> dict[str, set[str]]:
    """By module, the modules that its import statements name; of a package its ``__init__``, where no module of it is named."""
    files = {name_of(file): file for file in PACKAGE.rglob("*.py")}
    found = {}
    for name, file in files.items():
        pairs = {f"{module}.{one}" if f"{module}.{one}" in files else module for module, one in at_the_top(file)}
        found[name] = pairs & files.keys() - {name}
    return found


def longest_chain(needs: Mapping[str, set[str]]) -> tuple[str, ...]:
    """The longest way down. Raises CycleError where modules import each other."""
    ways = dict[str, tuple[str, ...]]()
    for module in TopologicalSorter(needs).static_order():
        ways[module] = (module, *max((ways[one] for one in needs[module]), key=len, default=()))
    return max(ways.values(), key=len)


def test_no_chain_of_imports_is_long() -> None:
    chain = longest_chain(needed())
    assert len(chain) < SHALLOW, "\n".join(chain)


def test_the_test_of_chains_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a package's face a chain is longer than to the module behind it."""
    package = tmp_path / "circuitry"
    (package / "paths").mkdir(parents=True)
    (package / "paths" / "values.py").write_text("import json")
    (package / "paths" / "__init__.py").write_text("from .values import Node")
    (package / "__init__.py").write_text("")
    (package / "new.py").write_text("def late() -> None:\n    from .paths import Node")
    monkeypatch.setitem(globals(), "PACKAGE", package)
    assert longest_chain(needed()) == ("circuitry.paths", "circuitry.paths.values")
    for line, chain in (
        ("from .paths.values import Node", ("circuitry.new", "circuitry.paths.values")),
        ("from .paths import values", ("circuitry.new", "circuitry.paths.values")),
        ("import circuitry.paths", ("circuitry.new", "circuitry.paths", "circuitry.paths.values")),
        ("from .paths import Node", ("circuitry.new", "circuitry.paths", "circuitry.paths.values")),
    ):
        (package / "new.py").write_text(line)
        assert max(longest_chain(needed()), chain, key=len) == longest_chain(needed())
        assert needed()["circuitry.new"] == {chain[1]}


def through_a_face(file: Path) -> list[str]:
    """Names that a file takes from a package's ``__init__``, which has them from elsewhere."""
    found = []
    for module, name in at_the_top(file):
        face = PACKAGE.parent.joinpath(*module.split("."), "__init__.py")
        if face.exists() and name in {taken for source, taken in at_the_top(face) if source != module}:
            found.append(f"{module}.{name}")
    return found


@pytest.mark.parametrize(
    "file", [file for file in FILES if file.name != "__init__.py"], ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_inside_a_name_comes_from_where_it_is_defined(file: Path) -> None:
    """What packages show is for users: inside, who follows an import finds the thing itself."""
    assert through_a_face(file) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from ..paths import Node", ["circuitry.paths.Node"]),
        ("from circuitry.paths import Node, values", ["circuitry.paths.Node"]),
        ("from ..paths.values import Node\nfrom .. import content", []),
    ],
)
def test_the_test_of_faces_can_fail(line: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "circuitry"
    (package / "paths").mkdir(parents=True)
    (package / "paths" / "__init__.py").write_text("from .values import Node")
    (package / "__init__.py").write_text("")
    (package / "new").mkdir()
    (package / "new" / "one.py").write_text(line)
    monkeypatch.setitem(globals(), "PACKAGE", package)
    assert through_a_face(package / "new" / "one.py") == found


EXECUTORS = ("rows", "suffix", "reference")
CHOOSING = {"open": set(EXECUTORS), "verified": {"reference"}}
"""Modules at the seam that choose an executor, or compare with one."""
SEAM = sorted((PACKAGE / "executing").rglob("*.py"))


def executors_imported(file: Path) -> set[str]:
    """The executors, other than its own, that a file below ``executing`` imports from."""
    modules = (module.split(".") for module in imported(file))
    found = {parts[2] for parts in modules if parts[:2] == ["circuitry", "executing"] and len(parts) > 2}
    return found & set(EXECUTORS) - {*file.relative_to(PACKAGE / "executing").parts}


@pytest.mark.parametrize("file", SEAM, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_executor_knows_another_and_the_seam_knows_none(file: Path) -> None:
    allowed = CHOOSING.get(file.stem, set()) if file.parent.name == "executing" else set()
    assert executors_imported(file) <= allowed


def test_what_chooses_an_executor_imports_it() -> None:
    """So that the test above sees imports at all."""
    assert {name: executors_imported(PACKAGE / "executing" / f"{name}.py") for name in CHOOSING} == CHOOSING


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("from ..running import patch", ["running"]),
        ("from .. import running", ["running"]),
        ("import circuitry.results.table", ["results"]),
        ("from circuitry.features.sae import SAE", ["features"]),
        ("from circuitry import cli", ["cli"]),
        ("from ..models import Model", ["models"]),
        ("def late():\n    from ..running.engine import Engine", ["running"]),
        ("from ..paths import Node\nfrom .. import content\nfrom . import other\nimport json", []),
    ],
)
def test_the_test_of_layers_can_fail(line: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "circuitry" / "planning" / "new.py"
    file.parent.mkdir(parents=True)
    file.write_text(line)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "circuitry")
    assert forbidden(file) == found


@pytest.mark.parametrize("file", [*(ROOT / "graphs").glob("*.py"), *(ROOT / "tasks").glob("*.py")], ids=lambda file: file.name)
def test_definitions_import_no_torch_and_nothing_private(file: Path) -> None:
    modules = list(_absolute(file))
    assert not [m for m in modules if m.split(".")[0] in HEAVY]
    assert not [m for m in modules if m.split(".")[0] == "circuitry" and any(part.startswith("_") for part in m.split("."))]


def _absolute(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "definitions are run by path, so they have no package to be relative to"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_colours_are_named_in_one_file() -> None:
    """Greys as matplotlib writes them, such as "0.5", do not count."""
    named = {file.name for file in PACKAGE.rglob("*.py") for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", node.value)}  # fmt: skip
    assert named == {"colours.py"}
