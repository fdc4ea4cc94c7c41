"""What a graph shows in a notebook: its sizes, and its kinds of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from markupsafe import Markup

from ..html.output import facts, heading, table

if TYPE_CHECKING:
    from .graph import Graph


def of_graph(graph: Graph) -> Iterator[Markup]:
    """Sizes of a graph, and a row for each family of nodes.

    >>> import circuitry as ct
    >>> ">ssm_state</td>" in "".join(of_graph(ct.graph("mamba")))
    True
    """
    yield heading(f"{graph.name} graph", f"{len(graph.nx):,} nodes, {graph.nx.number_of_edges():,} edges")
    windows, kinds = sorted(set(graph.windows.values())), dict.fromkeys(graph.layout)
    yield facts([
        *((name, size) for name, size in graph.sizes.items() if size),
        ("sliding windows", ", ".join(map(str, windows))),
        ("layers by kind", ", ".join(f"{graph.layout.count(kind)} x {kind}" for kind in kinds)),
        ("layers with experts", len(graph.experts) or ""),
        ("latents", ", ".join(f"{node} ({count:,})" for node, count in graph.terms.latents.items())),
    ])  # fmt: skip
    rows = [
        [family.name, ", ".join(family.indices), len(graph.nodes(family.name)), ", ".join(family.ports), family.meaning]
        for family in graph.families
    ]
    yield table(["node", "indices", "number", "ports", "what it is"], rows)
