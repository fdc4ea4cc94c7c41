"""Text to path: a recursive-descent parser. Every error has a caret, states the problem and suggests a fix.

path     = sites leg+
leg      = "->" sites [ "directly" ] [ "freezing" nodes ] [ "except" nodes ]
sites    = site | "(" site { "," site } ")"
site     = node [ "@" position ]
nodes    = node { "," node }
node     = NAME [ "[" index { "," index } "]" ] [ "." NAME ] [ "." term ]
term     = "latent" [ "[" index "]" ] | "error"
index    = INT | "{" NAME "}"
position = ( NAME | INT | "{" NAME "}" ) [ ( "+" | "-" ) INT ]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn, TypeVar

from ..errors import CircuitryError
from .positions import Axis, Index, Position
from .scanner import EXAMPLE, WORDS, Scanner
from .terms import LATENT, TERMS, Term
from .values import Leg, Node, Path, Site, placed

GRAMMAR = "\n".join(line.strip() for line in (__doc__ or "").splitlines()[2:])

T = TypeVar("T")


def parse(text: str) -> Path:
    """Read a path; ``parse(str(path)) == path`` for every path.

    Raises PathError (a CircuitryError) with the text, a caret under the column and a hint.

    >>> parse("ssm_state[{layer}] @ B+1 -> logits freezing ssm_state").axes
    ('layer',)
    """
    if not isinstance(text, str):
        raise CircuitryError(f"expected a path as text, such as 'mlp[0] -> logits', got {type(text).__name__}")
    parser = _Parser(text)
    return parser.whole(_Parser.path, parser.refuse_rest)


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


class _Parser(Scanner):
    _frozen_last = False

    def refuse_rest(self) -> NoReturn:
        """Raise PathError for what follows the last leg of a path."""
        for word in ("freezing", "except"):
            if self._is(word):
                self._fail(f"{word!r} comes twice on one leg", f"list the nodes once, with commas: {word} head, mlp")
        if self._is("directly"):
            self._fail("'directly' comes right after the target, once", "for example: head[0,1] -> head[1,2].k directly")
        if self._is("@") and self._frozen_last:
            self._fail("a node is frozen at all positions, so '@' does not belong here", "freeze the node without a position")
        self._fail(f"expected '->' or the end, found {self._next}", self._after_site())

    @property
    def _after_set(self) -> bool:
        return self._tokens[self._at - 1].text == ")"

    def _after_site(self) -> str:
        """A hint for a site that is followed by something that cannot follow it."""
        if self._is(","):
            return "a set of nodes is written in parentheses: (head[9,6], head[9,9]) -> logits"
        if self._is("@") and self._after_set:
            return "each node of a set has its own position: (head[9,6] @ END, head[9,9] @ END)"
        if self._is("[") and self._at > 1 and self._tokens[self._at - 2].text == ".":
            return "after a dot, only 'latent' has an index: resid[2].latent[17]"
        return "indices share one pair of brackets: head[9,9]" if self._is("[") else EXAMPLE

    def path(self) -> Path:
        if self._next.kind == "end":
            self._fail("an empty path", EXAMPLE)
        sources, legs = self._sites(), []
        while self._skip("->"):
            legs.append(self._leg())
        if not legs:
            if self._is(*WORDS):
                self._fail(f"{self._next} comes after a target", EXAMPLE)
            if self._next.kind == "end":
                self._fail("a path needs a target", "add one: -> logits")
            wanted = "'->'" if sources[-1].at or self._after_set else "'->' or '@'"
            self._fail(f"expected {wanted}, found {self._next}", self._after_site())
        return Path(sources, tuple(legs))

    def _leg(self) -> Leg:
        targets, directly = self._sites(), self._skip("directly")
        frozen = self._nodes() if self._skip("freezing") else ()
        if self._is("except") and not (frozen or directly):
            self._fail(
                "'except' exempts nodes from 'freezing', and nothing is frozen here",
                "for example: freezing head except head[9,9]",
            )
        exempt = self._nodes() if self._skip("except") else ()
        self._frozen_last = bool(frozen or exempt)
        return Leg(targets, frozen, exempt, directly)

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
        hint = "heads are written head[9,9]" if self._next.kind == "int" else EXAMPLE
        name = self._name("a node such as ssm_state or logits", hint)
        indices = self._list(self._index, "]") if self._skip("[") else ()
        port, term = None, None
        if self._skip("."):
            part = self._name(f"a port of {name.text!r}", "for example: head[9,9].q, or resid[2].latent[17]").text
            port = None if part in TERMS else part
            term = part if part in TERMS else self._term(f"{name.text}.{part}") if self._skip(".") else None
        index = self._list(self._index, "]") if term == LATENT and self._skip("[") else ()
        if len(index) > 1:
            self._fail("'latent' has one index", "a set is written (resid[2].latent[5], resid[2].latent[9])")
        return Node(name.text, indices, port, Term(term, *index) if term else None)

    def _term(self, of: str) -> str:
        name = self._name(f"a term of {of!r}", "for example: head[9,9].q.latent[17], or .error")
        if name.text not in TERMS:
            self._fail(f"{of!r} has no {name}", "after a port comes latent[17], latent or error", name)
        return name.text

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

    def _axis(self) -> Axis:
        return Axis(self._open_axis())

    def position(self) -> Position:
        return placed(*self.place())
