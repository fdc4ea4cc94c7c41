"""What paths and their parts show in a notebook: the text, and what each part of it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ..html.output import code, facts, table

if TYPE_CHECKING:
    from .values import Path


def of_path(path: Path) -> Iterator[Markup]:
    """The text of a path, where it starts, and a row for each leg.

    >>> from circuitry.paths.parse import parse
    >>> ">mlp</td>" in "".join(of_path(parse("embed -> logits freezing mlp")))
    True
    """
    yield code(path)
    yield facts([("patched", _listed(path.sources)), ("open axes", ", ".join(path.axes))])
    rows = [
        [_listed(leg.targets), "all between the ends" if leg.directly else _listed(leg.frozen) or "nothing", _listed(leg.exempt)]
        for leg in path.legs
    ]
    columns = ["read", "frozen", "except"]
    yield table(columns, rows) if any(leg.exempt for leg in path.legs) else table(columns[:2], [row[:2] for row in rows])


def of_text(value: Any) -> Iterator[Markup]:
    """A node, a site, a position or an axis, as a path writes it.

    >>> from circuitry.paths.values import Node
    >>> print(*of_text(Node("mlp", (0,))))
    <p class="head"><code>mlp[0]</code></p>
    """
    yield code(value)


def _listed(values: tuple[Any, ...]) -> str:
    return ", ".join(map(str, values))
