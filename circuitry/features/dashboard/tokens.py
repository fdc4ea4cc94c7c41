"""Tokens as text that people can read, one at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def readable(tokenizer: Any) -> Callable[[int], str]:
    """How a tokenizer's ids read, each by itself: with its leading space, and a part of a character as the bytes it is.

    Without a tokenizer (None) an id reads as its number.

    >>> import circuitry as ct
    >>> tokenizer = ct.load("bundled:mamba").tokenizer
    >>> text = readable(tokenizer)
    >>> [text(i) for i in tokenizer.encode(" Mary é")]
    [' Mary', ' ', '\\\\xc3', '\\\\xa9']
    >>> readable(None)(7)
    '7'
    """

    @functools.cache
    def text(index: int) -> str:
        if tokenizer is None:
            return str(index)
        said = str(tokenizer.decode([index], clean_up_tokenization_spaces=False))
        piece = str(tokenizer.convert_ids_to_tokens(index))
        if "\ufffd" in said and all(letter in _BYTES for letter in piece):
            return bytes(_BYTES[letter] for letter in piece).decode("utf-8", "backslashreplace")
        return f" {said}" if piece.startswith("▁") and not said.startswith(" ") else said  # SentencePiece drops it

    return text


def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level BPE writes bytes: printable ones as they are, the rest moved to 256 onward (GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}


_BYTES = _byte_letters()
