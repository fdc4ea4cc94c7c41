"""Writes compare.html: two runs side by side, their circuits aligned by role, and their common tables cell by cell."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from ..drawing.embedded import embedded
from ..errors import CircuitryError
from ..html.page import render
from ..results.cells import CellView
from ..results.compare import Comparison
from ..results.recorded import paths_of
from ..results.view import TableView
from ..store.files import write_whole
from . import words
from .page import EXAMPLES, experiments, with_examples
from .roles import CORRESPONDENCE, OTHER, aligned, row_of_table
from .run import Run, read_run

MOST = 24
"""A comparison shows this many cells, those that differ most; its files have all of them."""
STRONGEST = 4
"""A table that only one run has is shown by this many of its cells."""


@dataclass(frozen=True)
class Pair:
    """A table that both runs have, and the comparison of its cells, or the ``problem`` that prevents one."""

    name: str
    sides: tuple[TableView, TableView]
    comparison: Comparison | None
    problem: str
    files: list[tuple[str, str]]

    @property
    def rows(self) -> list[tuple[str, dict[str, float]]]:
        """The cells that differ most, each with its axis values as text and the comparison's columns."""
        if self.comparison is None:
            return []
        frame = self.comparison.frame
        order = frame["difference"].abs().sort_values(ascending=False, kind="stable").dropna().index[:MOST]
        rows = []
        for index in order:
            values = index if isinstance(index, tuple) else (index,)
            label = ", ".join(f"{axis} {value}" for axis, value in zip(self.comparison.axes, values, strict=False))
            rows.append((label or "the one cell", {str(k): float(v) for k, v in frame.loc[index].items()}))
        return rows


def write_comparison(first: str | Path, second: str | Path, out: str | Path) -> Path:
    """Write compare.html into the folder ``out``, with the comparison of every common table in tables/; return its path.

    An earlier comparison of the same two folders is replaced. If ``out`` has any other contents, the comparison gets a free name
    beside it (``out-2``). Raises CircuitryError if one of the two is not a run folder.

    >>> write_comparison("nowhere", "nowhere", "out")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: folder nowhere does not exist; 'circuitry run SUITE --model MODEL' makes one
    """
    runs = read_run(first), read_run(second)
    target = _free(Path(out), runs)
    write_whole(target / "compare.json", json.dumps(_compared(target, runs)))
    contents = _contents(runs, target)
    shown = [side for pair in contents["pairs"] for side in pair.sides]
    page = with_examples(render("compare.html", package=__package__, **EXAMPLES, **contents), shown)
    file = target / "compare.html"
    write_whole(file, page)
    return file


def _free(out: Path, runs: tuple[Run, Run]) -> Path:
    """The requested folder, or the next free name if it has anything but a comparison of these runs."""
    number, path = 1, out
    while path.exists() and not _ours(path, runs):
        number += 1
        path = out.with_name(f"{out.name}-{number}")
    return path


def _ours(path: Path, runs: tuple[Run, Run]) -> bool:
    """Whether a folder is empty or has a comparison of these runs."""
    try:
        return not any(path.iterdir()) or json.loads((path / "compare.json").read_text(encoding="utf-8")) == _compared(path, runs)
    except (OSError, ValueError):
        return False


def _compared(path: Path, runs: tuple[Run, Run]) -> list[str]:
    """The compared folders, relative to the comparison's folder, so that all three can be moved together."""
    return [Path(os.path.relpath(run.folder.resolve(), path.resolve())).as_posix() for run in runs]


def _contents(runs: tuple[Run, Run], out: Path) -> dict[str, Any]:
    """The variables of the template."""
    sides = experiments(runs[0]), experiments(runs[1], len(runs[0].tables) + 1)
    second = {experiment.name: experiment for experiment in sides[1]}
    pairs = [_pair(experiment, second[experiment.name], out) for experiment in sides[0] if experiment.name in second]
    circuits = [run.circuit for run in runs]
    both = all(circuit is not None for circuit in circuits)
    shared = {pair.name for pair in pairs}
    return {
        "runs": runs,
        "names": _names(runs),
        "findings": [words.findings(run.summary) if run.summary else [] for run in runs],
        "parts_by_role": aligned([c for c in circuits if c], [run.summary or {} for run in runs]) if both else [],
        "correspondence": CORRESPONDENCE,
        "pictures": [Markup(embedded(c, f"circuit-{n}", linked=False)) if c else None for n, c in enumerate(circuits, 1)],
        "offsets": _offsets(runs),
        "strongest": strongest,
        "pairs": pairs,
        "alone": _by_role(runs, [[one for one in tables if one.name not in shared] for tables in sides]),
        "firsts": (0, len(runs[0].tables)),  # tables of the second run are numbered after those of the first
        "reports": [_report(run, out) for run in runs],
    }


def _by_role(runs: tuple[Run, Run], sides: list[list[TableView]]) -> list[tuple[str, list[list[TableView]]]]:
    """The tables that only one run has, in rows of those that are about the same role."""
    rows: dict[str, list[list[TableView]]] = {row: [[], []] for row in (*CORRESPONDENCE, OTHER)}
    for side, (run, tables) in enumerate(zip(runs, sides, strict=True)):
        for table in tables:
            rows[row_of_table(table.table, str(run.provenance.get("architecture", "")))][side].append(table)
    return [(row, tables) for row, tables in rows.items() if any(tables)]


def strongest(experiment: TableView) -> list[CellView]:
    """The cells of a table that stand for it: those with the largest normalized effect, first the significant ones.

    >>> import numpy as np
    >>> from circuitry.results import PatchingTable
    >>> table = PatchingTable.of([{"layer": n} for n in range(9)], np.ones((9, 2)), np.zeros(2), np.ones(2), "logit")
    >>> len(strongest(TableView.of(1, "t", table, [])))
    4
    """
    known = [cell for cell in experiment.cells if cell.mean == cell.mean]
    known.sort(key=lambda cell: (cell.unsure, -abs(cell.normalized)))
    of_path = {axis for path in paths_of(experiment.table.provenance).values() for axis in path.axes}
    places: dict[Any, CellView] = {}  # of a node at several distances of the task only the strongest cell
    for cell in known:
        places.setdefault(tuple(value for axis, value in cell.values.items() if axis in of_path) or cell.anchor, cell)
    return list(places.values())[:STRONGEST]


def _report(run: Run, out: Path) -> str:
    """The address of a run's own report, seen from the comparison; empty if it has none."""
    file = run.folder / "report.html"
    return quote(Path(os.path.relpath(file.resolve(), out.resolve())).as_posix()) if file.is_file() else ""


def _names(runs: tuple[Run, Run]) -> tuple[str, str]:
    """The names of the runs on the page: their models, or their folders if the models are the same."""
    first, second = (str(run.provenance["model"]) for run in runs)
    return (first, second) if first != second else (runs[0].folder.name, runs[1].folder.name)


def _offsets(runs: tuple[Run, Run]) -> list[tuple[str, list[float | None]]]:
    """For each position that either profile has, both shares; None if not measured."""
    profiles = [(run.summary or {}).get("offsets") or {} for run in runs]
    return [(name, [profile.get(name) for profile in profiles]) for name in dict.fromkeys(k for p in profiles for k in p)]


def _pair(first: TableView, second: TableView, out: Path) -> Pair:
    first, second = _on_one_scale(first, second)
    try:
        comparison = first.table.compare(second.table)
    except CircuitryError as error:
        return Pair(first.name, (first, second), None, str(error), [])
    kinds = {".csv": "CSV", ".md": "Markdown", ".tex": "LaTeX", ".png": "PNG", ".svg": "SVG"}
    written = comparison.save(out / "tables", first.name)
    files = [(kinds.get(file.suffix, file.suffix), f"tables/{file.name}") for file in written]
    return Pair(first.name, (first, second), comparison, "", files)


def _on_one_scale(first: TableView, second: TableView) -> tuple[TableView, TableView]:
    """Both with colours that end at the same normalized effect, and at the same effect if the units are the same."""
    most = max(first.most_normalized, second.most_normalized)
    same = first.table.unit == second.table.unit
    effects = (max(first.most, second.most),) * 2 if same else (first.most, second.most)
    return replace(first, most=effects[0], most_normalized=most), replace(second, most=effects[1], most_normalized=most)
