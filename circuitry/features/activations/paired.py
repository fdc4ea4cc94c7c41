"""Values of two nodes side by side, for transcoders: what one reads and what it predicts, at the same tokens of the same pass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...paths.values import Node
from .passes import Ints
from .wrapped import Wrapped


@dataclass(frozen=True, eq=False)
class Paired(Wrapped):
    """An origin whose value of a node is that of its source, and then its own: [token, source's width + own width].

    ``sources`` names the source of each node. All else is as in ``origin``.
    """

    sources: Mapping[Node, Node]

    @property
    def widths(self) -> Mapping[Node, int]:
        """Numbers of each pair at one token."""
        return {node: self.origin.widths[source] + self.origin.widths[node] for node, source in self.sources.items()}

    def values(self, numbers: Ints, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Values of pairs at the used tokens of passes, in their order: float32 [token, width]."""
        wanted = list(nodes)
        values = self.origin.values(numbers, dict.fromkeys([*(self.sources[node] for node in wanted), *wanted]))
        return paired(values, {node: self.sources[node] for node in wanted})


def paired(values: Mapping[Node, Tensor], sources: Mapping[Node, Node]) -> dict[Node, Tensor]:
    """Values [token, width] of sources and nodes, side by side for every node.

    >>> from circuitry.paths import parse_node
    >>> source, node = parse_node("resid[0]"), parse_node("mlp[0]")
    >>> paired({source: torch.zeros(2, 3), node: torch.ones(2, 1)}, {node: source})[node].tolist()
    [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]]
    """
    return {node: torch.cat([values[source], values[node]], 1) for node, source in sources.items()}
