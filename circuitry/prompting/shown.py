"""Prompts as a reader sees them: tokens in boxes, named positions, what differs, and what the model answers. Imports no torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import CircuitryError, expected, whole
from .prompts import Prompts
from .visible import padded, visible, width
from .vocabulary import Vocabulary

LONG, AROUND = 40, 2
"""A longer prompt is shown without the stretches that have neither a position nor a difference; so many tokens beside these stay."""
_UNKNOWN = 1000
"""Tokens of the vocabulary that stands for a model's, if there is neither a model nor a tokenizer."""


class Answering(Protocol):
    """A model that can be asked what comes next."""

    name: str

    @property
    def vocabulary(self) -> Vocabulary:
        """Its tokens."""
        ...

    def next_logits(self, ids: NDArray[np.int64]) -> NDArray[np.float64]:
        """The logits [row, vocabulary] after the last token of ids [row, position]."""
        ...


@dataclass(frozen=True)
class Token:
    """One token of a prompt: its number, its text, the positions that it has, and the corrupted prompt's token if that differs."""

    number: int
    text: str
    positions: tuple[str, ...]
    corrupted: str | None


@dataclass(frozen=True)
class Gap:
    """Tokens that are not shown."""

    count: int


@dataclass(frozen=True)
class Answer:
    """The most probable next token after a prompt, with its probability, and the probabilities of answer and foil."""

    text: str
    probability: float
    of_answer: float
    of_foil: float
    right: bool


@dataclass(frozen=True)
class Example:
    """One example: its tokens, the expected answer and the foil, and what the model answers to both prompts (None without one)."""

    number: int
    length: int
    tokens: tuple[Token | Gap, ...]
    answer: str
    foil: str
    clean: Answer | None
    corrupted: Answer | None


@dataclass(frozen=True)
class ShownPrompts:
    """Some examples of a task: text in a terminal, HTML in a notebook. Made by ``Task.show``.

    >>> import circuitry as ct
    >>> shown = ct.task("induction", distance=4, prefix=2).show(examples=1)
    >>> shown.examples[0].tokens[3]
    Token(number=3, text='509', positions=('B',), corrupted='845')
    """

    task: str
    model: str
    examples: tuple[Example, ...]

    def __str__(self) -> str:
        columns = shutil.get_terminal_size((100, 24)).columns
        head = f"{self.task}{f'; {self.model}' if self.model else ''}"
        return "\n\n".join([head, *(_text(example, columns) for example in self.examples)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return _template().render(shown=self, percent=_percent)  # type: ignore[no-any-return]


def show(task: str, prompts: Prompts, vocabulary: Vocabulary, model: Answering | None) -> ShownPrompts:
    """All examples of some prompts.

    >>> ids = np.array([[5, 6, 5]])
    >>> prompts = Prompts(ids, np.array([[5, 7, 5]]), ids[:, 1], ids[:, 0], {"B": np.array([1]), "END": np.array([2])}, ("B",))
    >>> print(show("a task", prompts, Vocabulary.of(None, 9), None))
    a task
    <BLANKLINE>
    example 0 (3 tokens)
      position     B END
      number     0 1 2
      clean     |5|6|5  |
      corrupted |.|7|.  |
      answer    6, not 5
    """
    examples = tuple(_example(prompts, number, vocabulary, model) for number in range(len(prompts)))
    return ShownPrompts(task, "" if model is None else model.name, examples)


def source_of(model: Any) -> tuple[Vocabulary, Answering | None]:
    """The vocabulary, and the model if there is one, of a model, a vocabulary, a tokenizer or None.

    Raises CircuitryError for anything else.

    >>> source_of(None)[0].tokenizer is None
    True
    """
    if model is None:
        return Vocabulary.of(None, _UNKNOWN), None
    if isinstance(model, Vocabulary):
        return model, None
    if hasattr(model, "next_logits"):
        return model.vocabulary, model
    if hasattr(model, "get_vocab"):
        return Vocabulary.of(model, len(model.get_vocab())), None
    hint = f"load it first: ct.load({model!r})" if isinstance(model, str) else "make one with ct.load"
    raise CircuitryError(expected("a model, a vocabulary, a tokenizer or None", model, hint))


def count_of(examples: int, most: int) -> int:
    """How many examples are shown: at most those that the task has.

    >>> count_of(3, 2)
    2
    """
    return min(max(1, whole("examples", examples)), most)


def _example(prompts: Prompts, number: int, vocabulary: Vocabulary, model: Answering | None) -> Example:
    stop, end = int(prompts.stops[number]), int(prompts.where["END"][number])
    clean, corrupted = prompts.clean[number], prompts.corrupted[number]
    answer, foil = int(prompts.answer[number]), int(prompts.foil[number])
    at: dict[int, list[str]] = {}
    for name, places in prompts.where.items():
        at.setdefault(int(places[number]), []).append(name)

    def token(place: int) -> Token:
        other = None if clean[place] == corrupted[place] else visible(int(corrupted[place]), vocabulary)
        return Token(place, visible(int(clean[place]), vocabulary), tuple(at.get(place, ())), other)

    def answered(ids: NDArray[np.int64]) -> Answer | None:
        return None if model is None else _answer(model.next_logits(ids[None, : end + 1])[0], answer, foil, vocabulary)

    marked = {*at, *np.flatnonzero(clean[:stop] != corrupted[:stop]).tolist()}
    tokens = tuple(part if isinstance(part, Gap) else token(part) for part in _parts(stop, marked))
    texts = (visible(answer, vocabulary), visible(foil, vocabulary))
    return Example(number, stop, tokens, *texts, answered(clean), answered(corrupted))


def _parts(length: int, marked: set[int]) -> Iterator[int | Gap]:
    """The tokens to show, with a gap for each stretch that is left out: one that is worth leaving out, in a long prompt."""
    near = {place + step for place in marked for step in range(-AROUND, AROUND + 1)} | {0}
    left_out = 0
    for place in range(length + 1):
        hidden = length > LONG and place < length and place not in near
        if not hidden and left_out:
            yield Gap(left_out)
        left_out = left_out + 1 if hidden else 0
        if not hidden and place < length:
            yield place


def _answer(logits: NDArray[np.float64], answer: int, foil: int, vocabulary: Vocabulary) -> Answer:
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    top = int(shares.argmax())
    return Answer(visible(top, vocabulary), float(shares[top]), float(shares[answer]), float(shares[foil]), top == answer)


def _percent(share: float) -> str:
    return f"{share:.0%}" if 0.01 <= share <= 0.99 or share in (0, 1) else f"{share:.1%}" if share > 0.0005 else "<0.1%"


def _text(example: Example, columns: int) -> str:
    lines = [f"example {example.number} ({example.length} tokens)"]
    for cells in _wrapped([_cell(token) for token in example.tokens], columns - len(_LABELS[0]) - 1):
        lines += [f"{label}{row}".rstrip() for label, row in zip(_LABELS, _rows(cells), strict=True)]
    lines.append(f"  answer    {example.answer}, not {example.foil}")
    for side, answer in (("clean", example.clean), ("corrupted", example.corrupted)):
        if answer is not None:
            others = f"{example.answer} {_percent(answer.of_answer)}, {example.foil} {_percent(answer.of_foil)}"
            verdict = {"clean": " right" if answer.right else " wrong"}.get(side, "")
            lines.append(f"  on {side:<10}the model says {answer.text} ({_percent(answer.probability)}){verdict}; {others}")
    return "\n".join(lines)


_LABELS = ("  position  ", "  number    ", "  clean     ", "  corrupted ")


def _cell(token: Token | Gap) -> tuple[str, str, str, str]:
    """Position, number, clean and corrupted token of one column."""
    if isinstance(token, Gap):
        return "", "", f"... {token.count} tokens ...", ""
    return ",".join(token.positions), str(token.number), token.text, token.corrupted or "."


def _wrapped(cells: Sequence[tuple[str, ...]], columns: int) -> Iterator[list[tuple[str, ...]]]:
    line, used = list[tuple[str, ...]](), 1
    for cell in cells:
        size = max(map(width, cell)) + 1
        if line and used + size > columns:
            yield line
            line, used = [], 1
        line.append(cell)
        used += size
    if line:
        yield line


def _rows(cells: Sequence[tuple[str, ...]]) -> Iterator[str]:
    sizes = [max(map(width, cell)) for cell in cells]
    for row, edge in enumerate("  ||"):
        yield edge + edge.join(padded(cell[row], size) for cell, size in zip(cells, sizes, strict=True)) + edge


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader

    return Environment(loader=PackageLoader(__package__), autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(
        "prompts.html"
    )
