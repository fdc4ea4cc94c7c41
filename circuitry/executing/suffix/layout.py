"""One batch as plain numbers: which tokens each region of the model computes, and what is copied and read where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...models.packed import Ints, Scanned, Tokens
from ...planning.regions import Region
from ..copies import Call, Copy
from .rows import Job, Runs


@dataclass(frozen=True)
class Read:
    """One site: runs by number [n] (of ``Reading``), the places of their ``own`` values and of the base run's; ``unit`` is the head."""

    call: Call
    unit: int | None
    runs: Ints
    own: Ints
    base: Ints


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


def of_site(values: Mapping[Any, Tensor], read: Read) -> Tensor:
    """The values at the place where a site is read, [token, ...], or of a state [row, ...].

    >>> import numpy as np, torch
    >>> of_site({"place": torch.zeros(2, 3, 4)}, Read("place", 1, *[np.zeros(1, int)] * 3)).shape
    torch.Size([2, 4])
    """
    value = values[read.call]
    return value if read.unit is None else value[:, read.unit]
