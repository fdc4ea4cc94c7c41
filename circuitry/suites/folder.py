"""The folder of a run: what ran, the tables finished so far, and what is needed to resume. No run overwrites another."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import CircuitryError, FileError, expected
from ..executing.distributed import current
from ..results.table import PatchingTable
from ..store.files import write_whole
from ..store.resumable import Resumable, same
from ..team import Team

RECORD = "run.json"
RUNNING, COMPLETE = "running", "complete"


@dataclass
class RunFolder:
    """A folder with ``run.json`` (``record``), the finished tables, and ``parts/``: every finished patch, until the run ends.

    ``record["identity"]`` identifies a run: suite, model, weights, task, settings and versions. In a ``team`` of processes
    the first one finds, locks and writes the folder, and the others read it.
    """

    path: Path
    record: dict[str, Any]
    team: Team = field(default_factory=current)

    @classmethod
    def open(cls, parent: Path, name: str, record: Mapping[str, Any], *, fresh: bool = False) -> RunFolder:
        """The folder of this run: an earlier one with the same identity, preferably an interrupted one; else a new one.

        ``fresh``: always a new folder.

        >>> import tempfile
        >>> parent = Path(tempfile.mkdtemp())
        >>> first = RunFolder.open(parent, "run", {"identity": {"seed": 0}, "suite": "s"})
        >>> again = RunFolder.open(parent, "run", {"identity": {"seed": 0}, "suite": "s"})
        >>> other = RunFolder.open(parent, "run", {"identity": {"seed": 1}, "suite": "s"})
        >>> first.path == again.path, other.path.name
        (True, 'run-2')
        """
        team = current()
        return cls(*team.told(cls._open(parent, name, record, fresh=fresh) if team.rank == 0 else (parent, {})))

    @classmethod
    def _open(cls, parent: Path, name: str, record: Mapping[str, Any], *, fresh: bool) -> tuple[Path, dict[str, Any]]:
        number, path, same_identity = 1, parent / name, list[RunFolder]()
        while path.exists():
            stored = _read(path)
            if stored and same(stored.get("identity"), record["identity"]):
                same_identity.append(cls(path, stored))
            number += 1
            path = parent / f"{name}-{number}"
        if same_identity and not fresh:
            chosen = next((folder for folder in same_identity if not folder.complete), same_identity[-1])
            return chosen.path, chosen.record
        new = cls(path, {**record, "started": _now(), "finished": None, "state": RUNNING, "tables": []})
        try:
            write_whole(path, new._begin)
        except FileError:
            if path.is_dir():  # another process created it after the loop above looked; it may be the same run
                return cls._open(parent, name, record, fresh=fresh)
            raise
        return new.path, new.record

    def _begin(self, new: Path) -> None:
        (new / "parts").mkdir(parents=True)
        _work(new).write(self.record)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder while the run writes into it. Raises FileError, which names the process that has the lock.

        >>> import tempfile
        >>> folder = RunFolder.open(Path(tempfile.mkdtemp()), "run", {"identity": {}, "suite": "s"})
        >>> with folder.held():
        ...     folder.complete
        False
        """
        with _work(self.path).held() if self.writes else nullcontext():
            # Another process may have finished the run between open() and the lock.
            self.record = self.team.told(_read(self.path) or self.record)
            yield

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes.

        >>> RunFolder(Path("x"), {}).writes
        True
        """
        return self.team.rank == 0

    @property
    def complete(self) -> bool:
        """Whether the run is finished.

        >>> RunFolder(Path("x"), {"state": "running"}).complete
        False
        """
        return bool(self.record["state"] == COMPLETE)

    def write(self) -> None:
        """Write ``run.json``, whole or not at all."""
        if self.writes:
            _work(self.path).write(self.record)

    def part(self, key: object, make: Callable[[], PatchingTable]) -> PatchingTable:
        """The table that an interrupted run has already made for this key, or a new one. ``key``: all that the table depends on.

        >>> import tempfile
        >>> import numpy as np
        >>> folder = RunFolder.open(Path(tempfile.mkdtemp()), "run", {"identity": {}, "suite": "s"})
        >>> table = PatchingTable.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> _ = folder.part("key", lambda: table)
        >>> folder.part("key", lambda: 1 / 0).mean().tolist()
        [1.0]
        """
        file = self.path / "parts" / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.json"
        # The first process decides for all: a run that only some processes join would wait for the others forever.
        if not self.team.told(file.exists()):
            table = make()
            if self.writes:
                write_whole(file, table.to_json)
            self.team.wait()
        return PatchingTable.from_json(file)

    def keep(self, name: str, table: PatchingTable) -> None:
        """Write a finished table, so that the report of an interrupted run shows it.

        >>> import tempfile
        >>> import numpy as np
        >>> folder = RunFolder.open(Path(tempfile.mkdtemp()), "run", {"identity": {}, "suite": "s"})
        >>> folder.keep("one", PatchingTable.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit"))
        >>> folder.record["tables"]
        ['one']
        """
        if self.writes:
            table.to_json(self.path / "tables" / f"{name}.json")
        self.record["tables"] = [*(n for n in self.record["tables"] if n != name), name]
        self.write()

    def end(self) -> dict[str, str]:
        """The entries that complete a record.

        >>> RunFolder(Path("x"), {}).end()["state"]
        'complete'
        """
        return {"state": COMPLETE, "finished": _now()}

    def finish(self) -> None:
        """Mark the run as complete, after everything is written, and delete ``parts/``, which only an interrupted run needs."""
        record = self.team.told(_read(self.path) or self.record)
        # Saving the result has already written a complete run.json; its time stays, because the report shows it.
        self.record = record if record["state"] == COMPLETE else {**record, **self.end()}
        self.write()
        self.team.wait()  # until no process reads a part
        if self.writes:
            shutil.rmtree(self.path / "parts", ignore_errors=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _work(path: Path) -> Resumable:
    return Resumable(path, RECORD, "run")


def _read(path: Path) -> dict[str, Any] | None:
    """The record of a run, or None if this is not a run folder or its record cannot be read."""
    record = _work(path).record()
    return record if record and "state" in record else None


def read_record(path: Path) -> dict[str, Any]:
    """The record of a run folder. Raises CircuitryError if the folder has none.

    >>> read_record(Path("nowhere"))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: expected a run folder, with a readable run.json, got 'nowhere'; `circuitry run` makes one
    """
    record = _read(path)
    if record is None:
        raise CircuitryError(expected("a run folder, with a readable run.json", str(path), "`circuitry run` makes one"))
    return record


def plain(name: str) -> str:
    """A model's name as part of a folder's name.

    >>> plain("bundled:mamba"), plain("compiled:mamba"), plain("HuggingFaceTB/SmolLM2-135M")
    ('mamba', 'compiled-mamba', 'SmolLM2-135M')
    """
    name = name.removeprefix("bundled:").removeprefix("package:")
    last = Path(name).stem if name.endswith(".gguf") else name.rstrip("/").split("/")[-1]
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in last)
