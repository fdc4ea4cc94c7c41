"""The paths of a table as values, from its record: what a cell patches and reads, with its axes filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..errors import CircuitryError
from ..paths.json import from_data
from ..paths.parse import parse
from ..paths.positions import Axis, Index
from ..paths.values import Node, Path, Site, position
from ..prompting import record

DIRECTIONS = {"clean": "noising", "corrupted": "denoising"}
"""The direction by the input that is patched, which a record has as ``base``."""
WAY = ("base", "intervention", "source_becomes")
"""The entries of a record that say how a source was patched."""


def way(provenance: Mapping[str, Any]) -> str:
    """How the sources of a table were patched, in the words of the options; empty if the record does not say.

    >>> way({"base": "corrupted", "intervention": "resample"}), way({"intervention": "zero"}), way({})
    ('direction denoising, intervention resample', 'intervention zero', '')
    """
    asked = provenance.get("direction")  # a discovery has no input that is patched, only the direction
    bases = str(provenance.get("base") or (asked if isinstance(asked, str) else "")).split(" or ")
    directions = " or ".join(DIRECTIONS.get(base, base) for base in bases)
    facts = {"direction": directions, "intervention": provenance.get("intervention")}
    return ", ".join(f"{name} {text}" for name, text in facts.items() if text)


def ways(records: Mapping[Any, Mapping[str, Any]], axis: str) -> dict[str, Any]:
    """What the record of stacked tables says if they were patched in different ways: all of it; that of each is under ``ways``.

    >>> stacked = ways({"n": {"base": "clean"}, "d": {"base": "corrupted"}}, "direction")
    >>> way(stacked), ways({"n": {"base": "clean"}, "d": {"base": "clean"}}, "direction")
    ('direction noising or denoising', {})
    """
    of = {str(value): {key: entry[key] for key in WAY if key in entry} for value, entry in records.items()}
    if len({tuple(entries.items()) for entries in of.values()}) < 2:
        return {}
    together = {key: " or ".join(dict.fromkeys(str(entries[key]) for entries in of.values() if key in entries)) for key in WAY}
    return {**{key: text for key, text in together.items() if text}, "ways": {"over": axis, "of": of}}


def facts(provenance: Mapping[str, Any]) -> tuple[str, str, str]:
    """How sources were patched, the model, and the task in words; each empty if it is not recorded.

    >>> facts({"base": "clean", "intervention": "zero", "model": "m", "task": {"name": "a", "examples": 8, "seed": 0}})
    ('direction noising, intervention zero', 'm', 'a (seed 0)')
    """
    # A caption begins with the number of examples that were measured.
    return way(provenance), str(provenance.get("model") or ""), record.words(provenance.get("task"), ["examples"])


def setting(provenance: Mapping[str, Any]) -> list[str]:
    """What a caption says of a record: how sources were patched, and the model with its task; without what is not recorded.

    >>> setting({"base": "clean", "intervention": "zero", "model": "m", "task": {"name": "a", "examples": 8, "seed": 0}})
    ['direction noising, intervention zero', 'm, a (seed 0)']
    """
    patched, *where = facts(provenance)
    return [*filter(None, [patched, ", ".join(filter(None, where))])]


def paths_of(provenance: Mapping[str, Any]) -> dict[str, Path]:
    """The paths of a record by label; one without a label has the label "". Empty if the record only has a description.

    >>> {label: str(path) for label, path in paths_of({"path": "a -> b"}).items()}, paths_of({"path": "every node -> all"})
    ({'': 'a -> b'}, {})
    """
    if "path_data" in provenance:
        return {label: from_data(data) for label, data in provenance["path_data"].items()}
    texts = provenance.get("paths") or {"": provenance.get("path", "")}  # an old table, or one made by hand
    try:
        return {label: parse(str(text)) for label, text in texts.items()}
    except CircuitryError:
        return {}


def path_of(provenance: Mapping[str, Any], values: Mapping[str, Any]) -> Path | None:
    """The path of a cell with these axis values; None if the record has none for it.

    >>> provenance = {"path": "a -> b", "paths": {"k": "c[{n}] -> d", "q": "a -> b"}}
    >>> str(path_of(provenance, {"port": "k", "n": 3})), path_of({}, {})
    ('c[3] -> d', None)
    """
    return path_among(paths_of(provenance), values)


def path_among(paths: Mapping[str, Path], values: Mapping[str, Any]) -> Path | None:
    """The same for paths that are already read, to ask about many cells.

    >>> str(path_among({"": parse("c[{n}] -> d")}, {"n": 3}))
    'c[3] -> d'
    """
    path = unfilled(paths, values)
    if path is None:
        return None
    legs = tuple(replace(leg, targets=tuple(_filled(site, values) for site in leg.targets)) for leg in path.legs)
    return Path(tuple(_filled(site, values) for site in path.sources), legs)


def unfilled(paths: Mapping[str, Path], values: Mapping[str, Any]) -> Path | None:
    """The path of a cell with its axes open: the only one, or the one whose label is a value of the cell.

    >>> str(unfilled({"": parse("c[{n}] -> d")}, {"n": 3}))
    'c[{n}] -> d'
    """
    if len(paths) == 1:
        return next(iter(paths.values()))
    return next((paths[str(value)] for value in values.values() if str(value) in paths), paths.get(""))


def ends(path: Path) -> list[Site]:
    """The sites that a path patches and those that it reads; frozen nodes are neither.

    >>> list(map(str, ends(parse("a -> b -> c freezing d"))))
    ['a', 'b', 'c']
    """
    return [*path.sources, *(target for leg in path.legs for target in leg.targets)]


def filled(node: Node, values: Mapping[str, Any]) -> Node:
    """A node with the open indices that have a value.

    >>> str(filled(parse("a[{n}].latent[{k}] -> b").sources[0].node, {"n": 3, "k": 7}))
    'a[3].latent[7]'
    """

    def index(old: Index) -> Index:
        return int(values[old.name]) if isinstance(old, Axis) and old.name in values else old

    term = replace(node.term, index=index(node.term.index)) if node.term and node.term.index is not None else node.term
    return replace(node, indices=tuple(map(index, node.indices)), term=term)


def _filled(site: Site, values: Mapping[str, Any]) -> Site:
    node = filled(site.node, values)
    if site.at is None or not isinstance(site.at.base, Axis) or site.at.base.name not in values:
        return Site(node, site.at)
    at = values[site.at.base.name]
    return Site(node, position(at if isinstance(at, str) else int(at)) + site.at.offset)
