"""From a name, a file or a model to its graph."""

from __future__ import annotations

from typing import Any

from ..errors import CircuitryError, suggest
from .definitions import definition
from .graph import Graph


def graph(what: Any, **sizes: int) -> Graph:
    """The graph of a loaded model, or of an architecture by name or file, at the given sizes or those of a known checkpoint.

    Raises CircuitryError for an unknown name or size.

    >>> graph("mamba", layer=4)
    <mamba graph: layer=4, lag=4; 75 nodes, 114 edges>
    """
    if not isinstance(what, str):
        if sizes:
            raise CircuitryError("a loaded model has its own sizes; give sizes only with an architecture's name")
        loaded: Graph = what.graph
        return loaded
    architecture = definition(what)
    for size in sizes:
        if size not in architecture.example:
            raise CircuitryError(f"{what} has no size {size!r}; {suggest(size, architecture.example)}")
    return Graph(architecture, {**architecture.example, **sizes})
