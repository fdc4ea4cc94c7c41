"""Writes report.html: one file that contains its style, script and pictures, and needs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..drawing.embedded import embedded
from ..html.page import render
from ..prompting.record import words as task_in_words
from ..results.strips import data
from ..results.view import TableView
from ..store.files import write_whole
from ..thresholds import OUTLYING
from . import words
from .nodes import panels
from .run import Run, read_run

_PICTURES = 2_500_000
"""Figures are put into the page up to this many bytes together, so that it stays under 5 MB; base64 makes them a third larger."""
_MOST = 4_800_000
"""A page gets the effects of single examples as long as it has at most this many bytes."""
_PLACE = '<script type="application/json" id="examples-data">{}</script>'
EXAMPLES: dict[str, Any] = {"styles": ("style.css", "examples.css"), "script": "run.js", "outlying": OUTLYING}
"""What ``render`` needs for a page with the macros of ``examples.html``."""


def write_report(folder: str | Path) -> Path:
    """Write report.html into a run folder, complete or not, and return its path. The same run gives the same file.

    Raises CircuitryError for a folder that is not a run folder.

    >>> write_report("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: folder nowhere does not exist; 'circuitry run SUITE --model MODEL' makes one
    """
    run = read_run(folder)
    contents = _contents(run)
    page = with_examples(render("report.html", package=__package__, **EXAMPLES, **contents), contents["experiments"])
    target = run.folder / "report.html"
    write_whole(target, page)
    return target


def with_examples(page: str, experiments: Sequence[TableView]) -> str:
    """A page with the effects of all examples, as far as it stays under 5 MB; ``report.html`` has a place for them.

    >>> with_examples("<p>no place</p>", [])
    '<p>no place</p>'
    """
    tables = ((experiment.number, experiment.table) for experiment in experiments if experiment.strips)
    return page.replace(_PLACE, _PLACE.replace("{}", data(tables, _MOST - len(page.encode()))), 1)


def _contents(run: Run) -> dict[str, Any]:
    """The variables of the template."""
    entries = experiments(run)
    tables = [(entry.table, entry.cells) for entry in entries]
    return {
        "run": run,
        "experiments": entries,
        "summary": run.summary,
        "findings": words.findings(run.summary) if run.summary else [],
        "circuit": Markup(embedded(run.circuit, "node")) if run.circuit else None,
        "panels": panels(run.circuit, tables) if run.circuit else [],
        "figures": figures_of(run),
        "methods": words.methods(run),
        "citation": run.provenance.get("cites", ""),
        "task": task_in_words(run.provenance.get("task")),
    }


def experiments(run: Run, start: int = 1) -> list[TableView]:
    """The tables of a run, numbered from ``start``, in the order of the report.

    >>> experiments(Run(Path("r"), {}, {}))
    []
    """
    tables = enumerate(run.tables.items(), start)
    return [TableView.of(n, name, table, list(run.files(name))) for n, (name, table) in tables]


def figures_of(run: Run) -> list[dict[str, Any]]:
    """Figures with their pictures as data URIs; an SVG that is shown as an image cannot run scripts or use the network.

    A PNG replaces an SVG that is too large. A figure whose PNG does not fit into the page either has no data.

    >>> figures_of(Run(Path("r"), {}, {}))
    []
    """
    room, figures = _PICTURES, []
    for figure in run.provenance.get("figures") or []:
        files = [
            (run.folder / "figures" / f"{figure['name']}{end}", kind) for end, kind in ((".svg", "svg+xml"), (".png", "png"))
        ]
        fitting = ((file, kind) for file, kind in files if file.is_file() and file.stat().st_size <= room)
        file, kind = next(fitting, (None, ""))
        data = file.read_bytes() if file else b""
        room -= len(data)
        figures.append({**figure, "data": f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if data else None})
    return figures
