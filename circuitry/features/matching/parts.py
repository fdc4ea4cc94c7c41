"""Feature activations whose files are written in any order and by any process, each file for a given stretch of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CircuitryError
from ...store.files import sweep
from ...store.resumable import Resumable
from .blocks import Block
from .index import DOCUMENTS, INDEX, STARTED
from .moments import Ints, Moments
from .shards import entry, read_shard, rounded, save_whole, shard_name, write_shard
from .store import FeatureActs
from .writer import write_index


@dataclass(frozen=True, eq=False)
class Parts:
    """A folder of feature activations that begins with its ``identity``; file k has tokens ``edges[k]`` to ``edges[k + 1]``.

    ``documents``: number of the first token of each document.
    """

    folder: Path
    identity: Mapping[str, Any]
    edges: Ints
    documents: Ints

    @property
    def complete(self) -> bool:
        """Whether the folder is complete."""
        return (self.folder / INDEX).is_file()

    @property
    def _work(self) -> Resumable:
        return Resumable(self.folder, STARTED, "set of feature activations")

    def check(self, alone: bool = True) -> None:
        """Raise CircuitryError if the folder holds other feature activations, or, if this process works ``alone``, anything else."""
        self._work.check(self.identity, alone=alone)

    def begin(self, alone: bool = True) -> None:
        """Make the folder, unless it is made already."""
        self._work.begin(self.identity, alone=alone)
        if alone:  # else another process may be writing
            sweep(self.folder)
        if not (self.folder / DOCUMENTS).is_file():
            save_whole(self.folder / DOCUMENTS, {"first": self.documents})

    def missing(self) -> list[int]:
        """Numbers of the files that are not written yet."""
        return [] if self.complete else [k for k in range(len(self.edges) - 1) if not self._file(k).is_file()]

    def put(self, number: int, blocks: Iterable[Block]) -> None:
        """Write a file. Raises CircuitryError for values too large for its dtype."""
        dtype, features = self.identity["value"], self.identity["features"]
        write_shard(self._file(number), Block.joined([rounded(block, dtype, features) for block in blocks]))

    def close(self) -> FeatureActs | None:
        """Write the index if all files are there; None if some are missing. Raises CircuitryError for a damaged file."""
        if self.missing():
            return None
        if not self.complete:
            blocks = [self._file(k) for k in range(len(self.edges) - 1)]
            moments, shards = Moments.none(self.identity["features"]), []
            for file, size in zip(blocks, np.diff(self.edges), strict=True):
                block = read_shard(file)
                if block.tokens != size:
                    raise CircuitryError(
                        f"{file} has {block.tokens} tokens, not {size}; remove it, and run the same command again"
                    )
                moments = moments + block.moments(self.identity["features"])
                shards.append(entry(file, block))
            write_index(self.folder, self.identity, shards, moments, self.documents)
        return FeatureActs.open(self.folder)

    def _file(self, number: int) -> Path:
        return self.folder / shard_name(number)
