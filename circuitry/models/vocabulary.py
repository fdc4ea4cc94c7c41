"""What a task may know of a model: its tokens, without the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Vocabulary:
    """Token ids a task may draw from, and how to read and write text.

    ``ordinary`` [n]: ids without special tokens, and without two ids that read the same. ``tokenizer`` is None for a
    model loaded without one; tokens then read as numbers.
    """

    ordinary: NDArray[np.int64]
    tokenizer: Any = None

    @classmethod
    def of(cls, tokenizer: Any, size: int) -> Vocabulary:
        """The vocabulary of a tokenizer with logits of ``size`` entries; all ids where there is no tokenizer.

        >>> Vocabulary.of(None, 3).ordinary.tolist()
        [0, 1, 2]
        """
        if tokenizer is None:
            return cls(np.arange(size))
        special = set(tokenizer.all_special_ids)
        seen: dict[str, int] = {}
        for token, index in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
            if index < size and index not in special and not _looks_special(token):
                seen.setdefault(tokenizer.decode([index]), index)
        readable = [index for text, index in seen.items() if text and "\ufffd" not in text]
        return cls(np.array(sorted(readable), np.int64), tokenizer)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens added.

        >>> import circuitry as ct
        >>> words = ct.load("bundled:mamba").vocabulary
        >>> [words.decode(i) for i in words.encode(" Mary")]
        [' Mary']
        """
        if self.tokenizer is None:
            raise ValueError("this model was loaded without a tokenizer")
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token: int) -> str:
        """One token as text.

        >>> Vocabulary.of(None, 3).decode(2)
        '2'
        """
        return str(token) if self.tokenizer is None else str(self.tokenizer.decode([token]))


def _looks_special(token: str) -> bool:
    return token.startswith("<|") and token.endswith("|>")
