"""The parts of a path in reading order, each with its column, so that an error can point at its part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import PathError
from ..paths.values import Node, Path, Site

Kind = Literal["source", "target", "frozen", "exempt"]


@dataclass(frozen=True)
class Mention:
    """One node of a path as written: its kind, its leg and its column in the text."""

    kind: Kind
    leg: int
    node: Node
    site: Site | None
    text: str
    column: int
    number: int = 0
    """Which of its kind it is on its leg, from 0."""

    def error(self, problem: str, hint: str = "", at_position: bool = False) -> PathError:
        """A PathError whose caret is under this part, or under its position."""
        column = self.column
        if at_position and self.site is not None and self.site.at is not None:
            column += len(f"{self.site.node} @ ")
        return PathError(self.text, column, problem, hint)


def mentions(path: Path) -> list[Mention]:
    """All parts of a path in the order of its text.

    >>> from circuitry.paths import parse
    >>> [(p.kind, p.column) for p in mentions(parse("mlp[0] -> logits freezing head"))]
    [('source', 0), ('target', 10), ('frozen', 26)]
    """
    text, cursor, parts = str(path), 0, []
    seen: Counter[tuple[Kind, int]] = Counter()
    for kind, leg, value in _in_order(path):
        # A part must not be found inside a longer word: ``h`` is also the beginning of ``head``.
        match = re.compile(rf"(?<!\w){re.escape(str(value))}(?!\w)").search(text, cursor)
        column = match.start() if match else cursor
        cursor = match.end() if match else cursor
        site = value if isinstance(value, Site) else None
        parts.append(Mention(kind, leg, site.node if site else value, site, text, column, seen[kind, leg]))  # type: ignore[arg-type]
        seen[kind, leg] += 1
    return parts


def _in_order(path: Path) -> Iterator[tuple[Kind, int, Site | Node]]:
    for site in path.sources:
        yield "source", 0, site
    for number, leg in enumerate(path.legs):
        for site in leg.targets:
            yield "target", number, site
        for node in leg.frozen:
            yield "frozen", number, node
        for node in leg.exempt:
            yield "exempt", number, node
