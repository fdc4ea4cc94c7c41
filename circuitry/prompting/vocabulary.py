"""The tokens of a model, which is all that a task may know about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..html.shown import Shown

_BETWEEN_DOCUMENTS = "<|endoftext|>"  # of GPT-2, GPT-NeoX, Mamba, Qwen, SmolLM


@dataclass(frozen=True)
class Vocabulary(Shown):
    """The token ids from which a task may draw, and how to read and write text.

    ``ordinary`` [n]: ids without special tokens, and only one id for each text. ``tokenizer`` is None for a model that was loaded
    without one; tokens are then read as numbers. ``longest``: the most tokens that a prompt may have; None without a limit.
    """

    ordinary: NDArray[np.int64]
    tokenizer: Any = None
    longest: int | None = None

    @classmethod
    def of(cls, tokenizer: Any, size: int, longest: int | None = None) -> Vocabulary:
        """The vocabulary of a tokenizer for a model with ``size`` logits; without a tokenizer, all ids.

        >>> Vocabulary.of(None, 3).ordinary.tolist()
        [0, 1, 2]
        """
        if tokenizer is None:
            return cls(np.arange(size), None, longest)
        special = set(tokenizer.all_special_ids)
        seen: dict[str, int] = {}
        for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
            if index < size and index not in special and not _looks_special(token):
                seen.setdefault(tokenizer.decode([index]), index)
        readable = [index for text, index in seen.items() if text and "\ufffd" not in text]
        return cls(np.array(sorted(readable), np.int64), tokenizer, longest)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text; no special tokens are added.

        >>> import circuitry as ct
        >>> words = ct.load("bundled:mamba").vocabulary
        >>> [words.decode(i) for i in words.encode(" Mary")]
        [' Mary']
        """
        if self.tokenizer is None:
            raise ValueError("this model was loaded without a tokenizer")
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def single(self, words: str | Iterable[str]) -> dict[str, int]:
        """The words that are one token after a space, with that token; empty if none is. Text is one word.

        Raises ValueError without a tokenizer.

        >>> import circuitry as ct
        >>> words = ct.load("bundled:mamba").vocabulary
        >>> list(words.single(["Mary", "Bartholomew"])), list(words.single("Mary")), words.single("Bartholomew")
        (['Mary'], ['Mary'], {})
        """
        words = [words] if isinstance(words, str) else words  # its letters are words too, and most are one token
        before = self.encode("a")  # the space may belong to the word's token or be a mark that the tokenizer puts in front
        read = {word: self.encode(f"a {word}") for word in words}
        special = set(self.tokenizer.all_special_ids)  # such as the token for unknown words
        return {word: ids[-1] for word, ids in read.items() if ids[:-1] == before and ids[-1] not in special}

    @property
    def front(self) -> tuple[int, ...]:
        """The tokens in front of a text, usually one or none: those that the tokenizer itself puts there, ``tokenizer("x")``.

        Many tokenizers put nothing there, although the model has hardly seen a text without a token before it. Then it is the
        token between documents in training (``<|endoftext|>``) if the vocabulary has it, or else the tokenizer's bos token.

        >>> import circuitry as ct
        >>> ct.load("bundled:mamba").vocabulary.front
        (0,)
        """
        if self.tokenizer is None:
            return ()
        if added := _put_in_front(self.tokenizer):
            return added
        between = self.tokenizer.get_vocab().get(_BETWEEN_DOCUMENTS, self.tokenizer.bos_token_id)
        return () if between is None else (between,)

    @property
    def begin(self) -> int | None:
        """The first token of a text, the first of ``front``; None if nothing comes before a text.

        >>> Vocabulary.of(None, 3).begin is None
        True
        """
        return next(iter(self.front), None)

    def decode(self, token: int) -> str:
        """One token as text.

        >>> Vocabulary.of(None, 3).decode(2)
        '2'
        """
        return str(token) if self.tokenizer is None else str(self.tokenizer.decode([token]))


def _put_in_front(tokenizer: Any) -> tuple[int, ...]:
    """The tokens that the tokenizer adds before a text."""
    full, bare = (list(tokenizer("x", add_special_tokens=added)["input_ids"]) for added in (True, False))
    # Special tokens are not recognised by their ids: if "x" is unknown, its own token is special as well.
    starts = (at for at in range(len(full)) if full[at : at + len(bare)] == bare)
    return tuple(full[: next(starts, 0)])


def _looks_special(token: str) -> bool:
    return token.startswith("<|") and token.endswith("|>")
