"""The running Python's own documentation as English text: its help topics and its standard library's docstrings.

Every installation has it, so no text need be downloaded or shipped. Sources are read as text; nothing is imported.
"""

from __future__ import annotations

import ast
import functools
import platform
import random
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import CircuitryError
from ...progress import bar

PASSAGE = 1000
"""A passage of a help topic ends with the paragraph in which it reaches this many characters. A topic as one document would be cut
to the first ``context`` tokens."""

_TESTS = {"test", "tests", "idle_test"}
_HOLDERS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Manual:
    """Passages of the help topics, and the distinct docstrings, in the order of the files that hold them."""

    passages: tuple[str, ...]
    docstrings: tuple[str, ...]

    def shuffled(self) -> list[str]:
        """All texts in a fixed shuffled order, since neighbours in a file are alike.

        >>> Manual(("a", "b"), ("c",)).shuffled() == Manual(("a", "b"), ("c",)).shuffled()
        True
        """
        texts = [*self.passages, *self.docstrings]
        random.Random(0).shuffle(texts)
        return texts

    def __str__(self) -> str:
        return (
            f"the documentation of Python {platform.python_version()}: {len(self.passages)} passages of its help topics "
            f"and {len(self.docstrings)} docstrings of its standard library"
        )


@functools.cache
def manual() -> Manual:
    """The documentation of the running Python. Raises CircuitryError if Python was installed without its sources."""
    library = Path(sysconfig.get_path("stdlib"))
    topics: list[str] = []
    docstrings: list[str] = []
    for file in bar(list(_modules(library)), "Python's documentation", unit="file", delay=1):
        tree = _parsed(file)
        docstrings += filter(None, map(_docstring, _holders(tree)))
        topics += _topics(tree) if file.parts[-2:] == ("pydoc_data", "topics.py") else ()
    if not docstrings:
        raise CircuitryError(
            "this Python's standard library is installed without its sources, so it has no text to offer; "
            "give texts: a folder, a file, an iterable of str or the name of a Hugging Face data set"
        )
    passages = [passage for topic in topics for passage in _passages(topic)]
    return Manual(tuple(dict.fromkeys(passages)), tuple(dict.fromkeys(docstrings)))


def _modules(library: Path) -> Iterator[Path]:
    """Sources of the standard library without its tests, sorted; other installed packages are left out."""
    for name in sorted(sys.stdlib_module_names):
        below = sorted((library / name).rglob("*.py"))
        yield from (file for file in below if not _TESTS & set(file.relative_to(library).parts))
        if (file := library / f"{name}.py").is_file():
            yield file


def _parsed(file: Path) -> ast.Module:
    """A module's syntax tree; an empty one if this Python cannot read it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and the like in the library are not the user's concern
        try:
            return ast.parse(file.read_bytes())
        except (SyntaxError, ValueError, OSError):
            return ast.Module([], [])


def _holders(node: ast.AST) -> Iterator[ast.AST]:
    """Everything that may have a docstring: the module, and its classes and functions at any depth."""
    if isinstance(node, _HOLDERS):
        yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _holders(child)


def _docstring(node: ast.AST) -> str | None:
    return ast.get_docstring(node) if isinstance(node, _HOLDERS) else None


def _topics(tree: ast.Module) -> list[str]:
    """The values of the dictionary that pydoc shows for ``help("while")``."""
    dictionary = next((s.value for s in tree.body if isinstance(s, ast.Assign) and isinstance(s.value, ast.Dict)), None)
    return list(ast.literal_eval(dictionary).values()) if dictionary is not None else []


def _passages(text: str) -> Iterator[str]:
    """Passages of whole paragraphs, each as many as reach ``PASSAGE`` characters."""
    passage = ""
    for paragraph in text.strip().split("\n\n"):
        passage = f"{passage}\n\n{paragraph}" if passage else paragraph
        if len(passage) >= PASSAGE:
            yield passage
            passage = ""
    if passage:
        yield passage
