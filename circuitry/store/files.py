"""Files that are written whole or not at all, and the folders they are in."""

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
"""Suffixes of a file that is being written, and of a lock file."""
_SHORT = 60
"""Characters: a longer setting is named in a message, not shown."""


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn the errors of a full, read-only or broken disk into a FileError: one line with the place and the reason.

    Files are written beside their final place and moved there when complete, so an earlier version stays as it was.

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
    """Write a file, whole or not at all: ``content`` is text, or a function that makes a file or a folder at the path it gets.

    Missing parent folders are made. Several processes may write the same file; the last one wins. Raises FileError if the file
    cannot be written; nothing is left of the attempt.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_whole(file, "text")
    >>> write_whole(file, lambda path: path.write_bytes(b"other"))
    >>> file.read_text(), len(list(file.parent.iterdir()))
    ('other', 1)
    """
    # In the same folder, since os.replace is atomic within one file system only; a random name, since writers may race.
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


def write_csv(frame: pd.DataFrame, file: Path, **options: Any) -> None:
    """Write a table as CSV, whole or not at all; compressed if the name ends with .gz, .bz2, .zip, .xz or .zst.

    >>> import tempfile
    >>> import pandas as pd
    >>> file = Path(tempfile.mkdtemp()) / "t.csv.gz"
    >>> write_csv(pd.DataFrame({"a": [1]}), file, index=False)
    >>> pd.read_csv(file)["a"].tolist()
    [1]
    """
    # pandas would infer this from the name, which ends with NEW while the file is written.
    packed: Any = {".gz": "gzip", ".bz2": "bz2", ".zip": "zip", ".xz": "xz", ".zst": "zstd"}.get(file.suffix)
    write_whole(file, lambda new: frame.to_csv(new, compression=packed, **options))


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
    """Raise FileError now if a file could not be written later, after a long computation. Leaves nothing behind.

    >>> check_writable(Path(__file__).parent)
    Traceback (most recent call last):
    circuitry.errors.FileError: ... cannot be written: it is a folder; what was there before is unchanged
    """
    with writing(file):
        if file.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _try_writing(file.parent)


def check_folder(folder: Path) -> None:
    """Raise FileError now if files could not be written into a folder later, which need not exist. Leaves nothing behind.

    >>> check_folder(Path(__file__) / "below")
    Traceback (most recent call last):
    circuitry.errors.FileError: ... cannot be written: ...files.py is a file, not a folder; what was there before is unchanged
    """
    with writing(folder):
        _try_writing(folder)


def _try_writing(folder: Path) -> None:
    """Write a file into a folder, or into the nearest one above it that exists, and remove it. Raises OSError."""
    nearest = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if not nearest.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(nearest))
    new = nearest / f"{uuid.uuid4().hex[:8]}{NEW}"
    try:
        new.write_bytes(b"0")
    finally:
        _remove(new)


def _remove(new: Path) -> None:
    """Remove an unfinished file or folder. On a disk that became read-only it stays, and ``sweep`` removes it later."""
    with suppress(OSError):
        shutil.rmtree(new) if new.is_dir() else new.unlink(missing_ok=True)


def blank(folder: Path) -> bool:
    """Whether a folder is missing, or holds nothing but its lock and the unfinished files of a killed process.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.json.1234.new").write_text("{")
    >>> blank(folder), blank(folder / "nowhere"), blank(folder.parent)
    (True, True, False)
    """
    return not folder.is_dir() or all(file.suffix in (NEW, LOCK) for file in folder.iterdir())


def sweep(folder: Path) -> None:
    """Remove the unfinished files of a killed process from a folder, if it exists; only for a folder without other writers.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.json.1234.new").write_text("{"), (folder / "b.json").write_text("{}")
    >>> sweep(folder)
    >>> [file.name for file in folder.iterdir()]
    ['b.json']
    """
    for begun in folder.glob(f"*{NEW}"):
        _remove(begun)


def slug(name: object) -> str:
    """Turn any name into a folder's name.

    >>> slug("head[0,11].q"), slug("architecture: bundled:rwkv")
    ('head-0-11-q', 'architecture-bundled-rwkv')
    """
    return re.sub(r"\W+", "-", str(name)).strip("-")


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], under: str = "") -> str:
    """What differs between a stored record and the wanted one, setting by setting; empty if they agree.

    >>> differences({"seed": 0, "stream": {"buffer": 8}}, {"seed": 1, "stream": {"buffer": 9}})
    'seed: 0 there, 1 here; stream buffer: 8 there, 9 here'
    """
    parts = []
    for key in sorted({*stored, *wanted}):
        old, new = stored.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            parts += [nested] if (nested := differences(old, new, f"{under}{key} ")) else []
        elif old != new:
            short = max(len(str(old)), len(str(new))) <= _SHORT
            parts.append(f"{under}{key}: {old} there, {new} here" if short else f"other {under}{key}")
    return "; ".join(parts)
