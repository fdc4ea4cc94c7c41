"""Who writes into a folder: a lock that a process holds until it ends, even if it is killed."""

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
"""``held`` takes a lock for an instant to test it, so a lock is tried several times before it counts as taken."""


@contextmanager
def hold(folder: Path, name: str = IN_USE, *, shared: bool = False, leave: bool = False) -> Iterator[None]:
    """Hold a folder, or a named part of it, while writing there; the folder is made if it does not exist.

    ``shared``: other processes may share the lock. ``leave``: after an error the lock's file stays, held by no process, so that
    others see that this process failed. The kernel releases a lock when its process ends, even if it was killed. Raises
    FileError, which says who holds the lock.

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
        # Only the last holder may remove the file: while another holds it, a newcomer would make a new file and lock that.
        with lock, suppress(OSError):
            if not (leave and failed) and (not shared or _locked(lock, shared=False)):
                file.unlink(missing_ok=True)


def held(folder: Path, name: str = IN_USE) -> bool:
    """Whether a process holds a lock; true if that cannot be known.

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
    """Process ``rank`` of ``world_size`` that share a folder, each writing its part: which of them are working, and which have ended.

    >>> import tempfile
    >>> first, second = (Presence(Path(tempfile.gettempdir()) / "shared", rank, 2) for rank in range(2))
    >>> with first.hold():
    ...     print(first.state(1))
    ...     with second.hold():
    ...         print(first.state(1))
    ...     print(first.state(1))
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
        """Hold this process's part, or the whole folder if it is the only process. Raises FileError if another process has it.

        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Presence(folder, 0, 2).hold(), Presence(folder, 1, 2).hold(), Presence(folder).hold():
        ...     pass
        Traceback (most recent call last):
        circuitry.errors.FileError: ... is in use by process ... on ... since ...; wait until it is done, or name another folder
        """
        alone = self.world_size == 1
        with hold(self.folder, shared=not alone):
            peers = [rank for rank in range(self.world_size) if rank != self.rank]
            # Lock files that an earlier run left behind must not look like processes of this run that have ended.
            self._before = {rank: _stamp(self._file(rank)) for rank in peers if not held(self.folder, f"rank-{rank}")}
            if alone:
                for stale in self.folder.glob(f"rank-*{LOCK}"):  # of processes that were killed
                    stale.unlink(missing_ok=True)
                yield
            else:
                with hold(self.folder, f"rank-{self.rank}", leave=True):
                    yield

    def state(self, rank: int) -> str:
        """here: it holds its part; ended: it was killed or failed; absent: it has not started yet, or has finished its work.

        A lock file that was left before this process started says nothing: its successor may be about to start.

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
    """What distinguishes a file from another of the same name, or from itself rewritten; None without a file."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _take(file: Path, shared: bool) -> IO[str]:
    """Open and lock the file, and write this process's name into it."""
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
        else:  # its holder removed it between our open and our lock, so this lock protects nothing
            lock.close()
            holder = _holder("")
    raise FileError(f"{file.parent} is in use by {holder}; wait until it is done, or name another folder")


def _locked(lock: IO[str] | IO[bytes], shared: bool) -> bool | None:
    """Lock an open file; False if another process holds it, None if it cannot be locked at all.

    Over NFS, Linux turns this into a lock of the whole file, which the server must support; if the file system is mounted with
    local locks, processes on other machines are not seen.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES) else None
    return True


def _same(lock: IO[str], file: Path) -> bool:
    """Whether an open file is still the one at this path."""
    try:
        return os.path.samestat(os.fstat(lock.fileno()), file.stat())
    except OSError:
        return False


def _signed(lock: IO[str], file: Path, shared: bool) -> IO[str]:
    """Write who holds the lock; of several who share it, the last one."""
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
        record = json.loads(text)
        return f"process {record['pid']} on {record['host']} since {record['since']}"
    except (ValueError, LookupError, TypeError):
        return "another process"
