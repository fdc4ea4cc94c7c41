"""Maximum pairwise Pearson correlation of features: the paper's section 4.2.2, exact, layer pair by layer pair."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from tqdm.auto import tqdm

from ...errors import CircuitryError
from . import best as pairs
from .best import best
from .blocks import Array, Sparse
from .matches import Matches
from .moments import Ints
from .null import rotation
from .sides import Acts, ByFeature, ByToken, InMemory
from .store import FeatureActs
from .tiles import Tile, Tiles

One: TypeAlias = "FeatureActs | InMemory | Sparse | Array"
Given: TypeAlias = "One | Sequence[One]"
"""``FeatureActs``, a sparse array [token, feature], or several of either: one for each layer."""
MIN_COUNT = 10
VERSION = 1


def mppc(
    a: Given,
    b: Given,
    *,
    min_count: int = MIN_COUNT,
    null: str | int | None = "shift",
    out: str | PathLike[str] | None = None,
    threads: int | None = None,
    engine: str = "auto",
    rank: int = 0,
    world_size: int = 1,
    progress: bool = True,
) -> Matches:
    """For every feature the greatest Pearson correlation with any feature of any layer of the other side, both ways.

    Args:
        a, b: feature activations on the same tokens, one for each layer: ``FeatureActs``, or sparse arrays [token, feature].
        min_count: features that are not 0 on fewer tokens have no correlation, nor have constant ones. Two features that fire
            once, on the same token, correlate perfectly; the paper does not say what it did with such.
        null: "shift" or a number of tokens: the same is computed with ``b`` shifted, which takes as long again. None: without.
        out: a folder for the layer pairs as they are done, and for the result. The same call goes on from there.
        threads: None takes OMP_NUM_THREADS or all cores. Numbers do not depend on it.
        engine: "numba" (the extra ``fast``), "scipy" (slower, the same numbers), or "auto": numba where it is installed.
        rank, world_size: number of this process, and how many work on it, in the same ``out``; each waits for the others, and all
            return the result. ``tiles.environment()`` reads both from torchrun.
        progress: show a bar, where there is a terminal.

    Memory: one layer of each side, 8 and 4 bytes for every activation that is not 0 (8 and 8 for float32; 16 for the first while it
    is turned), and 16 bytes for every feature and thread. Of equally good matches the lowest layer and feature is taken.

    Raises CircuitryError where the sides are not on the same tokens, ``out`` holds another comparison, or a process that shares the
    work has ended before its part was done; FileError where another one computes the same part, or the disk cannot be written.
    What is done is kept in all these cases, and the same call goes on.

    >>> rng = np.random.default_rng(0)
    >>> x = np.maximum(rng.normal(size=(1000, 4)) - 1, 0)
    >>> found = mppc(x, 2 * x[:, [2, 0, 3]], progress=False)
    >>> found.forward["feature_b"].tolist(), found.forward["mppc"].round(3)[[0, 2, 3]].tolist()
    ([1, 0, 0, 2], [1.0, 1.0, 1.0])
    """
    sides = _acts(a), _acts(b)
    check_tokens(*sides)
    rotate = rotation(null, sides[0][0].tokens, _documents(sides[0][0]))
    provenance = _about(sides, min_count, rotate)
    tiles = Tiles(len(sides[0]), len(sides[1]), provenance, Path(out) if out is not None else None, rank, world_size)
    compute = _Compute(sides, min_count, rotate, pairs.engine(engine), pairs.threads(threads))
    with tiles.open():
        for pair in tqdm(list(tiles.own()), "layer pairs", unit="pair", disable=None if progress else True, leave=False):
            if tiles.get(pair) is None:
                tiles.put(pair, compute(pair))
        return finish(tiles, out)


def finish(tiles: Tiles, out: str | PathLike[str] | None) -> Matches:
    """Wait for the other processes, merge the layer pairs, and write the result (process 0).

    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> tiles = Tiles(1, 1)
    >>> tiles.put((0, 0), _Compute(([InMemory(x)], [InMemory(x)]), 1, None, "scipy", 1)((0, 0)))
    >>> finish(tiles, None).forward["mppc"].round(9).tolist()
    [1.0, 1.0]
    """
    tiles.wait()
    found = Matches.of(tiles)
    if out is not None and tiles.rank == 0:
        found.save(out)
    return found


def check_tokens(a: Sequence[Acts], b: Sequence[Acts]) -> None:
    """Raise CircuitryError where not all activations are on the same tokens: as many, of the same corpus, with the same mask.

    >>> check_tokens([InMemory(np.eye(3))], [InMemory(np.eye(4), "other")])
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: other is on 4 tokens and array on 3; both sides need the same tokens
    """
    if not a or not b:
        raise CircuitryError("there is nothing to compare: a side has no feature activations")
    first = a[0]
    for other in (*a, *b):
        if other.tokens != first.tokens:
            raise CircuitryError(
                f"{other.name} is on {other.tokens} tokens and {first.name} on {first.tokens}; both sides need the same tokens"
            )
    kept = [one for one in (*a, *b) if isinstance(one, FeatureActs)]
    for other in kept[1:]:
        for what, key in (("corpus", "corpus"), ("mask of special tokens", "mask")):
            if other.index[key] != kept[0].index[key]:
                raise CircuitryError(
                    f"{other.folder} has another {what} than {kept[0].folder} ({other.index[key]!r}, {kept[0].index[key]!r}), so "
                    "their tokens are not the same; encode both models on one corpus"
                )


@dataclass
class _Compute:
    """Computes a layer pair; the layer of ``a`` is kept for the next."""

    sides: tuple[list[Acts], list[Acts]]
    min_count: int
    rotate: int | None
    engine: str
    threads: int
    _row: tuple[int, ByFeature] | None = None

    def __call__(self, pair: tuple[int, int]) -> Tile:
        row, column = pair
        if self._row is None or self._row[0] != row:
            self._row = None  # before the next is read
            self._row = row, ByFeature.of(self.sides[0][row], self.min_count)
        other = ByToken.of(self.sides[1][column], self.min_count)
        find = functools.partial(best, self._row[1], other, engine=self.engine, threads=self.threads)
        counts = self._row[1].count, other.count
        return Tile(find(), *counts, find(self.rotate) if self.rotate is not None else None)


def _acts(given: Given) -> list[Acts]:
    """One or several, of whatever kind."""
    several = given if isinstance(given, list | tuple) else [given]
    return [one if isinstance(one, FeatureActs | InMemory) else InMemory(one, f"array {k}") for k, one in enumerate(several)]


def _about(sides: tuple[list[Acts], list[Acts]], min_count: int, rotate: int | None) -> dict[str, Any]:
    """Everything the numbers depend on, and where they come from."""
    said: dict[str, Any] = {"version": VERSION, "tokens": sides[0][0].tokens, "min_count": min_count, "shift": rotate}
    for name, side in zip("ab", sides, strict=True):
        said[name] = [{**_origin(one), "name": one.name, "features": one.features, "digest": one.digest} for one in side]
    return said


def _documents(acts: Acts) -> Ints:
    return acts.documents if isinstance(acts, FeatureActs) else np.zeros(0, np.int64)


def _origin(acts: Acts) -> dict[str, Any]:
    """What the writer said about them."""
    own = {"tokens", "shards", "moments", "shard", "documents", "digest"}
    return {key: value for key, value in acts.index.items() if key not in own} if isinstance(acts, FeatureActs) else {}
