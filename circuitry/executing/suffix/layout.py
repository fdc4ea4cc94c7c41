"""One batch as plain numbers: which tokens each region of the model computes, and what is copied and read where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...autoencoders.sae import SAE
from ...models.packed import Ints, Scanned, Tokens
from ...paths.values import Node
from ...planning.regions import Region
from ..copies import Call, Copy
from ..terms import term_values
from .rows import Job, Runs


@dataclass(frozen=True)
class Read:
    """One site: runs by number [n] (of ``Reading``), the places of their ``own`` values and of the base run's; ``unit`` is the head.

    ``term`` is the node that is read, if it is a term of the value there.
    """

    call: Call
    unit: int | None
    runs: Ints
    own: Ints
    base: Ints
    term: Node | None = None

    @property
    def key(self) -> tuple[Call, bool]:
        """The call, and whether its value is that before copies are made there."""
        return self.call, self.term is not None


@dataclass(frozen=True)
class Reading:
    """What a job's last leg reads: first the base runs of its examples, then the source runs, then its own, [3, example] by number."""

    job: Job
    reads: tuple[Read, ...]


@dataclass
class Layout:
    """``tokens`` by region and ``scanned`` by block; ``batch`` rows are those that go through the embedding as a whole."""

    runs: Runs
    length: int
    tokens: dict[Region, Tokens]
    scanned: dict[str, Scanned]
    batch: Ints
    filling: int = 0
    """Extra rows, so that the model's batch has room for all tokens that are read after the last layer."""
    copies: dict[Call, list[Copy]] = field(default_factory=lambda: defaultdict(list))
    readings: list[Reading] = field(default_factory=list)


def of_site(values: Mapping[Any, Tensor], read: Read, at: Ints, saes: Mapping[Node, SAE]) -> Tensor:
    """The values of a site at the places ``at`` [n] among the tokens (of a state: the rows) where it is read, [n, ...].

    >>> import numpy as np, torch
    >>> read = Read("place", 1, *[np.zeros(1, int)] * 3)
    >>> of_site({read.key: torch.zeros(2, 3, 4)}, read, np.array([1, 1, 0]), {}).shape
    torch.Size([3, 4])
    """
    value = values[read.key][torch.from_numpy(np.ascontiguousarray(at))]
    value = value if read.unit is None else value[:, read.unit]
    return value if read.term is None else term_values(saes, read.term, value[:, None])[:, 0]
