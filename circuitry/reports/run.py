"""Reads a run folder: what was run, its tables, and, once it is complete, its summary and circuit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..blame import not_utf8
from ..drawing.circuit import Circuit
from ..errors import CircuitryError
from ..results.table import PatchingTable

_NEEDED = ("model", "state", "tables")


@dataclass(frozen=True)
class Run:
    """A run folder in memory: ``provenance`` is run.json, ``summary`` summary.json; ``missing`` names tables without a file."""

    folder: Path
    provenance: dict[str, Any]
    tables: dict[str, PatchingTable]
    missing: tuple[str, ...] = ()
    summary: dict[str, Any] | None = None
    circuit: Circuit | None = None

    @property
    def complete(self) -> bool:
        """Whether the run is finished.

        >>> Run(Path("runs/ioi"), {"state": "running"}, {}).complete
        False
        """
        return bool(self.provenance["state"] == "complete")

    def files(self, name: str) -> Iterator[tuple[str, str]]:
        """The files of a table: the format of each and its path in the folder.

        >>> list(Run(Path("nowhere"), {}, {}).files("table1"))
        []
        """
        endings = (".csv", "-statistics.csv", ".parquet", ".json", ".md", ".tex", ".png", ".svg")
        words = ("CSV", "CSV (statistics)", "Parquet", "JSON", "Markdown", "LaTeX", "PNG", "SVG")
        for ending, word in zip(endings, words, strict=True):
            if (self.folder / "tables" / f"{name}{ending}").is_file():
                yield word, f"tables/{name}{ending}"


def read_run(folder: str | Path) -> Run:
    """Read a run folder, complete or not. Raises CircuitryError if it is not one.

    >>> read_run("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: folder nowhere does not exist; 'circuitry run SUITE --model MODEL' makes one
    """
    root = Path(folder)
    provenance = _provenance(root)
    listed = [str(name) for name in dict.fromkeys([*provenance["tables"], *provenance.get("planned", [])])]
    if provenance["state"] == "complete":  # a planned table may have been left out for an architecture without such nodes
        listed = [str(name) for name in provenance["tables"]]
    saved = sorted(file.stem for file in (root / "tables").glob("*.json"))
    tables = {name: _table(root, name, provenance) for name in dict.fromkeys([*listed, *saved])}
    summary, circuit = root / "summary.json", root / "circuit.json"
    return Run(
        root,
        provenance,
        {name: table for name, table in tables.items() if table is not None},
        tuple(name for name, table in tables.items() if table is None),
        _json(summary) if summary.is_file() else None,
        _circuit(circuit) if circuit.is_file() else None,
    )


def _provenance(root: Path) -> dict[str, Any]:
    hint = "'circuitry run SUITE --model MODEL' makes one"
    if not root.is_dir():
        raise CircuitryError(f"folder {root} does not exist; {hint}")
    if not (root / "run.json").is_file():
        raise CircuitryError(f"{root} is not a run folder: it has no run.json; {hint}")
    provenance = _json(root / "run.json")
    if lacking := [key for key in _NEEDED if key not in provenance]:
        raise CircuitryError(f"{root / 'run.json'} does not say {', '.join(lacking)}; {hint}")
    return provenance


def _circuit(file: Path) -> Circuit:
    try:
        return Circuit.from_json(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise CircuitryError(f"{not_utf8(file)}, or run the suite again to replace it") from error


def _json(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CircuitryError(f"{file} is not JSON ({error}); run the suite again to replace it") from error
    if not isinstance(data, dict):
        raise CircuitryError(f"{file} must hold a JSON object, not a {type(data).__name__}; run the suite again to replace it")
    return data


def _table(root: Path, name: str, provenance: dict[str, Any]) -> PatchingTable | None:
    """A table of the run; None if the run was stopped before it had written all of it."""
    file = root / "tables" / f"{name}.json"
    stopped = provenance["state"] != "complete"
    if not file.is_file():
        if stopped:
            return None
        raise CircuitryError(f"{root} lists the table {name!r} but has no {file.name} in tables/; run the suite again")
    try:
        return PatchingTable.from_json(file)
    except CircuitryError:
        if stopped:
            return None
        raise
