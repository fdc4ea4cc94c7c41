"""Writes compare.html: two runs side by side, their circuits aligned by role, and their common tables cell by cell."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ..errors import CircuitryError
from ..results.compare import Comparison
from ..store.files import write_whole
from . import words
from .page import Experiment, experiments, render
from .picture import picture
from .roles import CORRESPONDENCE, aligned
from .run import Run, read_run

MOST = 24
"""A comparison shows this many cells, those that differ most; its files have all."""


@dataclass(frozen=True)
class Pair:
    """A table that both runs have, and the comparison of its cells; ``problem`` says why there is none."""

    name: str
    sides: tuple[Experiment, Experiment]
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
        made = []
        for place in order:
            values = place if isinstance(place, tuple) else (place,)
            said = ", ".join(f"{axis} {value}" for axis, value in zip(self.comparison.axes, values, strict=False))
            made.append((said or "the one cell", {str(k): float(v) for k, v in frame.loc[place].items()}))
        return made


def write_comparison(first: str | Path, second: str | Path, out: str | Path) -> Path:
    """Write compare.html into the folder ``out``, with the comparison of every common table in tables/; return its path.

    A comparison of the same two folders is written anew; where ``out`` holds anything else, the folder gets a free name beside
    it (``out-2``). Raises CircuitryError where one of the two is not a run folder.

    >>> write_comparison("nowhere", "nowhere", "out")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: folder nowhere does not exist; 'circuitry run SUITE --model MODEL' makes one
    """
    runs = read_run(first), read_run(second)
    target = _free(Path(out), runs)
    write_whole(target / "compare.json", json.dumps(_compared(target, runs)))
    page = render("compare.html", **_contents(runs, target))
    file = target / "compare.html"
    write_whole(file, page)
    return file


def _free(out: Path, runs: tuple[Run, Run]) -> Path:
    """The folder asked for, or the next free name where it holds something else than a comparison of these runs."""
    number, path = 1, out
    while path.exists() and not _ours(path, runs):
        number += 1
        path = out.with_name(f"{out.name}-{number}")
    return path


def _ours(path: Path, runs: tuple[Run, Run]) -> bool:
    """Whether a folder is empty or holds a comparison of these runs."""
    try:
        return not any(path.iterdir()) or json.loads((path / "compare.json").read_text(encoding="utf-8")) == _compared(path, runs)
    except (OSError, ValueError):
        return False


def _compared(path: Path, runs: tuple[Run, Run]) -> list[str]:
    """The folders compared, as seen from the comparison's own, so that all of them can be moved together."""
    return [Path(os.path.relpath(run.folder.resolve(), path.resolve())).as_posix() for run in runs]


def _contents(runs: tuple[Run, Run], out: Path) -> dict[str, Any]:
    """What the template is given."""
    made = experiments(runs[0]), experiments(runs[1], len(runs[0].tables) + 1)
    others = {one.name: one for one in made[1]}
    pairs = [_pair(one, others[one.name], out) for one in made[0] if one.name in others]
    circuits = [run.circuit for run in runs]
    both = all(circuit is not None for circuit in circuits)
    shared = {pair.name for pair in pairs}
    return {
        "runs": runs,
        "names": _names(runs),
        "findings": [words.findings(run.summary) if run.summary else [] for run in runs],
        "parts_by_role": aligned([c for c in circuits if c], [run.summary or {} for run in runs]) if both else [],
        "correspondence": CORRESPONDENCE,
        "pictures": [Markup(picture(c, f"circuit-{n}", linked=False)) if c else None for n, c in enumerate(circuits, 1)],
        "offsets": _offsets(runs),
        "pairs": pairs,
        "alone": [[one for one in side if one.name not in shared] for side in made],
    }


def _names(runs: tuple[Run, Run]) -> tuple[str, str]:
    """What the two are called on the page: their models, or their folders where these are the same."""
    one, two = (str(run.provenance["model"]) for run in runs)
    return (one, two) if one != two else (runs[0].folder.name, runs[1].folder.name)


def _offsets(runs: tuple[Run, Run]) -> list[tuple[str, list[float | None]]]:
    """For each position that either profile has, both shares; None where it was not looked at."""
    profiles = [(run.summary or {}).get("offsets") or {} for run in runs]
    return [(name, [profile.get(name) for profile in profiles]) for name in dict.fromkeys(k for p in profiles for k in p)]


def _pair(one: Experiment, other: Experiment, out: Path) -> Pair:
    one, other = _on_one_scale(one, other)
    try:
        comparison = one.table.compare(other.table)
    except CircuitryError as error:
        return Pair(one.name, (one, other), None, str(error), [])
    words_of = {".csv": "CSV", ".md": "Markdown", ".tex": "LaTeX", ".png": "PNG", ".svg": "SVG"}
    written = comparison.save(out / "tables", one.name)
    files = [(words_of.get(file.suffix, file.suffix), f"tables/{file.name}") for file in written]
    return Pair(one.name, (one, other), comparison, "", files)


def _on_one_scale(one: Experiment, other: Experiment) -> tuple[Experiment, Experiment]:
    """Both with colours that end at the same normalized effect, and at the same effect where the units are the same."""
    most = max(one.most_normalized, other.most_normalized)
    same = one.table.unit == other.table.unit
    effects = (max(one.most, other.most),) * 2 if same else (one.most, other.most)
    return replace(one, most=effects[0], most_normalized=most), replace(other, most=effects[1], most_normalized=most)
