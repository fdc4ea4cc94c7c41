"""Who writes into a folder: a lock that a process holds as long as it lives, however it ends."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from time import sleep
from typing import IO

from ..errors import FileError
from .files import LOCK, make_folder, writing

try:
    import fcntl
except ImportError:  # not on Windows, where nothing is locked
    fcntl = None  # type: ignore[assignment]

IN_USE = "in-use"
_TRIES, _PAUSE = 5, 0.02
"""Somebody who only looks whether a lock is held has it for an instant."""


@contextmanager
def hold(folder: Path, name: str = IN_USE, *, shared: bool = False, leave: bool = False) -> Iterator[None]:
    """Hold a folder, or a part of it with a name, while writing there; the folder is made if it is not there.

    ``shared``: beside others who share it. ``leave``: after an error the lock's file stays, which no process holds then, so that
    others see that this one has failed. The kernel ends a lock with its process, also one that was killed. Raises FileError that
    says who holds it.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with hold(folder), hold(folder):
    ...     pass
    Traceback (most recent call last):
    circuitry.errors.FileError: ... is in use by process ... on ... since ...; wait until it is done, or name another folder
    >>> list(folder.iterdir())
    []
    """
    file = make_folder(folder) / f"{name}{LOCK}"
    lock = _take(file, shared)
    failed = True
    try:
        yield
        failed = False
    finally:
        # Only its last holder may remove the file: a newcomer would make another one and lock that.
        with lock, suppress(OSError):
            if not (leave and failed) and (not shared or _locked(lock, shared=False)):
                file.unlink(missing_ok=True)


def held(folder: Path, name: str = IN_USE) -> bool:
    """Whether a process holds a lock; true where that cannot be known.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with hold(folder, "mine"):
    ...     held(folder, "mine")
    True
    >>> held(folder, "mine")
    False
    """
    try:
        with (folder / f"{name}{LOCK}").open("rb") as lock:
            return _locked(lock, shared=True) is not True
    except FileNotFoundError:
        return False


@dataclass
class Presence:
    """Process ``rank`` of ``world_size``, all of which write into one folder, each its part: who of them is at it, and who has ended.

    >>> import tempfile
    >>> one, other = (Presence(Path(tempfile.gettempdir()) / "shared", rank, 2) for rank in range(2))
    >>> with one.hold():
    ...     print(one.state(1))
    ...     with other.hold():
    ...         print(one.state(1))
    ...     print(one.state(1))
    absent
    here
    absent
    """

    folder: Path
    rank: int = 0
    world_size: int = 1
    _before: dict[int, object] = field(default_factory=dict)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold this process's part; alone, the whole folder. Raises FileError where another process has it.

        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Presence(folder, 0, 2).hold(), Presence(folder, 1, 2).hold(), Presence(folder).hold():
        ...     pass
        Traceback (most recent call last):
        circuitry.errors.FileError: ... is in use by process ... on ... since ...; wait until it is done, or name another folder
        """
        alone = self.world_size == 1
        with hold(self.folder, shared=not alone):
            others = [rank for rank in range(self.world_size) if rank != self.rank]
            self._before = {rank: _stamp(self._file(rank)) for rank in others if not held(self.folder, f"rank-{rank}")}
            if alone:
                for left in self.folder.glob(f"rank-*{LOCK}"):  # of processes that were killed
                    left.unlink(missing_ok=True)
                yield
            else:
                with hold(self.folder, f"rank-{self.rank}", leave=True):
                    yield

    def state(self, rank: int) -> str:
        """here: it holds its part; ended: it did, and was killed or failed; absent: it has not come yet, or ended well.

        What a killed process had left before this one came says nothing: the other may be about to come.

        >>> import tempfile
        >>> Presence(Path(tempfile.mkdtemp()), 0, 2).state(1)
        'absent'
        """
        if held(self.folder, f"rank-{rank}"):
            return "here"
        return "absent" if _stamp(self._file(rank)) in (None, self._before.get(rank)) else "ended"

    def _file(self, rank: int) -> Path:
        return self.folder / f"rank-{rank}{LOCK}"


def _stamp(file: Path) -> object:
    """What tells a file from another of the same name, or from itself written anew; None where there is none."""
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _take(file: Path, shared: bool) -> IO[str]:
    """The open and locked file, with the name of this process in it."""
    for _ in range(_TRIES):
        with writing(file):
            lock = file.open("a+", encoding="utf-8")
        if _locked(lock, shared) is False:
            lock.seek(0)
            holder = _holder(lock.read())
            lock.close()
            sleep(_PAUSE)
        elif _same(lock, file):
            return _signed(lock, file, shared)
        else:  # its holder has just removed it
            lock.close()
            holder = _holder("")
    raise FileError(f"{file.parent} is in use by {holder}; wait until it is done, or name another folder")


def _locked(lock: IO[str] | IO[bytes], shared: bool) -> bool | None:
    """Lock an open file; False where another holds it, None where it cannot be locked at all.

    Over NFS, Linux makes a lock of the whole file of this, which the server must support; where it is mounted with local locks,
    processes of other machines are not seen.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES) else None
    return True


def _same(lock: IO[str], file: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), file.stat())
    except OSError:
        return False


def _signed(lock: IO[str], file: Path, shared: bool) -> IO[str]:
    """Write who holds it; of those who share it, the last who came stands there."""
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    try:
        with writing(file):
            lock.truncate(0)
            lock.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
            lock.flush()
    except FileError:
        with suppress(OSError):
            if not shared:
                file.unlink()
        with suppress(OSError):
            lock.close()
        raise
    return lock


def _holder(text: str) -> str:
    try:
        found = json.loads(text)
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, LookupError, TypeError):
        return "another process"
