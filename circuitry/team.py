"""The processes that work on one thing together: how many, which of them this is, and what they tell each other."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, distributed

from .errors import CircuitryError
from .store.locks import Presence

Item = TypeVar("Item")
_PATIENCE = timedelta(days=1)
"""A process that is slow is waited for; one that has ended closes its connections, which the others see at once."""


@dataclass(frozen=True)
class Team:
    """How many processes there are (``world_size``) and which of them this is (``rank``). Alone, all of this does nothing.

    What several processes do together raises CircuitryError where one of them has ended.
    """

    rank: int = 0
    world_size: int = 1
    present: Presence | None = None

    def mean(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by its mean over processes.

        >>> Team().mean([])
        """
        self.sum(kept := list(tensors))
        for tensor in kept if self.world_size > 1 else ():
            tensor /= self.world_size

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by its sum over processes.

        >>> Team().sum([])
        """
        if self.world_size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def first(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor, in place, by the first process's.

        >>> Team().first([])
        """
        if self.world_size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Until every process is here.

        >>> Team().wait()
        """
        if self.world_size > 1:
            with self._meeting():
                distributed.barrier()

    def mine(self, number: int) -> bool:
        """Whether this process has the share of this number: they take turns.

        >>> [Team(1, 3).mine(number) for number in range(5)]
        [False, True, False, False, True]
        """
        return number % self.world_size == self.rank

    def part(self, items: Sequence[Item], sizes: Sequence[int] | None = None) -> list[Item]:
        """This process's part of the items: they take turns, or with ``sizes`` the largest first, each by who has least.

        >>> Team(1, 3).part("abcde"), Team(1, 2).part("abcde", [5, 1, 4, 1, 1])
        (['b', 'e'], ['b', 'c', 'e'])
        """
        if sizes is None:
            return [item for number, item in enumerate(items) if self.mine(number)]
        taken, mine = [0] * self.world_size, []
        for number in sorted(range(len(items)), key=lambda number: -sizes[number]):
            rank = taken.index(min(taken))
            taken[rank] += sizes[number]
            mine += [number] if rank == self.rank else []
        return [items[number] for number in sorted(mine)]

    def gathered(self, mine: Any) -> list[Any]:
        """What every process has, in the order of their ranks, in each of them.

        >>> Team().gathered("this")
        ['this']
        """
        if self.world_size == 1:
            return [mine]
        found = [None] * self.world_size
        with self._meeting():
            distributed.all_gather_object(found, mine)
        return found

    def told(self, mine: Item) -> Item:
        """What the first process has, in each of them.

        >>> Team().told("this")
        'this'
        """
        if self.world_size == 1:
            return mine
        found = [mine]
        with self._meeting():
            distributed.broadcast_object_list(found, 0)
        return found[0]

    def ended(self) -> str:
        """Which processes of this machine have ended, in words.

        >>> Team(0, 2).ended()
        'another of 2 processes has ended'
        """
        here = self.present
        gone = [] if here is None else [rank for rank in range(self.world_size) if here.state(rank) == "ended"]
        if here is None or not gone:
            return f"another of {self.world_size} processes has ended"
        said = [f" ({words.read_text()})" for rank in gone if (words := _last_words(here.folder, rank)).exists()]
        which = f"process{'es' * (len(gone) > 1)} {', '.join(map(str, gone))} of {self.world_size}"
        return f"{which} {'have' if gone[1:] else 'has'} ended{''.join(said)}"

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # a connection was closed
            raise CircuitryError(
                f"{self.ended()}, so the others stop. Every written file is complete; run the same command to resume"
            ) from error


def _last_words(folder: Path, rank: int) -> Path:
    """Where a process writes why it ends."""
    return folder / f"rank-{rank}.txt"


@contextmanager
def team() -> Iterator[Team]:
    """The processes that ``torchrun`` has started, or the one there is.

    A process group that is there already is used and left; else one is made, with gloo.

    >>> with team() as alone:
    ...     print(alone.rank, alone.world_size)
    0 1
    """
    mine = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized()
    if mine:
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        there = distributed.is_available() and distributed.is_initialized()
        yield Team(distributed.get_rank(), distributed.get_world_size()) if there else Team()
    finally:
        if mine:
            distributed.destroy_process_group()


@contextmanager
def present(every: Team) -> Iterator[Team]:
    """The same processes, who see which of them has ended: each holds a lock as long as it lives.

    >>> with present(Team()) as alone:
    ...     print(alone)
    Team(rank=0, world_size=1, present=None)
    """
    if every.world_size == 1:
        yield every
        return
    folder = Path(every.told(tempfile.mkdtemp(prefix="circuitry-team-") if every.rank == 0 else ""))
    present = Presence(folder, every.rank, every.world_size)
    try:
        with present.hold():
            every.wait()
            try:
                yield Team(every.rank, every.world_size, present)
            except Exception as error:
                with suppress(OSError):
                    _last_words(folder, every.rank).write_text(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
                raise
    finally:
        if every.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
