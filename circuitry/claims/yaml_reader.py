"""A strict reader of YAML: every value has a reader, and what is unexpected is refused with its line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeAlias

import yaml

from ..errors import CircuitryError, suggest

Read: TypeAlias = Callable[["Entry"], Any]


class Entry:
    """A value in a YAML file, with its place. The methods read it as one kind of value, or raise CircuitryError with the line."""

    def __init__(self, node: yaml.Node, loader: yaml.SafeLoader, file: str) -> None:
        self._node, self._loader, self._file = node, loader, file

    @property
    def line(self) -> int:
        """Its line, from 1.

        >>> entry_of("a: 1", "f").line
        1
        """
        return int(self._node.start_mark.line) + 1

    def refuse(self, problem: str) -> NoReturn:
        """Raise CircuitryError for this value.

        >>> entry_of("a: 1", "claims.yaml").refuse("no")
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: claims.yaml, line 1: no
        """
        raise CircuitryError(f"{self._file}, line {self.line}: {problem}")

    def value(self) -> Any:
        """Plain data: a text, a number, a boolean, None, or lists and dictionaries of these.

        >>> entry_of("[1, B+1]", "f").value()
        [1, 'B+1']
        """
        return self._loader.construct_object(self._node, deep=True)

    def text(self) -> str:
        """A text that is not empty.

        >>> entry_of("3", "f").text()
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: f, line 1: expected a text, got 3
        """
        value = self.value()
        if not isinstance(value, str) or not value.strip():
            self.refuse(f"expected a text, got {value!r}")
        return " ".join(value.split())

    def number(self) -> float:
        """A finite number. Also ``1e-3``, which YAML reads as a text.

        >>> entry_of("1e-3", "f").number()
        0.001
        """
        value = self.value()
        try:
            number = float("nan") if isinstance(value, bool | None) else float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if not abs(number) < float("inf"):
            self.refuse(f"expected a number, got {value!r}")
        return number

    def whole(self, least: int = 0) -> int:
        """A whole number of at least ``least``.

        >>> entry_of("0", "f").whole(1)
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: f, line 1: expected a whole number of at least 1, got 0
        """
        value = self.value()
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            self.refuse(f"expected a whole number of at least {least}, got {value!r}")
        return value

    def among(self, *names: str) -> str:
        """One of these texts.

        >>> entry_of("top1", "f").among("top-1", "above foil")
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: f, line 1: expected 'top-1' or 'above foil', got 'top1'
        """
        value = self.value()
        if value not in names:
            self.refuse(f"expected {' or '.join(map(repr, names))}, got {value!r}")
        return str(value)

    def items(self) -> list[Entry] | None:
        """The entries of a list; None if it is another value.

        >>> [entry.value() for entry in entry_of("[1, 2]", "f").items()]
        [1, 2]
        """
        if not isinstance(self._node, yaml.SequenceNode):
            return None
        return [self._at(node) for node in self._node.value]

    def mapping(self, what: str) -> dict[str, tuple[Entry, Entry]]:
        """Key and value by the key's text. ``what`` names the mapping in messages, such as "a claim".

        >>> {key: value.value() for key, (_, value) in entry_of("{a: 1}", "f").mapping("a claim").items()}
        {'a': 1}
        """
        if not isinstance(self._node, yaml.MappingNode):
            self.refuse(f"expected {what} as keys with values, got {self.value()!r}")
        self._loader.flatten_mapping(self._node)
        entries: dict[str, tuple[Entry, Entry]] = {}
        for key_node, value_node in self._node.value:
            key = self._at(key_node)
            name = str(key.value())
            if name in entries:
                key.refuse(f"{what} has {name!r} twice; leave one out")
            entries[name] = (key, self._at(value_node))
        return entries

    def fields(self, what: str, readers: Mapping[str, Read]) -> dict[str, Any]:
        """The values of the keys that are there, each read by its reader. Any other key is refused.

        >>> entry_of("{at_leest: 1}", "f").fields("a claim", {"at_least": Entry.number})
        Traceback (most recent call last):
        circuitry.errors.CircuitryError: f, line 1: a claim has no key 'at_leest'; did you mean 'at_least'?
        """
        values = {}
        for name, (key, value) in self.mapping(what).items():
            if name not in readers:
                key.refuse(f"{what} has no key {name!r}; {suggest(name, readers)}")
            values[name] = readers[name](value)
        return values

    def _at(self, node: yaml.Node) -> Entry:
        return Entry(node, self._loader, self._file)


def entry_of(text: str, file: str) -> Entry:
    """The content of a YAML text; ``file`` is its name in messages. Raises CircuitryError if it is not YAML, or empty.

    >>> entry_of("a: [1", "claims.yaml")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: claims.yaml, line 1: not YAML: expected ',' or ']', but got '<stream end>'
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise CircuitryError(f"{file}, line {line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise CircuitryError(f"{file}: not YAML: {error}") from error
    if node is None:
        raise CircuitryError(f"{file} is empty; a claims file has the key 'claims'")
    return Entry(node, loader, file)
