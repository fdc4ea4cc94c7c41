"""Mistakes in a user's own files: one line that names the place in the file, instead of a traceback through circuitry."""

from __future__ import annotations

import gzip
import inspect
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import CircuitryError

_PACKAGE = Path(__file__).parent
# In a checkout the shipped definitions lie beside the package, and circuitry.content runs them as it runs a user's.
_OURS = tuple(f"{folder}/" for folder in (_PACKAGE, _PACKAGE.parent / "graphs", _PACKAGE.parent / "tasks"))
_LIBRARIES = (*(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")), "<frozen", "<string>")


@contextmanager
def blamed(doing: str, kind: type[CircuitryError] = CircuitryError) -> Iterator[None]:
    """Turn an exception of a user's code into an error of this kind: file, line, what was raised, and what was being done.

    An exception that circuitry's own code raised stays as it is: its traceback is what a report of the fault needs.

    >>> with blamed("while metric 'mine' was computed"):
    ...     1 / 0
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: ...:2: ZeroDivisionError: division by zero (while metric 'mine' was computed)
    """
    try:
        yield
    except (CircuitryError, MemoryError):
        raise
    except Exception as error:
        if (place := _raised(error)) is None:
            raise
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        said = " ".join(said.split())
        raise kind(f"{place}: {type(error).__name__}{f': {said}' if said else ''} ({doing})") from error


def check_takes(what: str, function: Callable[..., Any], names: tuple[str, ...]) -> None:
    """Refuse a function that cannot be called with these arguments. Raises CircuitryError with the function's place.

    >>> check_takes("metric 'mine'", lambda logits, answer: 0, ("logits", "answer", "foil"))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: ...:1: metric 'mine' must take 3 arguments, (logits, answer, foil); it takes (logits, answer)
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some functions of C do not say what they take
        return
    try:
        signature.bind(*names)
    except TypeError:
        code = getattr(inspect.unwrap(function), "__code__", None)
        place = f"{_shown(code.co_filename)}:{code.co_firstlineno}: " if code else ""
        takes = f"({', '.join(map(str, signature.parameters.values()))})"
        raise CircuitryError(f"{place}{what} must take {len(names)} arguments, ({', '.join(names)}); it takes {takes}") from None


def not_utf8(file: Path) -> str:
    """What is wrong with a file that is not UTF-8, with the line of its first byte that is not; "" if it is.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "a.txt"
    >>> _ = file.write_bytes("one\\ncaf\u00e9".encode("latin-1"))
    >>> not_utf8(file)
    'a.txt, line 2: byte 0xe9 is not UTF-8; save the file as UTF-8'
    """
    opened: Any = gzip.open if file.suffix == ".gz" else open
    with opened(file, "rb") as lines:
        # A byte that belongs to a character is never a line break, so each line can be read alone.
        for number, line in enumerate(lines, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"{file.name}, line {number}: byte {line[error.start]:#04x} is not UTF-8; save the file as UTF-8"
    return ""


def _raised(error: Exception) -> str | None:
    """The file and line of the user's code that raised an error; None if circuitry's own code raised it."""
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith(_OURS):
        return f"{_shown(error.filename)}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(_OURS):
            return None
        if not frame.filename.startswith(_LIBRARIES):  # a user's call into a library is the user's
            return f"{_shown(frame.filename)}:{frame.lineno}"
    return None


def _shown(file: str) -> str:
    """A file as the user would name it: from the working directory if it lies below."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
