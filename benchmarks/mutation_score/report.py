"""What a run says: a line for each module, and every mutant that survived, with the reason where it cannot change a result."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from .changes import Mutant

Key = tuple[str, str, str, str]


def reasons_in(file: Path) -> dict[Key, str]:
    """Why some mutants are equivalent: of each its file, function, line's text and change."""
    entries = tomllib.loads(file.read_text())["mutant"] if file.is_file() else []
    return {(one["file"], one["function"], one["text"], one["change"]): one["reason"] for one in entries}


def report(mutants: Sequence[Mutant], outcomes: Mapping[Key, Mapping[str, Any]], reasons: Mapping[Key, str]) -> str:
    """The table, the score and the survivors."""
    done = [mutant for mutant in mutants if mutant.key in outcomes]
    killed = [mutant for mutant in done if outcomes[mutant.key]["killed"]]
    equal = [mutant for mutant in done if mutant not in killed and mutant.key in reasons]
    left = [mutant for mutant in done if mutant not in killed and mutant not in equal]
    rows = [[file, *(_count(some, file) for some in (done, killed, equal, left))] for file in sorted({m.file for m in done})]
    rows.append(["all", *(len(some) for some in (done, killed, equal, left))])
    others = len(done) - len(equal)
    parts = [tabulate(rows, ["module", "mutants", "killed", "equivalent", "survived"], tablefmt="github")]
    parts.append(
        f"{len(killed)} of {others} mutants that are not equivalent are killed: {100 * len(killed) / max(1, others):.1f} %"
    )
    parts += [f"survived: {place(mutant)}" for mutant in left]
    parts += [f"equivalent: {place(mutant)}\n    {reasons[mutant.key]}" for mutant in equal]
    parts += [f"listed as equivalent, but killed: {place(mutant)}" for mutant in killed if mutant.key in reasons]
    return "\n".join(parts)


def place(mutant: Mutant) -> str:
    """One mutant in words."""
    return f"{mutant.file}:{mutant.line} {mutant.function}: {mutant.text}\n    {mutant.change}"


def _count(mutants: Iterable[Mutant], file: str) -> int:
    return sum(mutant.file == file for mutant in mutants)
