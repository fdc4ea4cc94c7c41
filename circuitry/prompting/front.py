"""The option ``begin`` of tasks with text: which tokens come before the text."""

from __future__ import annotations

from typing import Any

from ..errors import TaskError, expected

BEGINS = ("auto", "yes", "no")


def front(vocabulary: Any, begin: str) -> list[int]:
    """The tokens before a task's text, usually one or none: ``vocabulary.front``, or none with "no"; "yes" requires one.

    Raises TaskError if "yes" is asked for and the tokenizer has no such token.

    >>> import circuitry as ct
    >>> front(ct.load("bundled:mamba").vocabulary, "auto")
    [0]
    """
    if begin not in BEGINS:
        raise TaskError(expected("auto, yes or no as begin", begin))
    tokens = [] if begin == "no" else list(vocabulary.front)
    if begin == "yes" and not tokens:
        raise TaskError("the model's tokenizer has no token that begins a text; use begin='no'")
    return tokens
