"""A folder with one long piece of work that can be resumed: what work it is, and whether a new call asks for the same."""

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
    """``file`` says what work the ``folder`` holds: the identity of it, or a record with that as its entry "identity".

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
            found = json.loads((self.folder / self.file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def check(self, identity: Mapping[str, Any], *, alone: bool = True) -> dict[str, Any] | None:
        """The record of this work, or None where it has not begun; nothing is written.

        Raises CircuitryError where the folder holds other work, and with ``alone`` also where it holds anything else.

        >>> import tempfile
        >>> one = Resumable(Path(tempfile.mkdtemp()), "training.json", "training")
        >>> one.begin({"seed": 0}), one.check({"seed": 0})
        ({'seed': 0}, {'seed': 0})
        >>> one.check({"seed": 1})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: ... holds another training (seed: 0 there, 1 here); name another folder
        """
        known = self.record()
        if known is None and alone and not blank(self.folder):
            raise CircuitryError(f"{self.folder} is not empty and holds no {self.what}; name another folder")
        if known is not None and not same(found := known.get("identity", known), identity):
            told = differences(found, plain(identity))
            raise CircuitryError(f"{self.folder} holds another {self.what} ({told}); name another folder")
        return known

    def begin(self, identity: Mapping[str, Any], *, alone: bool = True, **more: Any) -> dict[str, Any]:
        """``check``, and write the file where the work has not begun; with ``more`` entries it is a record."""
        known = self.check(identity, alone=alone)
        if known is None:
            known = {"identity": plain(identity), **more} if more else plain(identity)
            self.write(known)
        return known

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the file, whole or not at all."""
        write_whole(self.folder / self.file, json.dumps(record, indent=1, default=str))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder while writing into it. Raises FileError, which says who holds it.

        >>> import tempfile
        >>> one = Resumable(Path(tempfile.mkdtemp()), "training.json", "training")
        >>> with one.held():
        ...     one.record()
        """
        with hold(self.folder):
            yield


def plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as it comes back from JSON.

    >>> plain({"sizes": (1, 2)})
    {'sizes': [1, 2]}
    """
    found: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return found


def same(first: Any, second: Any) -> bool:
    """Whether two identities are one, also where one of them has been through JSON.

    >>> same({"sizes": [1, 2]}, {"sizes": (1, 2)})
    True
    """
    return json.dumps(first, sort_keys=True, default=str) == json.dumps(second, sort_keys=True, default=str)
