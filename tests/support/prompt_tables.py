"""A table of prompts as a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = ("clean", "corrupted", "answer", "foil", "IO", "S2")
ROWS = [
    (
        "Then Mary and John went out. John gave it to",
        "Then Alice and Tom went out. Tom gave it to",
        " Mary",
        " John",
        "Mary",
        "John#2",
    ),
    ("So Mary met John. John told", "So Alice met Tom. Tom told", " Mary", " John", " Mary", "John#2"),
    ("So James saw David, and David saw", "So Peter saw Robert, and Robert saw", " James", " David", "James", "David#2"),
]


def written(path: Path, rows: Sequence[tuple[str, ...]] = ROWS, columns: tuple[str, ...] = COLUMNS, **how: Any) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows))
    else:
        with path.open("w", encoding=how.pop("encoding", "utf-8"), newline="") as file:
            csv.writer(file, **how).writerows([columns, *rows])
    return path
