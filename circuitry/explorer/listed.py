"""The run folders below a folder, the newest first, as lines for a terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

MOST = 20
"""How many runs are listed; of more than these, only the number is."""


@dataclass(frozen=True)
class RunLine:
    """A run folder with what it is a run of; ``when`` is the time at which it ended, or started if it has not ended."""

    folder: Path
    model: str
    suite: str
    complete: bool
    when: datetime


def runs_in(folder: str | Path) -> list[RunLine]:
    """The runs and discoveries in a folder and in the folders inside it, the newest first; none if the folder does not exist.

    >>> runs_in("nowhere")
    []
    """
    found = [_line(file) for file in Path(folder).rglob("run.json")]
    return sorted((line for line in found if line is not None), key=lambda line: (line.when, str(line.folder)), reverse=True)


def _line(file: Path) -> RunLine | None:
    """A run from its record; None for the record of anything else, or for one that cannot be read."""
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        suite = "discovery" if record.get("kind") == "discovery" else record["suite"]
        told = record.get("finished") or record.get("started")
        when = datetime.fromisoformat(told) if told else datetime.fromtimestamp(file.stat().st_mtime)
        return RunLine(file.parent, str(record["model"]), str(suite), record["state"] == "complete", when.astimezone())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def listed(runs: Sequence[RunLine]) -> str:
    """Runs as a table: folder, model, suite, whether the run is complete, and when, in the time of this machine.

    >>> print(listed([RunLine(Path("runs/ioi-mamba"), "bundled:mamba", "ioi", True, datetime(2026, 11, 22, 15, 30))]))
    folder          model          suite  state     when
    runs/ioi-mamba  bundled:mamba  ioi    complete  2026-11-22 15:30
    """
    rows = [("folder", "model", "suite", "state", "when")]
    for run in runs[:MOST]:
        state = "complete" if run.complete else "not finished"
        rows.append((str(run.folder), run.model, run.suite, state, f"{run.when:%Y-%m-%d %H:%M}"))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, wide, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *([f"and {len(runs) - MOST} older"] if len(runs) > MOST else [])])
