"""Feature activations of one autoencoder on one corpus, in a folder that MPPC and the feature dashboard read."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file
from scipy.sparse import csr_array

from ...errors import CircuitryError
from ...html.shown import Shown
from .blocks import Block, Sparse, Tokens
from .index import DOCUMENTS, INDEX, SEAL, STARTED, check_index, check_shard, digest_of, digest_of_documents
from .moments import Ints, Moments
from .shards import read_shard

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, eq=False)
class FeatureActs(Shown):
    """Feature activations [token, feature] on disk, most of them 0.

    Tokens are the corpus's used tokens, numbered from 0 in its order. ``index`` is the content of ``index.json``: ``tokens``,
    ``features``, the digest of the ``corpus``, the ``mask`` rule in words, ``shards``, ``moments``, and the entries of the
    ``provenance`` (``name``, ``node``, ``layer``, ``depth``, ``model`` ...).

    >>> import tempfile
    >>> acts = FeatureActs.write(tempfile.mkdtemp(), [np.array([[0, 1.5], [2, 0]])], features=2, corpus="digest of the tokens")
    >>> acts.csr().toarray().tolist(), acts.moments().sum.tolist()
    ([[0.0, 1.5], [2.0, 0.0]], [2.0, 1.5])
    """

    folder: Path
    index: Mapping[str, Any]
    _checked: set[Path] = field(default_factory=set, repr=False)
    """Files whose bytes have been compared with their digest, which is done only once."""

    def _shown_(self) -> Iterable[Markup]:
        from ..notebook import of_acts

        return of_acts(self)

    @classmethod
    def write(
        cls,
        folder: str | PathLike[str],
        batches: Iterable[Tokens],
        features: int,
        provenance: Mapping[str, Any] | None = None,
        corpus: str = "",
        **settings: Any,
    ) -> FeatureActs:
        """Write batches of tokens, each dense [token, feature], sparse, or (feature, value, count) as in ``Block``.

        If an earlier call with the same arguments was killed, its complete files are kept and that many tokens of ``batches``
        are skipped; if it finished, nothing is read. ``settings`` go to ``Writer``. Raises CircuitryError for a folder that holds
        something else.
        """
        from .writer import Writer, held

        with held([Path(folder)]):
            writer = Writer(folder, features, provenance, corpus, **settings)
            if not writer.complete:
                skip = writer.tokens
                for given in batches:
                    block = Block.of(given, features)
                    skipped = min(skip, block.tokens)
                    skip -= skipped
                    writer.add(block.split(skipped)[1])
            return writer.close()

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> FeatureActs:
        """Open the feature activations in a folder.

        Raises CircuitryError if there are none, writing was interrupted, or ``index.json`` was changed.
        """
        path = Path(folder)
        try:
            index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise CircuitryError(f"{path} holds no feature activations: {_why_none(path)}") from None
        check_index(index, path)
        return cls(path, index)

    @property
    def name(self) -> str:
        """What they are, for messages and tables."""
        return str(self.index.get("name") or self.index.get("node") or self.folder.name)

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.index["tokens"])

    @property
    def features(self) -> int:
        """Number of features."""
        return int(self.index["features"])

    @property
    def corpus(self) -> str:
        """Digest of the corpus."""
        return str(self.index["corpus"])

    @functools.cached_property
    def digest(self) -> str:
        """A digest of the index, which has digests of all other files: folders with the same digest have the same content."""
        return digest_of(self.index)

    @functools.cached_property
    def documents(self) -> Ints:
        """Number of the first token of each document; empty if the writer did not get them.

        Raises CircuitryError if they do not agree with the index.
        """
        file = self.folder / DOCUMENTS
        first: Ints = load_file(file)["first"] if file.is_file() else np.zeros(0, np.int64)
        if self.index.get("documents", digest := digest_of_documents(first)) != digest:
            raise CircuitryError(f"{file} is not what {INDEX} says; write the feature activations again")
        return first

    def moments(self) -> Moments:
        """Count, sum, sum of squares and greatest value of every feature, in float64.

        Raises CircuitryError if an index without a digest has moments that differ from its files.
        """
        return self._moments

    @functools.cached_property
    def _moments(self) -> Moments:
        stored = self.index["moments"]
        if SEAL not in self.index:
            counted = sum((block.moments(self.features) for block in self.blocks()), Moments.none(self.features))
            if counted.to_json() != stored:
                raise CircuitryError(
                    f"{self.folder / INDEX} has other moments than its files; write the feature activations again"
                )
        return Moments.from_json(stored)

    def blocks(self) -> Iterator[Block]:
        """All tokens in order, shard by shard, in the dtypes of the files. Raises CircuitryError for a damaged file."""
        for shard in self.index["shards"]:
            file = self.folder / shard["file"]
            block = read_shard(file)
            if file not in self._checked:
                check_shard(self.index, shard, block, file)
            self._checked.add(file)
            yield block

    def csr(self) -> Sparse:
        """All activations as a sparse array [token, feature] of float32: 8 bytes for every value that is not 0."""
        total = sum(shard["nonzeros"] for shard in self.index["shards"])
        feature, value, count = np.empty(total, np.int32), np.empty(total, np.float32), np.empty(self.tokens, np.int64)
        at = token = 0
        for block in self.blocks():
            stop = at + len(block.feature)
            feature[at:stop], value[at:stop], count[token : token + block.tokens] = block.feature, block.value, block.count
            at, token = stop, token + block.tokens
        pointers = Block(feature, value, count).pointers()
        array = csr_array(
            (value, feature, pointers.astype(np.int32 if total < 1 << 31 else np.int64)), (self.tokens, self.features)
        )
        array.has_canonical_format = True  # features ascend within every token, so scipy need neither check nor sort
        return array

    def __repr__(self) -> str:
        return f"<{self.name}: {self.features} features on {self.tokens} tokens>"


def _why_none(path: Path) -> str:
    """Why a folder without an index holds no feature activations, and what to try."""
    if not path.is_dir():
        return "the folder does not exist"
    if (path / STARTED).is_file():
        return "writing was interrupted; run the same command to resume"
    if (path / "training.json").is_file():
        return f"it holds autoencoders; run `circuitry sae encode {path}` to write the activations of their features"
    below = sorted({file.parent.parent.name for file in path.glob(f"*/*/{INDEX}")})
    return f"try the folders in {', '.join(below)}" if below else f"it has no {INDEX}"


def feature_acts(folders: str | PathLike[str] | Sequence[str | PathLike[str]]) -> list[FeatureActs]:
    """Feature activations in folders: each folder holds some, or has subfolders that do, which are sorted by ``layer``, then name.

    Raises CircuitryError for a folder without any.

    >>> import tempfile
    >>> out = Path(tempfile.mkdtemp())
    >>> for layer in (10, 9):
    ...     acts = FeatureActs.write(out / str(layer), [np.eye(3)], features=3, provenance={"layer": layer})
    >>> [acts.index["layer"] for acts in feature_acts(out)]
    [9, 10]
    """
    given = [folders] if isinstance(folders, str | PathLike) else list(folders)
    layers: list[FeatureActs] = []
    for folder in map(Path, given):
        inside = [] if (folder / INDEX).is_file() else sorted(file.parent for file in folder.glob(f"*/{INDEX}"))
        opened = [FeatureActs.open(subfolder) for subfolder in inside] or [FeatureActs.open(folder)]
        layers += sorted(opened, key=lambda acts: -1 if acts.index.get("layer") is None else acts.index["layer"])
    return layers
