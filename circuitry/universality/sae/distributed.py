"""Several processes that train the same SAEs on their own batches: gradients are averaged, sums are added up."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, distributed


@dataclass(frozen=True)
class Team:
    """The processes of a training: how many (``world``) and which of them this is (``rank``)."""

    rank: int = 0
    world: int = 1

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by its mean over processes."""
        self.sum(kept := list(tensors))
        for tensor in kept if self.world > 1 else ():
            tensor /= self.world

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over processes."""
        if self.world > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def first(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by the first process's."""
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def team() -> Iterator[Team]:
    """The processes that ``torchrun`` has started, or the one there is.

    A process group that is there already is used and left; else one is made, with gloo.

    >>> with team() as alone:
    ...     print(alone)
    Team(rank=0, world=1)
    """
    mine = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized()
    if mine:
        distributed.init_process_group("gloo")
    try:
        there = distributed.is_available() and distributed.is_initialized()
        yield Team(distributed.get_rank(), distributed.get_world_size()) if there else Team()
    finally:
        if mine:
            distributed.destroy_process_group()
