"""Finds and runs the definition files in ``graphs/`` and ``tasks/``, which are loaded by path and never imported."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

from .blame import blamed, not_utf8
from .errors import CircuitryError, suggest

_PACKAGE = Path(__file__).parent
BUNDLED = _PACKAGE / "models" / "bundled"
"""The trained models that come with the package, one folder for each."""
OWN = (".py", ".csv", ".jsonl")
"""A name with one of these suffixes is the path of a custom file: a definition, or a table of prompts."""


def folder(kind: str) -> Path:
    """The folder of shipped definitions: inside the package if it is installed, beside the package in a checkout.

    >>> folder("graphs").name
    'graphs'
    """
    inside = _PACKAGE / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind


def names(kind: str) -> list[str]:
    """The shipped definitions of a kind.

    >>> "mamba" in names("graphs")
    True
    """
    return sorted(path.stem for path in folder(kind).glob("*.py"))


def load(kind: str, name: str) -> ModuleType:
    """Run the definition ``name``: a shipped one, or the path of a custom file (``./mine.py``).

    Raises CircuitryError if the file does not exist, and with its line if it is not Python or raises anything.

    >>> load("graphs", "mamba").ARCHITECTURE.name
    'mamba'
    """
    path = find(kind, name)
    return _run(kind, path, path.stat().st_mtime_ns)


def find(kind: str, name: str) -> Path:
    """The file of the definition ``name``. Raises CircuitryError if there is none.

    >>> find("tasks", "induction").name
    'induction.py'
    """
    custom = Path(name).suffix in OWN
    path = Path(name).resolve() if custom else folder(kind) / f"{name}.py"
    if not path.is_file():
        raise CircuitryError(f"no file {path}" if custom else f"no definition {name!r} in {kind}: {suggest(name, names(kind))}")
    return path


# The time of the last change is part of the key, so that an edited file runs again.
@functools.cache
def _run(kind: str, path: Path, _changed: int) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"circuitry_{kind}_{path.stem}", path)
    if spec is None:
        raise CircuitryError(f"{path} cannot be run as a Python file")
    module = importlib.util.module_from_spec(spec)
    # Not by the loader: it keeps bytecode beside the file, which stays in use if an edit within one second leaves the size as it was.
    with blamed("while the file was run"):
        exec(compile(_source(path), str(path), "exec", dont_inherit=True), module.__dict__)
    return module


def _source(path: Path) -> str:
    """The text of a Python file. Raises CircuitryError if it is not in UTF-8, or in the encoding that its first lines name."""
    try:
        return importlib.util.decode_source(path.read_bytes())
    except (UnicodeDecodeError, SyntaxError) as error:  # the latter for the first lines, where an encoding may be named
        raise CircuitryError(not_utf8(path) or f"{path.name}: {error}") from error


def constant(kind: str, name: str, constant_name: str) -> object:
    """The constant that a definition must have, such as ``ARCHITECTURE`` or ``TASK``. Raises CircuitryError if it is missing.

    >>> constant("graphs", "gpt2", "ARCHITECTURE").name
    'gpt2'
    """
    module = load(kind, name)
    if not hasattr(module, constant_name):
        raise CircuitryError(f"{module.__file__} defines no {constant_name}; see the files in {folder(kind).name}/ for examples")
    return getattr(module, constant_name)
