"""Tokens as a reader sees them: spaces, line ends and parts of characters are visible, and every token has a width."""

from __future__ import annotations

import unicodedata

from .vocabulary import Vocabulary

SPACE, LINE, TAB = "␣", "↵", "⇥"
_SIGNS = {" ": SPACE, "\n": LINE, "\t": TAB}
_PART = "\ufffd"
"""What a tokenizer's text has in place of bytes that are a part of a character."""
_MARK = "▁"
"""What SentencePiece writes for a space, which its ``decode`` drops at the beginning of a text."""


def visible(token: int, vocabulary: Vocabulary) -> str:
    """A token as text in which nothing is invisible: ``␣Mary``, ``↵``; a part of a character is the tokenizer's own name for it.

    >>> import circuitry as ct
    >>> words = ct.load("bundled:mamba").vocabulary
    >>> [visible(token, words) for token in words.encode(" Mary and")]
    ['␣Mary', '␣and']
    >>> visible(7, Vocabulary.of(None, 9))
    '7'
    """
    text = vocabulary.decode(token)
    if vocabulary.tokenizer is None:
        return text
    piece = vocabulary.tokenizer.convert_ids_to_tokens(int(token)) or ""
    if _PART in text or not text:
        return f"⟨{escaped(piece)}⟩"
    lost = piece.startswith(_MARK) and not text.startswith(" ")
    return escaped(" " + text if lost else text)


def escaped(text: str) -> str:
    """Text with visible spaces, and with codes in place of characters that would be invisible or change what follows.

    >>> escaped("a b\\u200b")
    'a␣b\\\\u200b'
    """
    return "".join(_SIGNS.get(sign) or (_code(sign) if _hidden(sign) else sign) for sign in text)


def _hidden(sign: str) -> bool:
    return unicodedata.category(sign)[0] in "CZ"  # control and format characters, and spaces that look like one


def _code(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"


def width(text: str) -> int:
    """The columns that a text takes in a terminal.

    >>> width("abc"), width("東京"), width("e\\u0301")
    (3, 4, 1)
    """
    wide = sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)
    return len(text) + wide - sum(unicodedata.combining(sign) > 0 for sign in text)


def padded(text: str, columns: int) -> str:
    """A text filled up with spaces to so many columns.

    >>> padded("東", 4) + "|"
    '東  |'
    """
    return text + " " * max(0, columns - width(text))
