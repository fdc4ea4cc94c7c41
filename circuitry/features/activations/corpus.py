"""Token ids of documents, with the tokens whose activations are used, and a file for them."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import CircuitryError, whole
from ...html.shown import Shown
from ...progress import bar
from ...store.files import write_whole
from .texts import Texts, describe, documents

if TYPE_CHECKING:
    from markupsafe import Markup

    from ...models.model import Model

_AT_ONCE = 256
"""Documents tokenised at once."""


@dataclass(frozen=True, eq=False)
class Corpus(Shown):
    """Token ids of documents, one after another, each starting with the tokenizer's beginning-of-text token, if it has one.

    ``ids`` [token] int32; document k is ``ids[starts[k]:starts[k + 1]]``, ``starts`` [document + 1] int64. ``special`` [token]
    is true for tokens whose activations are not used (beginning and end of text, padding, any that the tokenizer calls
    special). ``source`` describes the text in words; ``tokenizer`` is a digest of the tokenizer's tokens and their ids.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    special: NDArray[np.bool_]
    source: str
    tokenizer: str

    def _shown_(self) -> Iterable[Markup]:
        from ..notebook import of_corpus

        return of_corpus(self)

    def __post_init__(self) -> None:
        edges = self.starts[[0, -1]].tolist() if len(self.starts) > 1 else []
        if edges != [0, len(self.ids)] or (np.diff(self.starts) < 1).any() or self.special.shape != self.ids.shape:
            raise CircuitryError(
                "a corpus needs documents that are not empty and cover all its ids, and a mask of the same length as the ids"
            )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __repr__(self) -> str:
        return f"<corpus {self.digest}: {self.tokens} tokens used of {len(self.ids)}, {len(self)} documents; {self.source}>"

    @functools.cached_property
    def used(self) -> NDArray[np.int64]:
        """Indices of the used tokens in ``ids`` [used token]."""
        return np.flatnonzero(~self.special)

    @functools.cached_property
    def edges(self) -> NDArray[np.int64]:
        """Number of used tokens before each document, and in total [document + 1]."""
        return np.searchsorted(self.used, self.starts)

    @property
    def tokens(self) -> int:
        """Number of used tokens."""
        return len(self.used)

    @functools.cached_property
    def digest(self) -> str:
        """A digest of ids, starts and special: corpora with the same digest have the same tokens, documents and mask."""
        digest = hashlib.blake2b(digest_size=8)
        for values, dtype in ((self.ids, "<i4"), (self.starts, "<i8"), (self.special, "?")):
            digest.update(np.ascontiguousarray(values, dtype).data)
        return digest.hexdigest()

    def take(self, tokens: int) -> Corpus:
        """The first documents, cut after this many used tokens; all of them if there are fewer.

        >>> from circuitry.features.activations.corpus import Corpus
        >>> text = Corpus(np.arange(8, dtype=np.int32), np.array([0, 5, 8]), np.arange(8) % 5 == 0, "numbers", "")
        >>> text.take(5).ids.tolist(), text.take(5).tokens
        ([0, 1, 2, 3, 4, 5, 6], 5)
        """
        whole("tokens", tokens, 1)
        if tokens >= self.tokens:
            return self
        end = int(self.used[tokens - 1]) + 1
        return self._documents(0, int(np.searchsorted(self.starts, end)), end)

    def skip(self, tokens: int) -> Corpus:
        """The documents after the first ``tokens`` used tokens; a document that these end in is left out.

        Raises CircuitryError if nothing is left.

        >>> text = Corpus(np.arange(8, dtype=np.int32), np.array([0, 3, 5, 8]), np.arange(8) == 0, "numbers", "")
        >>> text.skip(3).ids.tolist()
        [5, 6, 7]
        """
        at = int(np.searchsorted(self.edges, tokens))
        if at >= len(self):
            raise CircuitryError(f"the text has {self.tokens} tokens, so no document is left after the first {tokens}")
        return self._documents(at, len(self), len(self.ids))

    def split(self, share: float) -> tuple[Corpus, Corpus]:
        """Split into the first documents, with about this ``share`` of the used tokens, and the remaining ones.

        Documents are not cut. Raises CircuitryError for a single document and for a share that is not between 0 and 1.

        >>> text = corpus(__import__("circuitry").load("bundled:mamba"), ["Twenty characters or more."] * 4)
        >>> [len(part) for part in text.split(0.75)]
        [3, 1]
        """
        if len(self) < 2 or not 0 < share < 1:
            raise CircuitryError(
                f"a corpus of {len(self)} documents cannot be split at a share of {share}: one part would be empty"
            )
        at = 1 + int(np.abs(self.edges[1:-1] - share * self.tokens).argmin())
        return self._documents(0, at, int(self.starts[at])), self._documents(at, len(self), len(self.ids))

    def _documents(self, first: int, stop: int, end: int) -> Corpus:
        """Documents ``first`` to ``stop``, the last of which ends at token ``end``."""
        begin = int(self.starts[first])
        starts = np.append(self.starts[first:stop], end) - begin
        return replace(self, ids=self.ids[begin:end], starts=starts, special=self.special[begin:end])

    def save(self, file: str | Path) -> None:
        """Write it to a safetensors file, whole or not at all."""
        from safetensors.numpy import save_file

        provenance = {"source": self.source, "tokenizer": self.tokenizer, "digest": self.digest}
        arrays = {name: np.ascontiguousarray(getattr(self, name)) for name in ("ids", "starts", "special")}
        write_whole(Path(file), lambda path: save_file(arrays, path, provenance))

    @classmethod
    def load(cls, file: str | Path) -> Corpus:
        """Read what ``save`` wrote. Raises CircuitryError if the file does not exist, is damaged or was changed."""
        from safetensors import SafetensorError, safe_open

        if not Path(file).is_file():
            raise CircuitryError(f"{file} holds no corpus: the file does not exist; `circuitry sae encode --corpus` writes one")
        try:
            with safe_open(file, "np") as opened:
                provenance = opened.metadata() or {}
                arrays = {name: opened.get_tensor(name) for name in ("ids", "starts", "special")}
            loaded = cls(**arrays, source=provenance["source"], tokenizer=provenance["tokenizer"])
        except (OSError, SafetensorError, KeyError) as error:
            raise CircuitryError(f"{file} holds no corpus: {error}") from error
        if loaded.digest != provenance.get("digest"):
            raise CircuitryError(f"{file} was changed: its tokens are not those of corpus {provenance.get('digest')}")
        return loaded


def corpus(
    model: Model | Any, texts: Texts = None, *, tokens: int | None = None, context: int = 1024, progress: bool = True
) -> Corpus:
    """Tokenise text, as much of it as ``tokens`` used tokens need.

    Every document starts with the beginning-of-text token, if there is one, and is cut to ``context`` tokens including it, or to
    the model's number of positions. Activations of special tokens, recognised by id, are not used.

    Args:
        model: a model with a tokenizer, or a Hugging Face tokenizer.
        texts: what ``documents`` reads; None for the documentation of the running Python.
        tokens: number of used tokens; the last document is cut to reach it exactly. None, or a shorter text: all of it.
        context: most tokens of a document, at least 2.
        progress: show a bar if it takes longer than a second.

    Raises CircuitryError for a model without a tokenizer, and for texts that cannot be read or have no document.

    >>> import circuitry as ct
    >>> text = corpus(ct.load("bundled:mamba"), ["Mary went to the store and bought a drink.", "too short"])
    >>> len(text), text.special.tolist()[:3], text.tokens == len(text.ids) - 1
    (1, [True, False, False], True)
    """
    tokenizer = model.tokenizer if hasattr(model, "graph") else model
    if tokenizer is None or not callable(tokenizer):
        raise CircuitryError(f"{model!r} has no tokenizer, so it cannot read text; load it with one, or make the Corpus yourself")
    whole("context", context, 2)
    if tokens is not None:
        whole("tokens", tokens, 1)
    limit = model.positions if model is not tokenizer else None
    special = special_ids(tokenizer)
    rows: list[NDArray[np.int32]] = []
    used = 0
    with bar(total=tokens, desc="tokenise", unit="token", unit_scale=True, show=None if progress else False, delay=1) as shown:
        for row in _rows(tokenizer, texts, min(context, limit or context)):
            rows.append(row)
            count = int((~np.isin(row, special)).sum())
            used += count
            shown.update(count)
            if tokens is not None and used >= tokens:
                break
    if not rows:
        raise CircuitryError(f"{describe(texts)}: no document of 20 characters or more")
    ids, starts = np.concatenate(rows), np.cumsum([0, *map(len, rows)], dtype=np.int64)
    tokenised = Corpus(ids, starts, np.isin(ids, special), describe(texts), tokenizer_digest(tokenizer))
    return tokenised if tokens is None else tokenised.take(tokens)


def _rows(tokenizer: Any, texts: Texts, context: int) -> Iterator[NDArray[np.int32]]:
    """The ids of each document in turn."""
    first = _front(tokenizer)
    left = documents(texts)
    while batch := list(itertools.islice(left, _AT_ONCE)):
        # Only the tokens in front are wanted: some tokenizers would also put one at the end.
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            if row := [*first, *ids][:context]:
                yield np.array(row, np.int32)


def _front(tokenizer: Any) -> tuple[int, ...]:
    from ...prompting.vocabulary import Vocabulary

    return Vocabulary(np.arange(0), tokenizer).front


def special_ids(tokenizer: Any) -> list[int]:
    """Ids of tokens that are not text: those the tokenizer calls special, and the beginning-of-text token.

    >>> import circuitry as ct
    >>> special_ids(ct.load("bundled:mamba").tokenizer)
    [0]
    """
    added = getattr(tokenizer, "added_tokens_decoder", {})
    marked = {index for index, token in added.items() if token.special}
    return sorted({*marked, *_front(tokenizer), *tokenizer.all_special_ids})


def tokenizer_digest(tokenizer: Any) -> str:
    """A digest of all tokens and their ids: the ids of tokenizers with the same digest mean the same tokens.

    >>> import circuitry as ct
    >>> first, second = (ct.load(f"bundled:{name}").tokenizer for name in ("mamba", "gpt_neox"))
    >>> tokenizer_digest(first) == tokenizer_digest(second)
    True
    """
    tokens = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    return hashlib.blake2b(repr(tokens).encode(), digest_size=8).hexdigest()
