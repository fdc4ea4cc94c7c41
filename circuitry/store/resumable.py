"""A folder that holds one long computation: which one, and whether a new call may resume it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CircuitryError
from .files import blank, differences, write_whole
from .locks import hold


@dataclass(frozen=True)
class Resumable:
    """``file`` says which work the ``folder`` holds: its identity, or a record with the entry "identity".

    An identity is everything that the numbers depend on. ``what`` names the work in messages, such as "training".
    """

    folder: Path
    file: str
    what: str

    def record(self) -> dict[str, Any] | None:
        """What the file says, or None if it does not exist or cannot be read.

        >>> Resumable(Path("nowhere"), "training.json", "training").record() is None
        True
        """
        try:
            record = json.loads((self.folder / self.file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def check(self, identity: Mapping[str, Any], *, alone: bool = True) -> dict[str, Any] | None:
        """The record of this work, or None if it has not begun; writes nothing.

        Raises CircuitryError if the folder holds other work, and with ``alone`` also if it holds anything else.

        >>> import tempfile
        >>> work = Resumable(Path(tempfile.mkdtemp()), "training.json", "training")
        >>> work.begin({"seed": 0}), work.check({"seed": 0})
        ({'seed': 0}, {'seed': 0})
        >>> work.check({"seed": 1})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: ... holds another training (seed: 0 there, 1 here); name another folder
        """
        record = self.record()
        if record is None and alone and not blank(self.folder):
            record = self.record()  # another process may have begun in between
            if record is None:
                raise CircuitryError(f"{self.folder} is not empty and holds no {self.what}; name another folder")
        if record is not None and not same(stored := record.get("identity", record), identity):
            raise CircuitryError(
                f"{self.folder} holds another {self.what} ({differences(stored, plain(identity))}); name another folder"
            )
        return record

    def begin(self, identity: Mapping[str, Any], *, alone: bool = True, **more: Any) -> dict[str, Any]:
        """``check``, then write the file if the work has not begun: a record if there are ``more`` entries, else the identity."""
        record = self.check(identity, alone=alone)
        if record is None:
            record = {"identity": plain(identity), **more} if more else plain(identity)
            self.write(record)
        return record

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the file, whole or not at all."""
        write_whole(self.folder / self.file, json.dumps(record, indent=1, default=str))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while writing into it. Raises FileError, which says who holds it.

        After Ctrl-C the file says "interrupted" where it said "running", until the next call holds the folder.

        >>> import tempfile
        >>> work = Resumable(Path(tempfile.mkdtemp()), "training.json", "training")
        >>> with work.held():
        ...     work.record()
        """
        with hold(self.folder):
            self._turn("interrupted", "running")
            try:
                yield
            except KeyboardInterrupt as error:
                self._turn("running", "interrupted")
                error.args = error.args or (f"Run the same command to resume; what is finished is in {self.folder}.",)
                raise

    def _turn(self, before: str, after: str) -> None:
        record = self.record()
        if record is not None and record.get("state") == before:
            self.write({**record, "state": after})


def plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as it comes back from JSON.

    >>> plain({"sizes": (1, 2)})
    {'sizes': [1, 2]}
    """
    decoded: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return decoded


def same(first: Any, second: Any) -> bool:
    """Whether two identities are equal, even if one of them has been through JSON.

    >>> same({"sizes": [1, 2]}, {"sizes": (1, 2)})
    True
    """
    return json.dumps(first, sort_keys=True, default=str) == json.dumps(second, sort_keys=True, default=str)
