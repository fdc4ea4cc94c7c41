"""Several paths of one table, by label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CircuitryError
from ..html.shown import Shown
from .values import Path


@dataclass(frozen=True)
class Labelled(Shown):
    """Paths by label; the labels are the first axis of their table, called ``axis``."""

    axis: str
    paths: Mapping[Any, Path | str]


def labelled(axis: str, paths: Mapping[Any, Path | str]) -> Labelled:
    """The paths of one table, with a name for the axis of their labels. A plain mapping of paths has the axis ``path``.

    Raises CircuitryError for anything but a mapping of paths by label.

    >>> labelled("port", {port: f"head[1,0].{port} -> logits" for port in "qk"}).paths["k"]
    'head[1,0].k -> logits'
    """
    if not isinstance(axis, str) or not isinstance(paths, Mapping):
        raise CircuitryError(
            f"expected the name of an axis and paths by label, such as ct.labelled('port', {{'q': ..., 'k': ...}}), got {axis!r}, {paths!r}"
        )
    return Labelled(axis, paths)
