"""A run folder as one JSON value: all that its page shows. The page computes nothing but positions, colours and sums of what is here."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..drawing.circuit import Circuit
from ..prompting.record import words as task_in_words
from ..reports.run import Run, read_run
from ..results.recorded import paths_of
from ..results.top_1 import below_threshold
from . import file
from .components import circuit_of
from .discovered import discovered
from .measured import measured
from .named import side_nodes
from .no_edges import without_edges


def run_data(folder: str | Path) -> dict[str, Any]:
    """What the page shows of a run or a discovery, complete or not.

    ``nodes`` and ``edges`` are the circuit, each with its effect, its interval where one was measured, and its effect on every prompt;
    ``rows`` are the cells of tables to which nodes refer by number. ``curve`` is None for a suite. ``lacking`` says, for everything that the
    folder does not hold, what to do. Raises CircuitryError if the folder is not a run folder.

    >>> run_data("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: folder nowhere does not exist; 'circuitry run SUITE --model MODEL' makes one
    """
    run = read_run(folder)
    seen = file.read(run.folder)
    results = _json(run.folder / "results.json")
    is_discovery = run.provenance.get("kind") == "discovery"
    made = discovered(run, results, seen) if is_discovery else measured(run, _circuit(run, seen))
    data: dict[str, Any] = _clean({
        "kind": "discovery" if is_discovery else "suite",
        "suite": run.provenance.get("suite") or "discovery",
        "title": run.provenance["model"],
        "architecture": run.provenance.get("architecture", ""),
        "task": task_in_words(run.provenance.get("task")),
        "command": run.provenance.get("command", ""),
        "complete": run.complete,
        "report": "report.html" if (run.folder / "report.html").exists() else "",
        "prompts": seen.get("prompts", []),
        "patterns": seen.get("patterns", {}),
        "taps": seen.get("taps", {}),
        "written": (run.summary or {}).get("offsets") or {},
        "notes": _notes(run),
        "lacking": _lacking(run, seen),
        "without_edges": None if is_discovery or not run.complete or made["edges"] else without_edges(run, made["no_effect"]),
        **made,
        "nodes": side_nodes(made["nodes"]),
    })  # fmt: skip
    return data


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _circuit(run: Run, seen: Mapping[str, Any]) -> Circuit | None:
    """The circuit of a suite; if it has none, or one without nodes, the components of its summary below the logits."""
    if (run.circuit is not None and run.circuit.nodes) or run.summary is None:
        return run.circuit
    paths = [path for table in run.tables.values() for path in paths_of(table.provenance).values()]
    reads_logits = any(str(target.node) == "logits" for path in paths for target in path.legs[-1].targets)
    return circuit_of(run.summary, seen.get("prompts", []), reads_logits)


def _notes(run: Run) -> list[str]:
    """What a reader must know before looking at anything."""
    first = next(iter(run.tables.values()), None)
    below = below_threshold(first.provenance.get("top_1")) if first is not None else None
    notes = [] if run.complete else ["This run is not finished, so there may be more than is shown; the same command resumes it."]
    return [*notes, *([f"{below.capitalize()}."] if below else [])]


def _lacking(run: Run, seen: Mapping[str, Any]) -> dict[str, str]:
    """What the folder does not hold, and what makes it."""
    again = f"Run this again with a new --out, and it is saved: {run.provenance.get('command') or 'the same call'}"
    lacking = {}
    if not seen:
        lacking["prompts"] = f"The prompts were not saved: the run was made by an earlier version, or is not finished. {again}"
        lacking["patterns"] = (
            f"Attention patterns were not saved: the run was made by an earlier version, or is not finished. {again}"
        )
        lacking["taps"] = (
            f"What the taps bring was not saved: the run was made by an earlier version, or is not finished. {again}"
        )
    return lacking


def _clean(value: Any) -> Any:
    """The same with None for what JSON has no word for, and numpy's numbers as plain ones."""
    if isinstance(value, Mapping):
        return {str(key): _clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(each) for each in value]
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
