"""One run of the model for several processes: each runs some of the passes, and gets the values of its own nodes at all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...paths.values import Node
from ...team import Team
from .passes import Ints
from .wrapped import Wrapped


@dataclass(frozen=True, eq=False)
class Shared(Wrapped):
    """An origin whose passes are divided among the processes of a team; ``owned`` are the nodes of each process, in order of ranks.

    All processes must ask for the values of the same passes, in the same order. Which passes there are, and so every value, does
    not depend on the number of processes.
    """

    team: Team
    owned: tuple[tuple[Node, ...], ...]

    def values(self, numbers: Ints, nodes: Iterable[Node]) -> dict[Node, Tensor]:
        """Values of this process's nodes at the used tokens of passes, in their order: float32 [token, width]."""
        sizes = np.diff(self.passes.tokens)[numbers]
        begins = np.cumsum(sizes) - sizes
        shares = [self._share(rank, sizes) for rank in range(self.team.world_size)]
        run = self.origin.values(numbers[shares[self.team.rank]], [node for owned in self.owned for node in owned])
        wanted = list(nodes)
        widths = [self.widths[node] for node in wanted]
        totals = [int(sizes[share].sum()) for share in shares]
        got = self.team.exchanged([_flat(run, owned) for owned in self.owned], [total * sum(widths) for total in totals])
        values = {
            node: torch.empty(int(sizes.sum()), width, device=self.device) for node, width in zip(wanted, widths, strict=True)
        }
        for share, total, flat in zip(shares, totals, got, strict=True):
            tokens = np.concatenate([np.arange(begins[k], begins[k] + sizes[k]) for k in share] or [np.zeros(0, np.int64)])
            at = torch.from_numpy(tokens).to(self.device)
            parts = torch.split(flat.to(self.device), [total * width for width in widths]) if wanted else ()
            for node, width, part in zip(wanted, widths, parts, strict=True):
                values[node][at] = part.view(total, width)
        return values

    def _share(self, rank: int, sizes: Ints) -> Ints:
        """Which of the passes a process runs: about equally many tokens each."""
        chosen = Team(rank, self.team.world_size).part(range(len(sizes)), sizes.tolist())
        return np.array(chosen, np.int64)


def _flat(values: Mapping[Node, Tensor], nodes: Iterable[Node]) -> Tensor:
    """The numbers of several nodes, one node after another."""
    return torch.cat([torch.zeros(0), *(values[node].flatten().cpu() for node in nodes)])
