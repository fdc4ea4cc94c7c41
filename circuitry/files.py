"""Files that are written whole or not at all, and folders that know what they hold."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

NEW = ".new"
"""What the name of a file ends with while it is written."""
_SHORT = 60
"""Characters of a setting that is told; what is longer is only said to be another."""


def write_whole(file: Path, content: str | Callable[[Path], object]) -> None:
    """Write a file, whole or not at all: text, or what a function makes at the path it is given.

    Any number of processes may write the same file; the last one stays.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_whole(file, "text")
    >>> write_whole(file, lambda path: path.write_bytes(b"other"))
    >>> file.read_text(), len(list(file.parent.iterdir()))
    ('other', 1)
    """
    new = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{NEW}")
    try:
        if isinstance(content, str):
            new.write_text(content, encoding="utf-8")
        else:
            content(new)
        os.replace(new, file)
    finally:
        new.unlink(missing_ok=True)


def blank(folder: Path) -> bool:
    """Whether a folder is not there, or holds nothing but what a killed process had begun to write.

    >>> import tempfile
    >>> there = Path(tempfile.mkdtemp())
    >>> _ = (there / "a.json.1234.new").write_text("{")
    >>> blank(there), blank(there / "nowhere"), blank(there.parent)
    (True, True, False)
    """
    return not folder.is_dir() or all(file.suffix == NEW for file in folder.iterdir())


def sweep(folder: Path) -> None:
    """Remove from a folder, if it is there, what a killed process had begun to write; for a folder that nobody else writes to.

    >>> import tempfile
    >>> there = Path(tempfile.mkdtemp())
    >>> _ = (there / "a.json.1234.new").write_text("{"), (there / "b.json").write_text("{}")
    >>> sweep(there)
    >>> [file.name for file in there.iterdir()]
    ['b.json']
    """
    for file in folder.glob(f"*{NEW}"):
        if file.is_file():
            file.unlink(missing_ok=True)


def slug(name: object) -> str:
    """Any name as that of a folder.

    >>> slug("head[0,11].q"), slug("architecture: bundled:rwkv")
    ('head-0-11-q', 'architecture-bundled-rwkv')
    """
    return re.sub(r"\W+", "-", str(name)).strip("-")


def differences(there: Mapping[str, Any], here: Mapping[str, Any], under: str = "") -> str:
    """What differs between two records, setting by setting; empty where nothing does.

    >>> differences({"seed": 0, "stream": {"buffer": 8}}, {"seed": 1, "stream": {"buffer": 9}})
    'seed: 0 there, 1 here; stream buffer: 8 there, 9 here'
    """
    told = []
    for key in sorted({*there, *here}):
        one, other = there.get(key), here.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            told += [found] if (found := differences(one, other, f"{under}{key} ")) else []
        elif one != other:
            short = max(len(str(one)), len(str(other))) <= _SHORT
            told.append(f"{under}{key}: {one} there, {other} here" if short else f"other {under}{key}")
    return "; ".join(told)
