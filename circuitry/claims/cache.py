"""Measurements that were made before, one JSON file each, by their identity: everything that the numbers depend on."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from .. import content
from ..errors import CircuitryError
from ..results.table import PatchingTable
from ..store.resumable import plain


def default_folder() -> Path:
    """The folder for caches of this platform and user, such as ``~/.cache/circuitry/claims``.

    >>> default_folder().name
    'claims'
    """
    return Path(platformdirs.user_cache_dir("circuitry", appauthor=False)) / "claims"


@dataclass(frozen=True)
class Cache:
    """A folder of measurements; without one nothing is kept."""

    folder: Path | None = None

    def get(self, identity: Mapping[str, Any]) -> PatchingTable | None:
        """The measurement with this identity, or None. A file that cannot be read counts as missing.

        >>> Cache().get({"path": "a -> b"}) is None
        True
        """
        if self.folder is None or not (file := self._file(identity)).is_file():
            return None
        try:
            table = PatchingTable.from_json(file)
        except (CircuitryError, OSError):
            return None
        return table if table.provenance.get("identity") == plain(identity) else None

    def put(self, identity: Mapping[str, Any], table: PatchingTable) -> None:
        """Keep a measurement. Raises FileError if the folder cannot be written.

        >>> import tempfile
        >>> import numpy as np
        >>> cache, table = Cache(Path(tempfile.mkdtemp())), PatchingTable.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> cache.put({"path": "a -> b"}, table)
        >>> cache.get({"path": "a -> b"}).mean().tolist(), cache.get({"path": "a -> c"})
        ([1.0], None)
        """
        if self.folder is not None:
            known = replace(table, provenance={**table.provenance, "identity": plain(identity)})
            known.to_json(self._file(identity))

    def _file(self, identity: Mapping[str, Any]) -> Path:
        assert self.folder is not None
        text = json.dumps(plain(identity), sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


@functools.cache
def engine() -> str:
    """A digest of the code and the definitions that compute the numbers. The version alone would miss an edited checkout.

    >>> len(engine())
    16
    """
    digest, package = hashlib.sha256(), Path(content.__file__).parent
    for folder in (package, content.folder("graphs"), content.folder("tasks")):
        for file in sorted(folder.rglob("*.py")):
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def digest(file: str | Path) -> str:
    """A digest of a file's content; empty if the file is missing.

    >>> digest("nowhere.json"), len(digest(__file__))
    ('', 16)
    """
    path = Path(file)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""
