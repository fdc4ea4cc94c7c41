"""The folder of a run: what ran, the tables made so far, and how to go on after a kill. No run overwrites another."""

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
    """A folder with ``run.json`` (``record``), tables as they come, and ``parts/``: every finished patch, until the run ends.

    Runs are told apart by ``record["identity"]``: suite, model, its weights, task, settings and versions. Of a ``team`` of processes
    the first finds, holds and writes the folder, and the others read it.
    """

    path: Path
    record: dict[str, Any]
    team: Team = field(default_factory=current)

    @classmethod
    def open(cls, parent: Path, name: str, record: Mapping[str, Any], *, fresh: bool = False) -> RunFolder:
        """The folder of this run: an earlier one of the same identity, rather one that was interrupted; else one of a new name.

        ``fresh``: a new folder in any case.

        >>> import tempfile
        >>> parent = Path(tempfile.mkdtemp())
        >>> one = RunFolder.open(parent, "run", {"identity": {"seed": 0}, "suite": "s"})
        >>> again = RunFolder.open(parent, "run", {"identity": {"seed": 0}, "suite": "s"})
        >>> other = RunFolder.open(parent, "run", {"identity": {"seed": 1}, "suite": "s"})
        >>> one.path == again.path, other.path.name
        (True, 'run-2')
        """
        team = current()
        return cls(*team.told(cls._open(parent, name, record, fresh=fresh) if team.rank == 0 else (parent, {})))

    @classmethod
    def _open(cls, parent: Path, name: str, record: Mapping[str, Any], *, fresh: bool) -> tuple[Path, dict[str, Any]]:
        number, path, alike = 1, parent / name, list[RunFolder]()
        while path.exists():
            found = _read(path)
            if found and same(found.get("identity"), record["identity"]):
                alike.append(cls(path, found))
            number += 1
            path = parent / f"{name}-{number}"
        if alike and not fresh:
            chosen = next((one for one in alike if not one.complete), alike[-1])
            return chosen.path, chosen.record
        made = cls(path, {**record, "started": _now(), "finished": None, "state": RUNNING, "tables": []})
        try:
            write_whole(path, made._begin)
        except FileError:
            if path.is_dir():  # another run has made it at this moment
                return cls._open(parent, name, record, fresh=fresh)
            raise
        return made.path, made.record

    def _begin(self, new: Path) -> None:
        (new / "parts").mkdir(parents=True)
        _work(new).write(self.record)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while the run writes into it. Raises FileError, which says who holds it.

        >>> import tempfile
        >>> folder = RunFolder.open(Path(tempfile.mkdtemp()), "run", {"identity": {}, "suite": "s"})
        >>> with folder.held():
        ...     folder.complete
        False
        """
        with _work(self.path).held() if self.writes else nullcontext():
            self.record = self.team.told(_read(self.path) or self.record)  # it may have been finished since it was found
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
        """Whether the run has come to its end.

        >>> RunFolder(Path("x"), {"state": "running"}).complete
        False
        """
        return bool(self.record["state"] == COMPLETE)

    def write(self) -> None:
        """Write ``run.json``, whole or not at all."""
        if self.writes:
            _work(self.path).write(self.record)

    def part(self, key: object, make: Callable[[], PatchingTable]) -> PatchingTable:
        """A table an interrupted run has made already, or a new one. ``key`` says everything it depends on.

        >>> import tempfile
        >>> import numpy as np
        >>> folder = RunFolder.open(Path(tempfile.mkdtemp()), "run", {"identity": {}, "suite": "s"})
        >>> one = PatchingTable.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> _ = folder.part("key", lambda: one)
        >>> folder.part("key", lambda: 1 / 0).mean().tolist()
        [1.0]
        """
        file = self.path / "parts" / f"{hashlib.sha256(repr(key).encode()).hexdigest()[:24]}.json"
        if not self.team.told(file.exists()):
            made = make()
            if self.writes:
                write_whole(file, made.to_json)
            self.team.wait()
        return PatchingTable.from_json(file)

    def keep(self, name: str, table: PatchingTable) -> None:
        """Write a finished table, so that a report of an interrupted run shows it.

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
        """What the record of a complete run has, and that of an interrupted one does not.

        >>> RunFolder(Path("x"), {}).end()["state"]
        'complete'
        """
        return {"state": COMPLETE, "finished": _now()}

    def finish(self) -> None:
        """Mark the run as complete, after everything is written, and drop what only an interrupted one needs."""
        record = self.team.told(_read(self.path) or self.record)
        self.record = record if record["state"] == COMPLETE else {**record, **self.end()}  # the report has its time already
        self.write()
        self.team.wait()  # who still reads a part
        if self.writes:
            shutil.rmtree(self.path / "parts", ignore_errors=True)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _work(path: Path) -> Resumable:
    return Resumable(path, RECORD, "run")


def _read(path: Path) -> dict[str, Any] | None:
    """The record of a run, or None where this is not a run folder or its record cannot be read."""
    found = _work(path).record()
    return found if found and "state" in found else None


def read_record(path: Path) -> dict[str, Any]:
    """The record of a run folder. Raises CircuitryError where there is none.

    >>> read_record(Path("nowhere"))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: expected a run folder, with a readable run.json, got 'nowhere'; `circuitry run` makes one
    """
    found = _read(path)
    if found is None:
        raise CircuitryError(expected("a run folder, with a readable run.json", str(path), "`circuitry run` makes one"))
    return found


def plain(name: str) -> str:
    """A model's name as part of a folder's name.

    >>> plain("bundled:mamba"), plain("compiled:mamba"), plain("HuggingFaceTB/SmolLM2-135M")
    ('mamba', 'compiled-mamba', 'SmolLM2-135M')
    """
    name = name.removeprefix("bundled:").removeprefix("package:")
    last = Path(name).stem if name.endswith(".gguf") else name.rstrip("/").split("/")[-1]
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in last)
