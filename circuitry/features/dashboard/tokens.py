"""Single tokens as readable text."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


def readable(tokenizer: Any) -> Callable[[int], str]:
    """A function from a token's id to its text, with its leading space; a part of a character is shown as bytes.

    Without a tokenizer (None) the text is the id.

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
        decoded = str(tokenizer.decode([index], clean_up_tokenization_spaces=False))
        piece = str(tokenizer.convert_ids_to_tokens(index))
        if "\ufffd" in decoded and all(letter in _BYTES for letter in piece):
            return bytes(_BYTES[letter] for letter in piece).decode("utf-8", "backslashreplace")
        return (
            f" {decoded}" if piece.startswith("▁") and not decoded.startswith(" ") else decoded
        )  # SentencePiece drops the space of the first token that it decodes

    return text


def _byte_letters() -> dict[str, int]:
    """The characters with which byte-level BPE writes bytes: printable ones unchanged, the others from 256 on (as in GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in printable)
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(rest)}


_BYTES = _byte_letters()
