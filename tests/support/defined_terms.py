"""Which words a page shows, and which of them it defines: for the pointer and in a line. Shares no code with the glossary."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

TERMS = (
    "faithfulness", "completeness", "minimality", "complement", "random circuits", "random sets", "random nodes", "normalized effect", "normalized",
    "whole effect", "noising", "resample", "foil", "corrupted", "top-1 accuracy", "attribution", "exact", "Jaccard index", "name mover",
    "S suppressor", "induction head", "freezing",
)  # fmt: skip
"""Words of reports that a newcomer would not know."""
SAME = {"random sets": "random circuits", "normalized": "normalized effect", "exact": "exact effect"}
NO_POINTER = {"freezing", "corrupted", "exact"}
"""Words that may stand only in code, in a heading or in a name."""


class Page(HTMLParser):
    """``text`` that a reader sees, the words with a meaning for the ``pointer``, and the ``lines`` of definitions, in their order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.pointer, self.lines = "", dict[str, str](), list[tuple[str, str]]()
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "link", "input", "br", "img", "path"):
            self._open.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        if any(tag in ("script", "style", "svg") for tag, _ in self._open) or not data.strip():
            return
        self.text += data + " "
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "abbr":
            self.pointer[data] = attributes["title"]
        if any(attributes.get("class") == "terms" for _, attributes in self._open):
            if tag == "dt":
                self.lines.append((data, ""))
            elif tag == "dd":
                self.lines[-1] = (self.lines[-1][0], data)


def defined(html: str) -> list[str]:
    """The terms that a page shows; fails if one of them has no meaning for the pointer or no line, or more than one line."""
    page = Page(html)
    shown = [term for term in TERMS if re.search(rf"(?<![\w-]){term}(?![\w-])", page.text)]
    names = [name for name, _ in page.lines]
    for term in shown:
        name = SAME.get(term, term)
        assert names.count(name) == 1, f"{term!r} has {names.count(name)} lines"
        meaning = dict(page.lines)[name]
        assert len(meaning) > 20 and term.casefold() not in meaning.casefold(), (term, meaning)
        assert meaning in page.pointer.values() or term in NO_POINTER, f"nothing for the pointer at {term!r}"
    assert len(names) == len(set(names))
    return shown
