"""The report of a run: one line for each module, every mutant that survived, and the reasons of equivalent ones."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .changes import Mutant

Key = tuple[str, str, str, str]


def reasons_in(file: Path) -> dict[Key, str]:
    """Why some mutants are equivalent, by file, function, text of the line and change."""
    entries = tomllib.loads(file.read_text())["mutant"] if file.is_file() else []
    return {(entry["file"], entry["function"], entry["text"], entry["change"]): entry["reason"] for entry in entries}


def report(mutants: Sequence[Mutant], outcomes: Mapping[Key, Mapping[str, Any]], reasons: Mapping[Key, str]) -> str:
    """The table, the score and the survivors."""
    done = [mutant for mutant in mutants if mutant.key in outcomes]
    killed = [mutant for mutant in done if outcomes[mutant.key]["killed"]]
    equivalent = [mutant for mutant in done if mutant not in killed and mutant.key in reasons]
    survived = [mutant for mutant in done if mutant not in killed and mutant not in equivalent]
    groups = (done, killed, equivalent, survived)
    rows = [[file, *(_count(group, file) for group in groups)] for file in sorted({m.file for m in done})]
    rows.append(["all", *map(len, groups)])
    counted = len(done) - len(equivalent)
    parts = [tabulate(rows, ["module", "mutants", "killed", "equivalent", "survived"], tablefmt="github")]
    parts.append(
        f"{len(killed)} of {counted} mutants that are not equivalent are killed: {100 * len(killed) / max(1, counted):.1f} %"
    )
    parts += [f"survived: {place(mutant)}" for mutant in survived]
    parts += [f"equivalent: {place(mutant)}\n    {reasons[mutant.key]}" for mutant in equivalent]
    parts += [f"listed as equivalent, but killed: {place(mutant)}" for mutant in killed if mutant.key in reasons]
    return "\n".join(parts)


def place(mutant: Mutant) -> str:
    """One mutant in words."""
    return f"{mutant.file}:{mutant.line} {mutant.function}: {mutant.text}\n    {mutant.change}"


def _count(mutants: Iterable[Mutant], file: str) -> int:
    return sum(mutant.file == file for mutant in mutants)
