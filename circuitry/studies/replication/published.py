"""The paper's published numbers, and the rule by which a measured number passes. ``published.toml`` has both."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CircuitryError, suggest


@dataclass(frozen=True)
class Rule:
    """How far a measured number may be from the published one: the larger of ``absolute`` and ``relative`` times the published one.

    >>> Rule("cell of a table", 1.0, 0.25).allowed(-8.0)
    2.0
    """

    name: str
    absolute: float
    relative: float

    def allowed(self, published: float) -> float:
        """The greatest distance from a published number that passes."""
        return max(self.absolute, self.relative * abs(published))

    def text(self) -> str:
        """The rule, for a terminal.

        >>> Rule("mean", 0.03, 0.0).text()
        'within 0.03'
        """
        return f"within {self.absolute:g}" + (f", or within {self.relative:.0%} of the published one" if self.relative else "")


@dataclass(frozen=True)
class Number:
    """A published number: what it is, its place in the paper, and its rule.

    ``bound``: the paper says "more than". ``comparison`` and ``measure`` name a number of the experiment on features; ``table``,
    ``distance`` and ``at`` (a layer or position) a cell of Tables 1 to 4.
    """

    name: str
    where: str
    value: float
    rule: Rule
    bound: bool = False
    comparison: str = ""
    measure: str = ""
    table: str = ""
    distance: int = 0
    at: int | str = ""

    def passes(self, measured: float) -> bool:
        """Whether a measured number passes; NaN does not.

        >>> share = Number("share", "page 6", 0.3, Rule("share", 0.05, 0.0), bound=True)
        >>> [share.passes(measured) for measured in (0.24, 0.26, 0.9)]
        [False, True, True]
        """
        short = self.value - measured
        return (short if self.bound else abs(short)) <= self.rule.allowed(self.value) + 1e-9


@dataclass(frozen=True)
class Table:
    """One of Tables 1 to 4: the path that was patched, the corruption, and what its columns are.

    ``LAYER`` in the path stands for the layer with the key state, 17 in the paper's model.
    """

    name: str
    path: str
    corruption: str
    axis: str
    values: tuple[int | str, ...]


@dataclass(frozen=True)
class Published:
    """All numbers in the order of the paper, the tables, and the paper's models and settings."""

    numbers: tuple[Number, ...]
    tables: Mapping[str, Table]
    paper: Mapping[str, Any]

    def find(self, name: str) -> Number:
        """A number by its name. Raises CircuitryError for an unknown one."""
        by_name = {number.name: number for number in self.numbers}
        if name not in by_name:
            raise CircuitryError(f"the paper has no number {name!r}; {suggest(name, by_name)}")
        return by_name[name]


@functools.cache
def published() -> Published:
    """The paper's numbers.

    >>> published().find("mean MPPC, another architecture").value
    0.74
    >>> published().find("Table 1, distance 8, layer 17").value
    -9.65
    """
    data = tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))
    rules = {name: Rule(name, **rule) for name, rule in data["rules"].items()}
    numbers = [Number(**{**entry, "rule": rules[entry["rule"]]}) for entry in data["number"]]
    tables = {}
    for entry in data["table"]:
        rows, where = entry.pop("rows"), entry.pop("where")
        table = tables[entry["name"]] = Table(**{**entry, "values": tuple(entry["values"])})
        for distance, row in rows.items():
            for at, value in zip(table.values, row, strict=True):
                name = f"{table.name}, distance {distance}, {table.axis} {at}"
                cell: dict[str, Any] = {"table": table.name, "distance": int(distance), "at": at}
                numbers.append(Number(name, where, value, rules["cell of a table"], **cell))
    return Published(tuple(numbers), tables, data["paper"])
