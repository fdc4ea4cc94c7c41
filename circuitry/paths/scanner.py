"""The tokens of the path language, and the reading of a position: ``values`` needs both, and ``parse`` imports ``values``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from ..errors import PathError

WORDS = ("freezing", "except", "directly")
EXAMPLE = "for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"
_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<int>[0-9]+)|(?P<sign>->|[\[\](){}@,.+-]))")
_FOREIGN = {
    "*": "for every one, leave it open: {layer}",
    ">": "an arrow is written ->",
    "=": "an arrow is written ->",
    "→": "an arrow is written ->",
    ":": "for a range, leave it open: {layer}",
}
_MOST_DIGITS = 9

T = TypeVar("T")


@dataclass(frozen=True)
class Token:
    """``kind`` is name, int, sign or end; ``column`` counts from 0."""

    kind: str
    text: str
    column: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


class Scanner:
    """Reads a text from left to right. Every error has a caret and states the problem, most suggest a fix."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._tokens = self._scan()

    def _scan(self) -> list[Token]:
        tokens, column = [], 0
        while self._text[column:].strip():
            match = _TOKEN.match(self._text, column)
            if match is None or match.lastgroup is None:
                column += len(self._text[column:]) - len(self._text[column:].lstrip())
                sign = self._text[column]
                shown = repr(sign) if sign.isprintable() else f"the character U+{ord(sign):04X}"
                raise PathError(self._text, column, f"{shown} means nothing in a path", _FOREIGN.get(sign, EXAMPLE))
            group = match.lastgroup
            tokens.append(Token(group, match[group], match.start(group)))
            column = match.end()
        return [*tokens, Token("end", "", len(self._text.rstrip()))]

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _is(self, *texts: str) -> bool:
        return self._next.kind != "end" and self._next.text in texts

    def _take(self) -> Token:
        token = self._next
        self._at += 1
        return token

    def _skip(self, text: str) -> bool:
        matches = self._is(text)
        self._at += matches
        return matches

    def _fail(self, problem: str, hint: str = "", token: Token | None = None) -> NoReturn:
        raise PathError(self._text, (token or self._next).column, problem, hint)

    def whole(self, rule: Callable[[Any], T], refuse: Callable[[], NoReturn] | None = None) -> T:
        """Return what a rule reads, and refuse further text after it."""
        value = rule(self)
        if self._next.kind != "end":
            (refuse or self._refuse_more)()
        return value

    def _refuse_more(self) -> NoReturn:
        self._fail(f"expected the end, found {self._next}")

    def _name(self, wanted: str, hint: str = EXAMPLE) -> Token:
        token = self._next
        if token.kind != "name":
            self._fail(f"expected {wanted}, found {token}", hint)
        if token.text in WORDS:
            self._fail(f"expected {wanted}, found the word {token}", hint)
        return self._take()

    def _int(self) -> int:
        if self._next.kind != "int":
            self._fail(f"expected a whole number, found {self._next}", "for example: B+1")
        if len(self._next.text) > _MOST_DIGITS:
            self._fail(f"a number of {len(self._next.text)} digits", "no model is that large")
        return int(self._take().text)

    def _open_axis(self) -> str:
        self._take()
        name = self._name("the name of an open axis", "for example: {layer}")
        if not self._skip("}"):
            self._fail(f"expected '}}', found {self._next}", f"close it: {{{name.text}}}")
        return name.text

    def place(self) -> tuple[str, str | int, int]:
        """A position as its kind (name, int or axis), what it counts from, and its offset."""
        kind, base = self._base()
        start, offset = self._next, 0
        if self._is("+", "-"):
            sign = 1 if self._take().text == "+" else -1
            offset = sign * self._int()
        if not isinstance(base, int):
            return kind, base, offset
        if base + offset < 0:
            self._fail(f"position {base + offset} is before the first token", "positions count from 0", start)
        if base + offset >= 10**_MOST_DIGITS:
            self._fail(f"position {base + offset} is past the end of any prompt", "try a smaller number", start)
        return kind, base + offset, 0

    def _base(self) -> tuple[str, str | int]:
        if self._is("{"):
            return "axis", self._open_axis()
        if self._next.kind == "int":
            return "int", self._int()
        if self._is("-"):
            self._fail("positions count from 0 up", "for the last token, name it: END")
        return "name", self._name("a position such as B+1, 7 or {pos}").text
