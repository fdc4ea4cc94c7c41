"""Text to path: a recursive-descent parser whose every mistake has a caret, a sentence and a suggestion.

    path     = sites leg+
    leg      = "->" sites [ "directly" ] [ "freezing" nodes ] [ "except" nodes ]
    sites    = site | "(" site { "," site } ")"
    site     = node [ "@" position ]
    nodes    = node { "," node }
    node     = NAME [ "[" index { "," index } "]" ] [ "." NAME ]
    index    = INT | "{" NAME "}"
    position = ( NAME | INT | "{" NAME "}" ) [ ( "+" | "-" ) INT ]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from ..errors import CircuitryError, PathError
from .values import Axis, Index, Leg, Node, Path, Position, Site

GRAMMAR = "\n".join(line.strip() for line in (__doc__ or "").splitlines()[2:])
WORDS = ("freezing", "except", "directly")
_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<int>[0-9]+)|(?P<sign>->|[\[\](){}@,.+-]))")
_FOREIGN = {
    "*": "for every one, leave it open: {layer}",
    ">": "an arrow is written ->",
    "=": "an arrow is written ->",
    "→": "an arrow is written ->",
    ":": "for a range, leave it open: {layer}",
}
_EXAMPLE = "for example: ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"
_MOST_DIGITS = 9

T = TypeVar("T")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    column: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def parse(text: str) -> Path:
    """Read a path; ``parse(str(path)) == path`` for every path.

    Raises PathError (a CircuitryError) with the text, a caret under the column and a hint.

    >>> parse("ssm_state[{layer}] @ B+1 -> logits freezing ssm_state").axes
    ('layer',)
    """
    if not isinstance(text, str):
        raise CircuitryError(f"a path is text such as 'mlp[0] -> logits', not {type(text).__name__}")
    return _Parser(text).whole(_Parser.path)


def parse_node(text: str) -> Node:
    """Read one node.

    >>> parse_node("head[9,9].q").port
    'q'
    """
    return _Parser(text).whole(_Parser.node)


def parse_position(text: str) -> Position:
    """Read one position.

    >>> parse_position("B+1").offset
    1
    """
    return _Parser(text).whole(_Parser.position)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._tokens = self._scan()

    def _scan(self) -> list[_Token]:
        tokens, column = [], 0
        while self._text[column:].strip():
            match = _TOKEN.match(self._text, column)
            if match is None or match.lastgroup is None:
                column += len(self._text[column:]) - len(self._text[column:].lstrip())
                sign = self._text[column]
                shown = sign if sign.isprintable() else "this character"
                raise PathError(self._text, column, f"{shown!r} means nothing in a path", _FOREIGN.get(sign, _EXAMPLE))
            group = match.lastgroup
            tokens.append(_Token(group, match[group], match.start(group)))
            column = match.end()
        return [*tokens, _Token("end", "", len(self._text.rstrip()))]

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _is(self, *texts: str) -> bool:
        return self._next.kind != "end" and self._next.text in texts

    def _take(self) -> _Token:
        token = self._next
        self._at += 1
        return token

    def _skip(self, text: str) -> bool:
        found = self._is(text)
        self._at += found
        return found

    def _fail(self, problem: str, hint: str = "", token: _Token | None = None) -> NoReturn:
        raise PathError(self._text, (token or self._next).column, problem, hint)

    def whole(self, rule: Callable[[_Parser], T]) -> T:
        value = rule(self)
        if self._next.kind != "end":
            self._refuse_rest()
        return value

    def _refuse_rest(self) -> NoReturn:
        if self._is("freezing"):
            self._fail("'freezing' stands twice on one leg", "list the nodes once, with commas: freezing head, mlp")
        if self._is("directly"):
            self._fail("'directly' comes right after the target", "for example: head[0,1] -> head[1,2].k directly")
        if self._is("@"):
            self._fail("a node is frozen at all positions, so '@' does not belong here", "freeze the node without a position")
        self._fail(f"expected '->' or the end, found {self._next}", _EXAMPLE)

    def path(self) -> Path:
        if self._next.kind == "end":
            self._fail("an empty path", _EXAMPLE)
        sources, legs = self._sites(), []
        while self._skip("->"):
            legs.append(self._leg())
        if not legs:
            if self._is(*WORDS):
                self._fail(f"{self._next} comes after a target", _EXAMPLE)
            if self._next.kind == "end":
                self._fail("a path needs a target", "add one: -> logits")
            self._fail(f"expected '->' or '@', found {self._next}", _EXAMPLE)
        return Path(sources, tuple(legs))

    def _leg(self) -> Leg:
        targets, directly = self._sites(), self._skip("directly")
        frozen = self._nodes() if self._skip("freezing") else ()
        if self._is("except") and not (frozen or directly):
            self._fail("'except' spares nodes from 'freezing', and nothing is frozen here", "freezing head except head[9,9]")
        return Leg(targets, frozen, self._nodes() if self._skip("except") else (), directly)

    def _sites(self) -> tuple[Site, ...]:
        if not self._skip("("):
            return (self._site(),)
        return self._list(self._site, ")")

    def _list(self, rule: Callable[[], T], close: str) -> tuple[T, ...]:
        """Items separated by commas, up to the closing sign."""
        items = [rule()]
        while self._skip(","):
            items.append(rule())
        if not self._skip(close):
            self._fail(f"expected {close!r} or ',', found {self._next}", f"close it with {close!r}")
        return tuple(items)

    def _nodes(self) -> tuple[Node, ...]:
        nodes = [self.node()]
        while self._skip(","):
            nodes.append(self.node())
        return tuple(nodes)

    def _site(self) -> Site:
        node = self.node()
        return Site(node, self.position() if self._skip("@") else None)

    def node(self) -> Node:
        name = self._name("a node such as ssm_state or logits")
        indices = self._list(self._index, "]") if self._skip("[") else ()
        port = self._name(f"a port of {name.text!r}, such as .q") if self._skip(".") else None
        return Node(name.text, indices, port.text if port else None)

    def _name(self, wanted: str) -> _Token:
        token = self._next
        if token.kind != "name":
            hint = "heads are written head[9,9]" if token.kind == "int" else _EXAMPLE
            self._fail(f"expected {wanted}, found {token}", hint)
        if token.text in WORDS:
            self._fail(f"expected {wanted}, found the word {token}", _EXAMPLE)
        return self._take()

    def _index(self) -> Index:
        if self._is("{"):
            return self._axis()
        if self._is("-"):
            self._fail("indices count from 0 up", "for the last layer, name its number, or leave it open: {layer}")
        if self._next.kind == "name":
            self._fail(f"expected a number or an open axis, found {self._next}", f"to leave it open write {{{self._next.text}}}")
        if self._next.kind != "int":
            self._fail(f"expected a number or an open axis, found {self._next}", "for every one, leave it open: [{layer}]")
        return self._int()

    def _int(self) -> int:
        if self._next.kind != "int":
            self._fail(f"expected a whole number, found {self._next}", "for example: B+1")
        if len(self._next.text) > _MOST_DIGITS:
            self._fail(f"a number of {len(self._next.text)} digits", "no model is that large")
        return int(self._take().text)

    def _axis(self) -> Axis:
        self._take()
        name = self._name("the name of an open axis")
        if not self._skip("}"):
            self._fail(f"expected '}}', found {self._next}", f"close it: {{{name.text}}}")
        return Axis(name.text)

    def position(self) -> Position:
        base = self._base()
        start, offset = self._next, 0
        if self._is("+", "-"):
            sign = 1 if self._take().text == "+" else -1
            offset = sign * self._int()
        if not isinstance(base, int):
            return Position(base, offset)
        if base + offset < 0:
            self._fail(f"position {base + offset} is before the first token", "positions count from 0", start)
        return Position(base + offset)

    def _base(self) -> str | int | Axis:
        if self._is("{"):
            return self._axis()
        if self._next.kind == "int":
            return self._int()
        if self._is("-"):
            self._fail("positions count from 0 up", "for the last token, name it: END")
        return self._name("a position such as B+1, 7 or {pos}").text
