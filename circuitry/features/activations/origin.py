"""The provenance of activations, for files and results: model, node, layer, depth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import CircuitryError
from ...paths.values import Node
from ...store.files import slug
from .corpus import Corpus
from .passes import Ints

if TYPE_CHECKING:
    from ...models.model import Model

MASK = "special tokens of the corpus left out"


def origin(model: Model, node: Node) -> dict[str, Any]:
    """Name, node, layer, depth and model of a node's activations, and a digest of the model's weights.

    ``layer`` is the node's first index. ``depth`` is the share of layers before the node: l / L for the stream before layer l of L,
    (l + 0.5) / L for a node inside layer l.

    >>> import circuitry as ct
    >>> origin(ct.load("bundled:mamba"), ct.graph("mamba").node("resid[1]"))["depth"]
    0.25
    """
    layer = int(node.indices[0]) if node.indices else None  # type: ignore[arg-type]
    inside = 0.0 if model.graph.family(node.family).role == "resid" else 0.5
    depth = None if layer is None else (layer + inside) / model.graph.sizes["layer"]
    provenance = {"node": str(node), "layer": layer, "depth": depth, "model": model.name, "weights": model.fingerprint}
    return {"name": f"{model.name} {node}", **provenance, "dtype": str(model.dtype).removeprefix("torch.")}


def first_tokens(corpus: Corpus) -> Ints:
    """Number of the first used token of each document that has one.

    >>> import numpy as np
    >>> from circuitry.features.activations import Corpus
    >>> text = Corpus(np.arange(5, dtype=np.int32), np.array([0, 3, 5]), np.array([True, False, False, True, False]), "text", "")
    >>> first_tokens(text)
    array([0, 2])
    """
    first: Ints = corpus.edges[:-1][np.diff(corpus.edges) > 0]
    return first


def folders(nodes: Iterable[Node], out: Path) -> Mapping[Node, Path]:
    """A folder for each node's feature activations. Raises CircuitryError if no node is given.

    >>> [path.name for path in folders([Node("resid", (3,)), Node("head", (0, 1), "q")], Path("x")).values()]
    ['resid-3', 'head-0-1-q']
    """
    by_node = {node: out / slug(node) for node in nodes}
    if not by_node:
        raise CircuitryError("no autoencoder to encode with; give at least one")
    return by_node
