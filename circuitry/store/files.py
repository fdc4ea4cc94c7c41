"""Files that are written whole or not at all, and folders that know what they hold."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from ..errors import FileError

if TYPE_CHECKING:
    import pandas as pd

NEW, LOCK = ".new", ".lock"
"""What the name of a file ends with while it is written, and that of a lock."""
_SHORT = 60
"""Characters of a setting that is told; what is longer is only said to be another."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn what a full, read-only or broken disk raises into a FileError: one line with the place and the reason.

    Everything here is written beside its place and moved there when it is whole, so what was there before is unchanged.

    >>> import errno
    >>> with writing(Path("out.csv")):
    ...     raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    Traceback (most recent call last):
    circuitry.errors.FileError: out.csv cannot be written: No space left on device; what was there before is unchanged
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise FileError(f"{place} cannot be written: {_why(error)}; what was there before is unchanged") from error


def _why(error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if isinstance(error, FileExistsError):
        return f"{error.filename} is a file, not a folder"
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())


def write_whole(file: Path, content: str | Callable[[Path], object]) -> None:
    """Write a file, whole or not at all: text, or what a function makes at the path it is given, be it a file or a folder.

    Folders above it are made. Any number of processes may write the same file; the last one stays. Raises FileError where that
    cannot be done; nothing is left of the attempt.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_whole(file, "text")
    >>> write_whole(file, lambda path: path.write_bytes(b"other"))
    >>> file.read_text(), len(list(file.parent.iterdir()))
    ('other', 1)
    """
    new = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{NEW}")
    with writing(file):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                new.write_text(content, encoding="utf-8")
            else:
                content(new)
            os.replace(new, file)
        finally:
            _remove(new)


def write_csv(frame: pd.DataFrame, file: Path, **how: Any) -> None:
    """Write a table as CSV, whole or not at all; packed where the name ends with .gz, .bz2, .zip, .xz or .zst.

    >>> import tempfile
    >>> import pandas as pd
    >>> file = Path(tempfile.mkdtemp()) / "t.csv.gz"
    >>> write_csv(pd.DataFrame({"a": [1]}), file, index=False)
    >>> pd.read_csv(file)["a"].tolist()
    [1]
    """
    packed: Any = {".gz": "gzip", ".bz2": "bz2", ".zip": "zip", ".xz": "xz", ".zst": "zstd"}.get(file.suffix)
    write_whole(file, lambda new: frame.to_csv(new, compression=packed, **how))


def make_folder(folder: Path) -> Path:
    """Make a folder and its parents if they do not exist, and return it. Raises FileError if that fails.

    >>> make_folder(Path(__file__) / "below")
    Traceback (most recent call last):
    circuitry.errors.FileError: ...files.py/below cannot be written: Not a directory; what was there before is unchanged
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(file: Path) -> None:
    """Raise FileError now where a file could not be written later, after a long computation. Nothing is left.

    >>> check_writable(Path(__file__).parent)
    Traceback (most recent call last):
    circuitry.errors.FileError: ... cannot be written: it is a folder; what was there before is unchanged
    """
    new = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{NEW}")
    with writing(file):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            new.write_bytes(b"0")
        finally:
            _remove(new)


def _remove(new: Path) -> None:
    """Remove what was begun, a file or a folder. On a disk that became read-only it stays, and ``sweep`` finds it later."""
    with suppress(OSError):
        shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)


def blank(folder: Path) -> bool:
    """Whether a folder is not there, or holds nothing but its lock and what a killed process had begun to write.

    >>> import tempfile
    >>> there = Path(tempfile.mkdtemp())
    >>> _ = (there / "a.json.1234.new").write_text("{")
    >>> blank(there), blank(there / "nowhere"), blank(there.parent)
    (True, True, False)
    """
    return not folder.is_dir() or all(file.suffix in (NEW, LOCK) for file in folder.iterdir())


def sweep(folder: Path) -> None:
    """Remove the unfinished files of a killed process from a folder, if it exists; only for a folder without other writers.

    >>> import tempfile
    >>> there = Path(tempfile.mkdtemp())
    >>> _ = (there / "a.json.1234.new").write_text("{"), (there / "b.json").write_text("{}")
    >>> sweep(there)
    >>> [file.name for file in there.iterdir()]
    ['b.json']
    """
    for begun in folder.glob(f"*{NEW}"):
        _remove(begun)


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
