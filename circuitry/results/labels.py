"""The labels of latents in a table: on the axes that run over latents, and of the latents that its paths name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..paths.positions import Axis
from .recorded import ends, filled, paths_of, unfilled

Labels = Mapping[str, Mapping[Any, str]]
"""By axis, the label of each value that has one."""


def labels_of(cells: Iterable[Mapping[str, Any]], provenance: Mapping[str, Any]) -> Labels:
    """The labels of axis values that stand for one latent, from the record's ``labels`` by latent.

    A value that is another latent in other cells, of other layers for example, has none.

    >>> provenance = {"path": "a[1].latent[{k}] -> b", "labels": {"a[1].latent[3]": "brackets"}}
    >>> labels_of([{"k": 3}, {"k": 4}], provenance)
    {'k': {3: 'brackets'}}
    """
    labels = provenance.get("labels", {})
    if not labels:
        return {}
    paths, found = paths_of(provenance), defaultdict[str, dict[Any, set[str]]](lambda: defaultdict(set))
    for cell in cells:
        named = {axis: str(value) for axis, value in cell.items() if str(value) in labels}
        path = unfilled(paths, cell)
        nodes = [site.node for site in ends(path)] if path else []
        named |= {
            node.term.index.name: str(filled(node, cell))
            for node in nodes
            if node.term and isinstance(node.term.index, Axis) and node.term.index.name in cell
        }
        for axis, latent in named.items():
            found[axis][cell[axis]].add(labels.get(latent, ""))
    alike = {axis: {value: min(texts) for value, texts in values.items() if len(texts) == 1} for axis, values in found.items()}
    return {axis: shown for axis, texts in alike.items() if (shown := {value: text for value, text in texts.items() if text})}


def fixed(provenance: Mapping[str, Any]) -> Sequence[str]:
    """The labels of the latents that the paths of a table name by number, in words.

    >>> fixed({"path": "a[1].latent[3] -> b", "labels": {"a[1].latent[3]": "brackets"}})
    ['a[1].latent[3]: brackets']
    """
    labels = provenance.get("labels", {})
    paths = paths_of(provenance).values() if labels else ()
    names = dict.fromkeys(str(site.node) for path in paths for site in ends(path))
    return [f"{name}: {labels[name]}" for name in names if name in labels]
