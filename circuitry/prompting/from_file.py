"""A task from a table of prompts: every row is one example, and the model's tokenizer reads its texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator

from ..errors import TaskError
from .definition import TaskDefinition
from .example import Example, stack
from .prompts import Prompts
from .rows import PromptTable, Row, read_table

CHANGED = "CHANGED"
"""The position of a table without columns for positions: the last token at which corrupted differs from clean."""


def definition_from_file(path: Path) -> TaskDefinition:
    """The task of a .csv or .jsonl file. Raises TaskError with the line of the error.

    Columns: ``clean`` and ``corrupted``, with equally many tokens; ``answer`` and ``foil``, each one token that follows clean
    exactly as it is written (usually with a space in front); and for every position a column whose name is in capitals. Its cell
    is a piece of clean, and the last token of this piece is the position; ``the#2`` is the second "the". END is the last token of
    a prompt. A table without positions has CHANGED, the last token at which the two prompts differ.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "capitals.csv"
    >>> _ = path.write_text("clean,corrupted,answer,foil\\nFrance is,Japan is, Paris, Tokyo\\n")
    >>> definition_from_file(path).positions
    ('CHANGED', 'END')
    """
    table = read_table(path)
    positions = (*(table.positions or (CHANGED,)), "END")
    digest = hashlib.sha256(repr([dict(row.text) for row in table.rows]).encode()).hexdigest()[:8]
    return TaskDefinition(
        name=table.name,
        description=f"{len(table.rows)} prompts from {table.name}",
        make=partial(_make, table),
        positions=positions,
        sweep=positions,
        options={"begin": "auto"},
        copied=False,
        examples=len(table.rows),
        source=digest,
    )


def _make(table: PromptTable, vocabulary: Any, rng: Generator, *, examples: int, begin: str) -> Prompts:
    """All rows in their order, or a random choice of ``examples``, which contains every smaller choice with the same seed."""
    if vocabulary.tokenizer is None:
        raise TaskError(f"{table.name} holds text, and the model was loaded without a tokenizer; give circuitry.load a tokenizer")
    if examples > len(table.rows):
        raise TaskError(f"examples must be at most {len(table.rows)}, the rows of {table.name}, got {examples}")
    chosen = sorted(rng.permutation(len(table.rows))[:examples])
    rows = [_Reader(table, table.rows[k], vocabulary).example() for k in chosen]
    prompts = stack(rows, None, vocabulary, begin)
    return replace(prompts, changed=_changed(prompts))


def _changed(prompts: Prompts) -> tuple[str, ...] | None:
    """The named positions at which prompts differ; None if they differ anywhere else."""
    differs, rows = prompts.clean != prompts.corrupted, np.arange(len(prompts))
    named = np.zeros(differs.shape, bool)
    names = tuple(name for name, at in prompts.where.items() if differs[rows, at].any())
    for name in names:
        named[rows, prompts.where[name]] = True
    return names if not (differs & ~named).any() else None


class _Reader:
    """Reads one row as tokens of the model."""

    def __init__(self, table: PromptTable, row: Row, vocabulary: Any) -> None:
        self.table, self.row, self.vocabulary = table, row, vocabulary
        self.clean, self.corrupted = (vocabulary.encode(row.text[side]) for side in ("clean", "corrupted"))

    def example(self) -> Example:
        """The row as token ids. Raises TaskError if these do not fit together."""
        last = self._last_changed()
        answer, foil = self._one_token("answer"), self._one_token("foil")
        if answer == foil:
            raise self._problem("foil", f"the same token as the answer for this model, {self.vocabulary.decode(foil)!r}")
        where = {name: self._position(name) for name in self.table.positions} or {CHANGED: last}
        return Example(self.clean, self.corrupted, answer, foil, where)

    def _last_changed(self) -> int:
        if len(self.clean) != len(self.corrupted):
            shown = f"{self._shown(self.corrupted)} and {self._shown(self.clean)}"
            message = f"{len(self.corrupted)} tokens, and clean has {len(self.clean)}; the two must be equally long ({shown})"
            raise self._problem("corrupted", message)
        differs = [at for at, pair in enumerate(zip(self.clean, self.corrupted, strict=True)) if pair[0] != pair[1]]
        if not differs:
            raise self._problem("corrupted", "the same tokens as clean for this model")
        return differs[-1]

    def _shown(self, ids: Sequence[int]) -> str:
        return "|".join(self.vocabulary.decode(token) for token in ids)

    def _one_token(self, column: str) -> int:
        """The token of a column's text, which must be one token after clean."""
        text, prompt = self.row.text[column], self.row.text["clean"]
        token, spaced = (self._next(prompt, following) for following in (text, f" {text}"))
        if token is not None and spaced is not None and _glued(prompt, text):
            raise self._problem(
                column, f"{text!r} is read as {prompt[-12:] + text!r}; write {' ' + text!r} if a space comes first"
            )
        if token is None:
            ids = self.vocabulary.encode(prompt + text)
            tail = self._shown(ids[max(0, len(self.clean) - 1) :])
            problem = f"{text!r} after {prompt[-12:]!r} is not one token of this model: read as {tail!r}"
            raise self._problem(column, problem + _hint(prompt, text, spaced is not None))
        return token

    def _next(self, prompt: str, text: str) -> int | None:
        """The token of ``text`` after the prompt, or None if it is not one token there."""
        ids = self.vocabulary.encode(prompt + text)
        special = set(self.vocabulary.tokenizer.all_special_ids)  # such as the token for unknown words
        return ids[-1] if ids[:-1] == self.clean and ids[-1] not in special else None

    def _position(self, column: str) -> int:
        """The index of the last token of the column's piece of clean."""
        span, text = self.row.text[column], self.row.text["clean"]
        begin = self._start(column, span)
        stop = begin + len(span if text.startswith(span, begin) else span.rpartition("#")[0])
        # Many tokenizers put the space into the token of the word after it, so the piece may begin one space earlier.
        before = text[:begin].removesuffix(" ") if not text[begin].isspace() else text[:begin]
        cut = self.vocabulary.encode(text[:stop])
        if not cut or any(self.clean[: len(ids)] != ids for ids in (cut, self.vocabulary.encode(before))):
            raise self._problem(column, f"{span!r} does not begin and end with a token of this model: {self._shown(self.clean)}")
        return len(cut) - 1

    def _start(self, column: str, span: str) -> int:
        """The character of clean at which the piece begins: its only occurrence, or the one with the number after ``#``."""
        text = self.row.text["clean"]
        starts = [at for at in range(len(text)) if text.startswith(span, at)]
        if len(starts) == 1:
            return starts[0]
        if starts:
            raise self._problem(column, f"{span!r} occurs {len(starts)} times in clean; write {span + '#2'!r} for the second one")
        piece, mark, number = span.rpartition("#")
        starts = [at for at in range(len(text)) if piece and text.startswith(piece, at)]
        if not (mark and number.isdigit() and starts):
            raise self._problem(column, f"{span!r} does not occur in clean, {text!r}")
        if not 1 <= int(number) <= len(starts):
            raise self._problem(
                column, f"{piece!r} occurs {len(starts)} times in clean; expected a number from 1 to {len(starts)}, got {number}"
            )
        return starts[int(number) - 1]

    def _problem(self, column: str, message: str) -> TaskError:
        return self.table.problem(self.row, column, message)


def _hint(prompt: str, text: str, spaced: bool) -> str:
    if prompt[-1].isspace():
        return f"; clean ends with a space: remove it, and write {' ' + text!r}"
    return f"; with a space in front, {' ' + text!r}, it is one" if spaced else ""


def _glued(prompt: str, text: str) -> bool:
    """Whether the text would continue the last word of the prompt: a letter directly after a letter."""
    return prompt[-1].isalpha() and text[0].isalpha()
