"""Paths to JSON and back, for caches, manifests and other programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from ..errors import CircuitryError
from .parse import parse
from .positions import Axis, Position
from .terms import Term
from .values import Leg, Node, Path, Site


def to_data(path: Path) -> dict[str, Any]:
    """The path as plain data, as JSON holds it; an open axis is ``{"name": ...}``.

    >>> from circuitry.paths import parse
    >>> to_data(parse("embed -> logits"))["sources"][0]["node"]["family"]
    'embed'
    """
    data: dict[str, Any] = json.loads(json.dumps(asdict(path)), object_hook=_without_term)
    return data


def _without_term(data: dict[str, Any]) -> dict[str, Any]:
    """A node without a term is written as it was before there were terms."""
    return {key: value for key, value in data.items() if key != "term" or value is not None}


def to_json(path: Path) -> str:
    """The path as JSON text; an open axis is ``{"name": ...}``.

    >>> from circuitry.paths import parse
    >>> path = parse("mlp[{layer}] @ B -> logits")
    >>> from_json(to_json(path)) == path
    True
    """
    return json.dumps(to_data(path))


def from_json(text: str) -> Path:
    """Read what ``to_json`` wrote. Raises CircuitryError for anything else.

    >>> from circuitry.paths import parse
    >>> str(from_json(to_json(parse("embed -> logits"))))
    'embed -> logits'
    """
    try:
        data = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_path(error) from error
    return from_data(data)


def from_data(data: Any) -> Path:
    """Read what ``to_data`` made. Raises CircuitryError for anything else.

    >>> from circuitry.paths import parse
    >>> str(from_data(to_data(parse("embed -> logits"))))
    'embed -> logits'
    """
    try:
        path = Path(_sites(data["sources"]), tuple(_leg(leg) for leg in data["legs"]))
        if parse(str(path)) != path:  # fields of the right type do not yet make a path: one without a leg is refused
            raise ValueError(f"it would be written {path}")
        return path
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _no_path(error) from error


def _no_path(error: Exception) -> CircuitryError:
    return CircuitryError(f"this JSON does not describe a path ({error!r}); circuitry.paths.to_json writes one")


def _index(data: Any) -> Any:
    return Axis(data["name"]) if isinstance(data, dict) else data


def _node(data: dict[str, Any]) -> Node:
    term = data.get("term")
    named = Term(term["name"], _index(term["index"])) if term else None
    return Node(data["family"], tuple(_index(i) for i in data["indices"]), data["port"], named)


def _sites(data: list[dict[str, Any]]) -> tuple[Site, ...]:
    return tuple(Site(_node(site["node"]), _position(site["at"])) for site in data)


def _position(data: dict[str, Any] | None) -> Position | None:
    return None if data is None else Position(_index(data["base"]), data["offset"])


def _leg(data: dict[str, Any]) -> Leg:
    frozen, exempt = (tuple(_node(n) for n in data[key]) for key in ("frozen", "exempt"))
    return Leg(_sites(data["targets"]), frozen, exempt, data["directly"])
