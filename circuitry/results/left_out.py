"""The cells that a table leaves out, since no effect is possible there or since they repeat another cell: ``provenance["skipped"]``.

An entry is "{axis: value, ...}: reason".
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .writing import count


def split(entry: str) -> tuple[dict[str, Any], str]:
    """The axis values and the reason of an entry.

    >>> split("{'layer': 3}: twice")
    ({'layer': 3}, 'twice')
    """
    cell, _, reason = entry.partition("}: ")
    try:
        values = ast.literal_eval(cell + "}")
    except (SyntaxError, ValueError):
        return {}, entry
    return (values, reason) if isinstance(values, dict) else ({}, entry)


def stacked(entries: Mapping[Any, Iterable[str]], axis: str) -> list[str]:
    """The entries of several tables that become one with a new first axis.

    >>> stacked({8: ["{'layer': 3}: twice"], 16: []}, "distance")
    ["{'distance': 8, 'layer': 3}: twice"]
    """
    pairs = ((value, *split(entry)) for value, those in entries.items() for entry in those)
    return [f"{ {axis: value, **cell} }: {reason}" for value, cell, reason in pairs]


def selected(entries: Iterable[str], axis: str, value: Any) -> list[str]:
    """The entries of the cells with one value of an axis, without that axis.

    >>> selected(["{'distance': 8, 'layer': 3}: twice", "{'distance': 16, 'layer': 3}: twice"], "distance", 8)
    ["{'layer': 3}: twice"]
    """
    pairs = [split(entry) for entry in entries]
    kept = ((cell, reason) for cell, reason in pairs if cell.get(axis, value) == value)
    return [f"{ {name: each for name, each in cell.items() if name != axis} }: {reason}" for cell, reason in kept]


def said(entries: Sequence[str]) -> list[str]:
    """How many cells are left out, with the first and its reason, as a note of a caption; nothing if none is.

    >>> said(["{'layer': 3, 'position': 'A'}: nothing that differs reaches it: its value is the same in both"])
    ['1 cell left out, layer 3, position A: nothing that differs reaches it']
    >>> said(["{'position': 'B+1'}: B+1 is B", "{'position': 'B+2'}: B+2 is B"])
    ['2 cells left out, such as position B+1: B+1 is B']
    """
    if not entries:
        return []
    cell, reason = split(entries[0])
    place = ", ".join(f"{axis} {value}" for axis, value in cell.items())
    such = "such as " if len(entries) > 1 else ""
    return [f"{count(len(entries), 'cell')} left out, {such}{': '.join(filter(None, [place, reason.partition(': ')[0]]))}"]
