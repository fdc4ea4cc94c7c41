"""A disk on which nothing more can be written, for every library alike, whatever language it writes files with."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def fill() -> None:
    """From now on any write to a file fails with "File too large", as one to a full disk fails with "No space left"."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def free() -> None:
    """Files can be written again."""
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@contextmanager
def full() -> Iterator[None]:
    """A full disk for a while."""
    fill()
    try:
        yield
    finally:
        free()


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by their paths in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
