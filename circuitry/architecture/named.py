"""From a name, a file or a model to its graph."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from .. import content
from ..errors import CircuitryError, several, suggest
from .definitions import REFUSED, definition, definition_for, model_types
from .families import Architecture
from .graph import Graph


def graph(what: Any, *, layout: Sequence[str] = (), **sizes: int) -> Graph:
    """The graph of a loaded model, or of an architecture by name, ``model_type`` or file, at the given sizes or those of a known checkpoint.

    ``layout`` says what the layers of a hybrid are, and is repeated as often as there are layers. Raises CircuitryError for an
    unknown name or size, or a layout for an architecture whose layers are all alike.

    >>> graph("mamba", layer=4)
    <mamba graph: layer=4, lag=4; 75 nodes, 114 edges>
    """
    if not isinstance(what, str):
        if sizes or layout:
            raise CircuitryError("a loaded model has its own sizes; give sizes only with an architecture's name")
        loaded: Graph = what.graph
        return loaded
    architecture = _definition(what)
    for size in sizes:
        if size not in architecture.example:
            raise CircuitryError(f"{what} has no size {size!r}; {suggest(size, architecture.example)}")
    if layout and not architecture.pattern:
        raise CircuitryError(f"all layers of {what} are alike, so it takes no layout")
    every = {**architecture.example, **sizes}
    kinds = itertools.islice(itertools.cycle(several("layout", layout) or architecture.pattern), every["layer"])
    return Graph(architecture, every, layout=kinds)


def _definition(what: str) -> Architecture:
    """By the name of a graph, or of a type of model that uses one."""
    by_type = what not in content.names("graphs") and (what in model_types() or what in REFUSED)
    return definition_for(what) if by_type else definition(what)
