"""The layer pairs of a comparison: each is computed once, by one process, and stored as one file."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file

from ...errors import CircuitryError, expected
from ...progress import bar
from ...store.files import sweep
from ...store.locks import Presence
from ...store.resumable import Resumable
from .best import Best
from .moments import Ints
from .shards import save_whole

PATIENCE = 1800.0
"""Seconds to wait for a process that has not started."""
PARTS = ("row", "row_at", "column", "column_at")


class Unfinished(CircuitryError):
    """This process has done its part, and others have not done theirs yet."""


@dataclass(frozen=True, eq=False)
class Tile:
    """Results of a layer pair: best matches, the number of tokens on which features are not 0, and best matches by chance, if any."""

    match: Best
    row_count: Ints
    column_count: Ints
    null: Best | None = None

    def save(self, file: Path) -> None:
        """Write it, whole or not at all."""
        kinds = {"match": self.match, "null": self.null}
        arrays = {f"{kind}.{name}": getattr(best, name) for kind, best in kinds.items() if best for name in PARTS}
        save_whole(file, {**arrays, "row_count": self.row_count, "column_count": self.column_count})

    @classmethod
    def load(cls, file: Path) -> Tile | None:
        """Read a tile back; None if the file is missing or damaged."""
        try:
            data = load_file(file)
            kinds = [Best(*(data[f"{kind}.{name}"] for name in PARTS)) for kind in ("match", "null") if f"{kind}.row" in data]
            return cls(kinds[0], data["row_count"], data["column_count"], *kinds[1:])
        except (OSError, SafetensorError, LookupError):
            return None


@dataclass
class Tiles:
    """All pairs of ``rows`` layers with ``columns`` layers of the other side, in a folder or, without one, in memory.

    ``identity`` is everything that the results depend on. Process ``rank`` of ``world_size`` computes every ``world_size``-th pair;
    processes share the folder and nothing else.

    >>> tiles = Tiles(2, 3, rank=1, world_size=2, folder=Path("shared"))
    >>> list(tiles.own())
    [(0, 1), (1, 0), (1, 2)]
    """

    rows: int
    columns: int
    identity: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    rank: int = 0
    world_size: int = 1
    _kept: dict[tuple[int, int], Tile] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise CircuitryError(expected(f"a rank from 0 to {self.world_size - 1} (of {self.world_size} processes)", self.rank))
        if self.world_size > 1 and self.folder is None:
            raise CircuitryError("several processes need a folder that they share; name it with out=")

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make or reopen the folder, and hold this process's part of it.

        Raises CircuitryError if it holds another comparison, and FileError if another process has that part.
        """
        if self.folder is None:
            yield
            return
        work = Resumable(self.folder, "comparison.json", "comparison")
        work.check(self.identity, alone=False)
        with self._presence.hold():
            if self.world_size == 1:  # with several, another process may be writing
                sweep(self.folder / "tiles")
            work.begin(self.identity, alone=False)
            yield

    @functools.cached_property
    def _presence(self) -> Presence:
        assert self.folder is not None
        return Presence(self.folder, self.rank, self.world_size)

    def own(self) -> Iterator[tuple[int, int]]:
        """This process's pairs."""
        for number in range(self.rank, self.rows * self.columns, self.world_size):
            yield divmod(number, self.columns)

    def get(self, pair: tuple[int, int]) -> Tile | None:
        """A tile, or None if it is missing or damaged."""
        return self._kept.get(pair) if self.folder is None else Tile.load(self._file(pair))

    def put(self, pair: tuple[int, int], tile: Tile) -> None:
        """Store a tile."""
        if self.folder is None:
            self._kept[pair] = tile
        else:
            tile.save(self._file(pair))

    def wait(self) -> None:
        """Wait until the other processes have computed their pairs.

        Raises CircuitryError, which names the missing layer pairs, if a process has ended before its pairs were done, or has not
        started within ``PATIENCE`` seconds. Finished tiles stay.
        """
        if self.folder is None:
            return
        left = [(row, column) for row in range(self.rows) for column in range(self.columns)]
        total, since = len(left), time.monotonic()
        with bar(total=total, desc="waiting for other processes", unit="pair", mininterval=5, delay=1) as shown:
            while left := self._missing(left):
                shown.update(total - len(left) - shown.n)
                self._expect(left, time.monotonic() - since)
                time.sleep(0.2)

    def check(self) -> None:
        """Raise Unfinished, which names the missing layer pairs, unless all pairs are computed.

        >>> Tiles(1, 2).check()
        Traceback (most recent call last):
        circuitry.features.matching.tiles.Unfinished: 2 of 2 layer pairs are not computed yet: (0, 0), (0, 1); all others are kept...
        """
        every = [(row, column) for row in range(self.rows) for column in range(self.columns)]
        if missing := [pair for pair in every if self.get(pair) is None] if self.folder is None else self._missing(every):
            raise Unfinished(
                f"{len(missing)} of {len(every)} layer pairs are not computed yet: {', '.join(map(str, missing))}; all others are kept. "
                "The process that ends last writes the result; if one was lost, run the same command without a rank"
            )

    def _missing(self, pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [pair for pair in pairs if not self._file(pair).is_file()]

    def _expect(self, left: list[tuple[int, int]], waited: float) -> None:
        """Raise CircuitryError if one of these pairs will never be computed."""
        by_rank: dict[int, list[tuple[int, int]]] = {}
        for row, column in left:
            by_rank.setdefault((row * self.columns + column) % self.world_size, []).append((row, column))
        for rank, pairs in by_rank.items():
            state = self._presence.state(rank) if rank != self.rank else "ended"
            gone = {"here": "", "ended": "has ended", "absent": "has not come" if waited > PATIENCE else ""}[state]
            if gone and (missing := self._missing(pairs)):  # look again: it may have finished in the meantime
                raise CircuitryError(
                    f"process {rank} of {self.world_size} {gone}, and layer pairs of its part are missing in {self.folder}: "
                    f"{', '.join(map(str, missing))}; all others are kept; run the same command, or one without a rank, to compute these"
                )

    def _file(self, pair: tuple[int, int]) -> Path:
        assert self.folder is not None
        return self.folder / "tiles" / f"{pair[0]:03}-{pair[1]:03}.safetensors"
