"""Reads a table of prompts, .csv or .jsonl, as text by column, and makes every check that needs no model."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..blame import not_utf8
from ..errors import TaskError, suggest

NEEDED = ("clean", "corrupted", "answer", "foil")
_POSITION = re.compile(r"[A-Z][A-Z0-9_]*")


@dataclass(frozen=True)
class Row:
    """One prompt as text by column, and the line of the file where it begins; the first line is 1."""

    line: int
    text: Mapping[str, str]


@dataclass(frozen=True)
class PromptTable:
    """The rows of a file, its name, and the columns that name positions."""

    name: str
    rows: tuple[Row, ...]
    positions: tuple[str, ...]

    def problem(self, row: Row, column: str, message: str) -> TaskError:
        """An error with its file, line and column.

        >>> print(PromptTable("p.csv", (), ()).problem(Row(3, {}), "foil", "empty"))
        p.csv, line 3, foil: empty
        """
        return TaskError(f"{self.name}, line {row.line}, {column}: {message}")


def read_table(path: Path) -> PromptTable:
    """The prompts in a .csv or .jsonl file. Raises TaskError with the line of the error.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "p.csv"
    >>> _ = path.write_text("clean,corrupted,answer,foil,COUNTRY\\nFrance is, Japan is, Paris, Tokyo,France\\n")
    >>> read_table(path).positions, read_table(path).rows[0].line
    (('COUNTRY',), 2)
    """
    rows = tuple(Row(line, text) for line, text in _READERS[path.suffix](_text(path), path.name))
    if not rows:
        raise TaskError(f"{path.name} has no prompts; every row needs {', '.join(NEEDED)}")
    table = PromptTable(path.name, rows, tuple(name for name in rows[0].text if name not in NEEDED))
    for row in rows:
        _check_columns(table, row)
    _check_repeated(table)
    return table


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TaskError(f"{path.name} cannot be read: {error.strerror or error}") from error
    try:
        return data.decode("utf-8-sig")  # spreadsheet programs write a byte order mark
    except UnicodeDecodeError as error:
        raise TaskError(not_utf8(path)) from error


def _csv(text: str, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    header: list[str] = []
    for line, cells in _csv_lines(text, name):
        if not header:
            header = cells
            _check_header(header, name, line)
        elif len(cells) != len(header):
            raise TaskError(
                f"{name}, line {line}: expected {len(header)} cells, got {len(cells)}; put a text with a comma in double quotes"
            )
        else:
            yield line, dict(zip(header, cells, strict=True))


def _csv_lines(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not empty. A quoted text may span several lines and has the number of the first."""
    # Without ``strict``, bad quoting would join texts without a message.
    reader, line = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise TaskError(f"{name}, line {line}: {error}") from error


def _check_header(header: list[str], name: str, line: int) -> None:
    if len(header) == 1 and (separator := next((mark for mark in (";", "\t") if mark in header[0]), None)):
        raise TaskError(f"{name}, line {line}: expected commas between columns, got {separator!r}")
    if twice := [column for column in header if header.count(column) > 1]:
        raise TaskError(f"{name}, line {line}: two columns are called {twice[0]!r}")
    _check_names(header, f"{name}, line {line}")


def _check_names(names: Any, where: str) -> None:
    """Refuse missing and unknown columns. A column in capitals is a position."""
    unknown = [name for name in names if name not in NEEDED and not _POSITION.fullmatch(name)]
    if unknown:
        raise TaskError(
            f"{where}: unknown column {unknown[0]!r}; {suggest(unknown[0], NEEDED)}; write a position in capitals, such as SUBJECT"
        )
    if missing := [name for name in NEEDED if name not in names]:
        raise TaskError(f"{where}: the column {missing[0]!r} is missing; expected {', '.join(NEEDED)}, and positions in capitals")
    if "END" in names:
        raise TaskError(f"{where}: END is always the last token of the prompt, so it needs no column")


def _jsonl(text: str, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    first: dict[str, str] = {}
    # Not splitlines: it also splits at characters that JSON allows inside a text, such as U+2028.
    for line, source in enumerate(text.split("\n"), 1):
        if not source.strip():
            continue
        where = f"{name}, line {line}"
        cells = _object(source, where)
        _check_names(cells, where)
        first = first or cells
        if extra := sorted(cells.keys() ^ first.keys()):
            raise TaskError(f"{where}: {extra[0]} is given in some rows only; every row needs the same columns")
        yield line, {column: cells[column] for column in first}


def _object(text: str, where: str) -> dict[str, str]:
    try:
        cells = json.loads(text, object_pairs_hook=lambda pairs: _unrepeated(pairs, where))
    except json.JSONDecodeError as error:
        raise TaskError(f"{where}: not JSON: {error.msg} at character {error.pos + 1}") from error
    if not isinstance(cells, dict):
        raise TaskError(f"{where}: expected an object with {', '.join(NEEDED)}, got {type(cells).__name__}")
    for column, value in cells.items():
        if not isinstance(value, str):
            raise TaskError(f"{where}, {column}: expected text, got {json.dumps(value)}")
    return cells


def _unrepeated(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1]:
        raise TaskError(f"{where}: {twice[0]!r} is given twice")
    return dict(pairs)


def _check_columns(table: PromptTable, row: Row) -> None:
    for column, value in row.text.items():
        if not value:
            raise table.problem(row, column, "the cell is empty")
    if row.text["answer"] == row.text["foil"]:
        raise table.problem(row, "foil", f"the same as the answer, {row.text['foil']!r}")
    if row.text["clean"] == row.text["corrupted"]:
        raise table.problem(row, "corrupted", "the same as clean, so patching one into the other does nothing")


def _check_repeated(table: PromptTable) -> None:
    seen: dict[tuple[str, str], int] = {}
    for row in table.rows:
        pair = row.text["clean"], row.text["corrupted"]
        if pair in seen:
            raise table.problem(
                row, "clean", f"the same two prompts as in line {seen[pair]}, which would count one example twice"
            )
        seen[pair] = row.line


_READERS: dict[str, Callable[[str, str], Iterator[tuple[int, dict[str, str]]]]] = {".csv": _csv, ".jsonl": _jsonl}
