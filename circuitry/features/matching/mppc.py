"""Maximum pairwise Pearson correlation of features: the paper's section 4.2.2, exact, layer pair by layer pair."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ...errors import CircuitryError
from ...progress import bar, together
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


@together()
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
    wait: bool = True,
    progress: bool = True,
) -> Matches:
    """For every feature of both sides, the greatest Pearson correlation with any feature of any layer of the other side.

    Args:
        a, b: feature activations on the same tokens, one for each layer: ``FeatureActs``, or sparse arrays [token, feature].
        min_count: features that are not 0 on fewer tokens have no correlation, and constant ones have none either. Two features
            that fire once, on the same token, would correlate perfectly; the paper does not say how it treats such features.
        null: "shift" or a number of tokens: compute the same with ``b`` shifted, which doubles the time. None: no null.
        out: a folder for finished layer pairs and for the result. The same call resumes from it.
        threads: None takes OMP_NUM_THREADS or all cores. Results do not depend on it.
        engine: "numba" (the extra ``fast``), "scipy" (slower, same results), or "auto": numba if it is installed.
        rank, world_size: number of this process, and of all processes that share the work and ``out``; each waits for the others,
            and all return the result. ``team.environment()`` reads both from torchrun.
        wait: False for processes that may not run at the same time, such as a job array's: the one that ends last writes the
            result, and the others raise Unfinished.
        progress: show a bar if there is a terminal.

    Memory: one layer of each side, 8 and 4 bytes for every activation that is not 0 (8 and 8 for float32; 16 for the first while it
    is transposed), and 16 bytes for every feature and thread. Of equally good matches the lowest layer and feature wins.

    Raises CircuitryError if the sides are not on the same tokens, ``out`` holds another comparison, or a process that shares the
    work has ended before its part was done; FileError if another process computes the same part, or the disk cannot be written.
    Finished layer pairs are kept in all these cases, and the same call resumes.

    >>> rng = np.random.default_rng(0)
    >>> x = np.maximum(rng.normal(size=(1000, 4)) - 1, 0)
    >>> matches = mppc(x, 2 * x[:, [2, 0, 3]], progress=False)
    >>> matches.forward["feature_b"].tolist(), matches.forward["mppc"].round(3)[[0, 2, 3]].tolist()
    ([1, 0, 0, 2], [1.0, 1.0, 1.0])
    """
    sides = _acts(a), _acts(b)
    check_tokens(*sides)
    rotate = rotation(null, sides[0][0].tokens, _documents(sides[0][0]))
    provenance = _about(sides, min_count, rotate)
    tiles = Tiles(len(sides[0]), len(sides[1]), provenance, Path(out) if out is not None else None, rank, world_size)
    compute = _Compute(sides, min_count, rotate, pairs.engine(engine), pairs.threads(threads))
    with tiles.open():
        for pair in bar(list(tiles.own()), "layer pairs", unit="pair", show=None if progress else False):
            if tiles.get(pair) is None:
                tiles.put(pair, compute(pair))
        return finish(tiles, out, wait=wait)


def finish(tiles: Tiles, out: str | PathLike[str] | None, *, wait: bool = True) -> Matches:
    """Wait for the other processes, merge the layer pairs, and write the result (process 0, or each if they do not wait).

    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> tiles = Tiles(1, 1)
    >>> tiles.put((0, 0), _Compute(([InMemory(x)], [InMemory(x)]), 1, None, "scipy", 1)((0, 0)))
    >>> finish(tiles, None).forward["mppc"].round(9).tolist()
    [1.0, 1.0]
    """
    if wait:
        tiles.wait()
    else:
        tiles.check()
    matches = Matches.of(tiles)
    if out is not None and (tiles.rank == 0 or not wait):
        matches.save(out)
    return matches


def check_tokens(a: Sequence[Acts], b: Sequence[Acts]) -> None:
    """Raise CircuitryError unless all activations are on the same tokens: same number, same corpus, same mask.

    >>> check_tokens([InMemory(np.eye(3))], [InMemory(np.eye(4), "other")])
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: other is on 4 tokens and array on 3; both sides need the same tokens
    """
    if not a or not b:
        raise CircuitryError("there is nothing to compare: a side has no feature activations")
    first = a[0]
    for acts in (*a, *b):
        if acts.tokens != first.tokens:
            raise CircuitryError(
                f"{acts.name} is on {acts.tokens} tokens and {first.name} on {first.tokens}; both sides need the same tokens"
            )
    stored = [acts for acts in (*a, *b) if isinstance(acts, FeatureActs)]  # arrays in memory do not name their corpus
    for acts in stored[1:]:
        for label, key in (("corpus", "corpus"), ("mask of special tokens", "mask")):
            if acts.index[key] != stored[0].index[key]:
                raise CircuitryError(
                    f"{acts.folder} has another {label} than {stored[0].folder} ({acts.index[key]!r}, {stored[0].index[key]!r}), so "
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
            self._row = None  # frees the last layer before the next one is read
            self._row = row, ByFeature.of(self.sides[0][row], self.min_count)
        by_token = ByToken.of(self.sides[1][column], self.min_count)
        find = functools.partial(best, self._row[1], by_token, engine=self.engine, threads=self.threads)
        counts = self._row[1].count, by_token.count
        return Tile(find(), *counts, find(self.rotate) if self.rotate is not None else None)


def _acts(given: Given) -> list[Acts]:
    """A list of activations from one or several, stored or in memory."""
    layers = given if isinstance(given, list | tuple) else [given]
    return [acts if isinstance(acts, FeatureActs | InMemory) else InMemory(acts, f"array {k}") for k, acts in enumerate(layers)]


def _about(sides: tuple[list[Acts], list[Acts]], min_count: int, rotate: int | None) -> dict[str, Any]:
    """Everything that the results depend on, and where the activations come from."""
    identity: dict[str, Any] = {"version": VERSION, "tokens": sides[0][0].tokens, "min_count": min_count, "shift": rotate}
    for name, side in zip("ab", sides, strict=True):
        identity[name] = [{**_origin(acts), "name": acts.name, "features": acts.features, "digest": acts.digest} for acts in side]
    return identity


def _documents(acts: Acts) -> Ints:
    return acts.documents if isinstance(acts, FeatureActs) else np.zeros(0, np.int64)


def _origin(acts: Acts) -> dict[str, Any]:
    """The provenance in the index of stored activations; empty for an array."""
    data = {"tokens", "shards", "moments", "shard", "documents", "digest"}
    return {key: value for key, value in acts.index.items() if key not in data} if isinstance(acts, FeatureActs) else {}
