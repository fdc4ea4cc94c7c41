"""The processes of one run: how many there are, which of them this is, and how they exchange values."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from .errors import CircuitryError
from .store.locks import Presence

Item = TypeVar("Item")
_PATIENCE = timedelta(days=1)
"""Slow processes are waited for this long; a process that ends closes its connections, which the others notice at once."""


@dataclass(frozen=True)
class Team:
    """How many processes there are (``world_size``) and which of them this is (``rank``). With one process, methods do nothing.

    Methods that wait for the other processes raise CircuitryError if one of them has ended.
    """

    rank: int = 0
    world_size: int = 1
    present: Presence | None = None

    def wait(self) -> None:
        """Wait until every process has come this far.

        >>> Team().wait()
        """
        if self.world_size > 1:
            with self._meeting():
                distributed.barrier()

    def mine(self, number: int) -> bool:
        """Whether item ``number`` belongs to this process: processes take turns.

        >>> [Team(1, 3).mine(number) for number in range(5)]
        [False, True, False, False, True]
        """
        return number % self.world_size == self.rank

    def part(self, items: Sequence[Item], sizes: Sequence[int] | None = None) -> list[Item]:
        """This process's items: processes take turns, or, with ``sizes``, each item goes to the least loaded, largest first.

        >>> Team(1, 3).part("abcde"), Team(1, 2).part("abcde", [5, 1, 4, 1, 1])
        (['b', 'e'], ['b', 'c', 'e'])
        """
        if sizes is None:
            return [item for number, item in enumerate(items) if self.mine(number)]
        load, mine = [0] * self.world_size, []
        for number in sorted(range(len(items)), key=lambda number: -sizes[number]):
            rank = load.index(min(load))
            load[rank] += sizes[number]
            mine += [number] if rank == self.rank else []
        return [items[number] for number in sorted(mine)]

    def gathered(self, mine: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks; every process gets the list.

        >>> Team().gathered("this")
        ['this']
        """
        if self.world_size == 1:
            return [mine]
        values = [None] * self.world_size
        with self._meeting():
            distributed.all_gather_object(values, mine)
        return values

    def collected(self, mine: Any) -> list[Any]:
        """The values of all processes, in the order of their ranks, in process 0; the others get an empty list.

        >>> Team().collected("this")
        ['this']
        """
        if self.world_size == 1:
            return [mine]
        values = [None] * self.world_size if self.rank == 0 else None
        with self._meeting():
            distributed.gather_object(mine, values)
        return values or []

    def exchanged(self, outgoing: Sequence[Tensor], incoming: Sequence[int]) -> list[Tensor]:
        """Send to each process, by rank, a float32 tensor [number] on the CPU; returns what each has sent, ``incoming`` numbers long.

        >>> import torch
        >>> Team().exchanged([torch.ones(2)], [2])
        [tensor([1., 1.])]
        """
        if self.world_size == 1:
            return list(outgoing)
        received = outgoing[0].new_empty(sum(incoming))
        with self._meeting():
            distributed.all_to_all_single(received, torch.cat(list(outgoing)), list(incoming), [len(part) for part in outgoing])
        return list(torch.split(received, list(incoming)))

    def told(self, mine: Item) -> Item:
        """The value of process 0, in every process.

        >>> Team().told("this")
        'this'
        """
        if self.world_size == 1:
            return mine
        values = [mine]
        with self._meeting():
            distributed.broadcast_object_list(values, 0)
        return values[0]

    def once(self, make: Callable[[], Item]) -> Item:
        """What process 0 makes, in every process; the others wait and make nothing.

        >>> Team().once(lambda: "this")
        'this'
        """
        return self.told(make() if self.rank == 0 else cast(Item, None))

    def ended(self) -> str:
        """Which processes of this machine have ended, for a message.

        >>> Team(0, 2).ended()
        'another of 2 processes has ended'
        """
        present = self.present
        gone = [] if present is None else [rank for rank in range(self.world_size) if present.state(rank) == "ended"]
        if present is None or not gone:
            return f"another of {self.world_size} processes has ended"
        reasons = [f" ({file.read_text()})" for rank in gone if (file := _last_words(present.folder, rank)).exists()]
        processes = f"process{'es' * (len(gone) > 1)} {', '.join(map(str, gone))} of {self.world_size}"
        return f"{processes} {'have' if gone[1:] else 'has'} ended{''.join(reasons)}"

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # a connection was closed
            raise CircuitryError(
                f"{self.ended()}, so the others stop. Every written file is complete; run the same command to resume"
            ) from error


def environment() -> tuple[int, int]:
    """Rank of this process and number of processes, from torchrun's RANK and WORLD_SIZE; (0, 1) without torchrun.

    >>> environment()
    (0, 1)
    """
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def _last_words(folder: Path, rank: int) -> Path:
    """The file into which a process writes why it ends."""
    return folder / f"rank-{rank}.txt"


@contextmanager
def team() -> Iterator[Team]:
    """The processes that ``torchrun`` has started, or this one alone.

    An existing process group is used and left open; else one is made, with gloo, and closed at the end.

    >>> with team() as alone:
    ...     print(alone.rank, alone.world_size)
    0 1
    """
    starts = int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized()
    if starts:
        distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        several = distributed.is_available() and distributed.is_initialized()
        yield Team(distributed.get_rank(), distributed.get_world_size()) if several else Team()
    finally:
        if starts:
            distributed.destroy_process_group()


@contextmanager
def present(crew: Team) -> Iterator[Team]:
    """The same team, whose processes can tell which of them has ended: each holds a lock until it ends.

    >>> with present(Team()) as alone:
    ...     print(alone)
    Team(rank=0, world_size=1, present=None)
    """
    if crew.world_size == 1:
        yield crew
        return
    folder = Path(crew.told(tempfile.mkdtemp(prefix="circuitry-team-") if crew.rank == 0 else ""))
    present = Presence(folder, crew.rank, crew.world_size)
    try:
        with present.hold():
            crew.wait()  # a process that has not taken its lock yet would look absent, not ended
            try:
                yield Team(crew.rank, crew.world_size, present)
            except Exception as error:
                with suppress(OSError):
                    _last_words(folder, crew.rank).write_text(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")
                raise
    finally:
        if crew.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
