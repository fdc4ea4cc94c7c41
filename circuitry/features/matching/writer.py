"""Writes feature activations shard by shard; a kill loses at most one shard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CircuitryError, suggest
from ...store.files import sweep, write_whole
from ...store.locks import hold
from ...store.resumable import Resumable
from .blocks import Block, Tokens
from .index import DOCUMENTS, INDEX, STARTED, digest_of_documents, sealed
from .moments import Ints, Moments
from .shards import VALUES, entry, read_shard, rounded, save_whole, shard_name, write_shard
from .store import FeatureActs


@contextmanager
def held(folders: Iterable[Path]) -> Iterator[None]:
    """Hold folders while feature activations are written. Complete folders are only read, so they may be on a read-only disk.

    >>> import tempfile
    >>> with held([Path(tempfile.mkdtemp())]):
    ...     pass
    """
    with ExitStack() as stack:
        for folder in folders:
            if not (folder / INDEX).is_file():
                stack.enter_context(hold(folder))
        yield


def identity(
    features: int, provenance: Mapping[str, Any] | None, corpus: str, mask: str, dtype: str, shard: int
) -> dict[str, Any]:
    """Everything that feature activations depend on. Raises CircuitryError for an unknown dtype.

    >>> identity(3, {"node": "resid[0]"}, "digest", "no mask", "float16", 8)["value"]
    'float16'
    """
    if dtype not in VALUES:
        raise CircuitryError(f"values cannot be written as {dtype!r}; {suggest(dtype, VALUES)}")
    given = {**(provenance or {}), "corpus": corpus, "mask": mask, "features": features, "value": dtype, "shard": shard}
    found: dict[str, Any] = json.loads(json.dumps(given))
    return found


def write_index(
    folder: Path, identity: Mapping[str, Any], shards: list[dict[str, Any]], moments: Moments, documents: Ints
) -> None:
    """Write the index, which says that all files are there.

    >>> import tempfile
    >>> write_index(folder := Path(tempfile.mkdtemp()), {"features": 2, "value": "float16"}, [], Moments.none(2), np.zeros(0, np.int64))
    >>> FeatureActs.open(folder).tokens
    0
    """
    index = {**identity, "tokens": moments.tokens, "shards": shards, "moments": moments.to_json()}
    index["documents"] = digest_of_documents(documents)
    write_whole(folder / INDEX, json.dumps(sealed(json.loads(json.dumps(index)))))


class Writer:
    """Takes batches of tokens and writes them into a folder, ``shard`` tokens a file; ``close`` writes the index.

    Args:
        folder: a new folder, or one that a killed Writer with the same arguments left.
        features: number of features.
        provenance: stored in the index: ``name``, ``node``, ``layer``, ``depth``, ``model`` ...
        corpus: digest of the tokens; activations are compared only if it is the same.
        mask: in words, which tokens of the corpus are left out.
        documents: number of the first token of each document, for a null that shifts by whole documents.
        dtype: of values in the files, float16 or float32.
        shard: tokens of a file.

    Raises CircuitryError for a folder that holds something else. It does not lock the folder: ``FeatureActs.write`` and ``encode``
    do that.

    >>> import tempfile
    >>> writer = Writer(tempfile.mkdtemp(), features=3, shard=2)
    >>> writer.add(np.eye(3))
    >>> writer.tokens, writer.close()
    (2, <tmp...: 3 features on 3 tokens>)
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        features: int,
        provenance: Mapping[str, Any] | None = None,
        corpus: str = "",
        *,
        mask: str = "",
        documents: Ints | None = None,
        dtype: str = "float16",
        shard: int = 1 << 16,
    ) -> None:
        self.folder, self.features, self.dtype, self.shard = Path(folder), features, dtype, shard
        self.identity = identity(features, provenance, corpus, mask, dtype, shard)
        self._waiting: list[Block] = []
        self._shards: list[dict[str, Any]] = []
        self._moments = Moments.none(features)
        self._documents = np.asarray([] if documents is None else documents, np.int64)
        self._open()

    @property
    def complete(self) -> bool:
        """Whether the folder is complete."""
        return (self.folder / INDEX).is_file()

    @property
    def tokens(self) -> int:
        """Number of tokens in complete files."""
        return self._moments.tokens

    def add(self, batch: Tokens | Block) -> None:
        """Add the next tokens: dense [token, feature], sparse, (feature, value, count) or a Block. Raises CircuitryError for others."""
        block = batch if isinstance(batch, Block) else Block.of(batch, self.features)
        self._waiting.append(rounded(block, self.dtype, self.features))
        while sum(part.tokens for part in self._waiting) >= self.shard:
            first, rest = Block.joined(self._waiting).split(self.shard)
            self._write(first)
            self._waiting = [rest]

    def close(self) -> FeatureActs:
        """Write the remaining tokens, and the index. Raises CircuitryError if no token was added."""
        if not self.complete:
            if self._waiting and (last := Block.joined(self._waiting)).tokens:
                self._write(last)
            if not self.tokens:
                raise CircuitryError(f"no tokens were given, so {self.folder} has no feature activations")
            write_index(self.folder, self.identity, self._shards, self._moments, self._documents)
        return FeatureActs.open(self.folder)

    def _open(self) -> None:
        """Make the folder, or count the complete files in it."""
        Resumable(self.folder, STARTED, "set of feature activations").begin(self.identity)
        sweep(self.folder)
        if len(self._documents) and not self.complete:
            save_whole(self.folder / DOCUMENTS, {"first": self._documents})
        # A shorter file is the last one of a run that was killed before it wrote the index: it is written again.
        while not self.complete and (file := self._file()).is_file() and (block := read_shard(file)).tokens == self.shard:
            self._count(block, entry(file, block))

    def _file(self) -> Path:
        return self.folder / shard_name(len(self._shards))

    def _write(self, block: Block) -> None:
        self._count(block, write_shard(self._file(), block))

    def _count(self, block: Block, entry: dict[str, Any]) -> None:
        self._moments = self._moments + block.moments(self.features)
        self._shards.append(entry)
