"""What a page says of a suite that measured no edges: why there are none, and the command that finds some."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ..reports.run import Run

NOTHING = "Exchanging the whole prompt does not change what is measured, so there is nothing to find."


def without_edges(run: Run, no_effect: bool = False) -> dict[str, str]:
    """Why a suite's circuit has no edges, in one sentence, and the command that finds some; none where there are none to find.

    ``no_effect``: exchanging the whole prompt changes nothing that is more than chance.

    >>> from pathlib import Path
    >>> record = {"model": "bundled:mamba", "task": {"name": "ioi", "options": {}}}
    >>> without_edges(Run(Path("x"), record, {}, summary={"components": []}))
    {'text': 'This suite found no node above its thresholds.', 'command': 'circuitry discover bundled:mamba --task ioi'}
    """
    summary = run.summary or {}
    if no_effect and not summary.get("components"):
        return {"text": NOTHING, "command": ""}
    if summary.get("components"):
        text = "This suite measures nodes one by one, and not the edges between them."
    elif few := summary.get("undecided"):
        text = f"This suite found no node, because there are too few examples ({few})."
    else:
        text = "This suite found no node above its thresholds."
    return {"text": text, "command": str(run.provenance.get("edges_command") or _guessed(run.provenance))}


def _guessed(record: Mapping[str, Any]) -> str:
    """The command for a run of an earlier version, whose record has the task's name but not the path of its file."""
    task = record.get("task")
    name = task.get("name", "") if isinstance(task, Mapping) else ""
    return shlex.join(["circuitry", "discover", str(record["model"]), *(["--task", str(name)] if name else [])])
