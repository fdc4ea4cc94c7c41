"""The result of matching: for every feature of either side its best match on the other, in tables."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ...errors import CircuitryError
from ...html.shown import Shown
from ...store.files import write_csv, write_whole
from .moments import Floats, Ints
from .tiles import Tiles

if TYPE_CHECKING:
    from markupsafe import Markup

COLUMNS = ("layer_a", "feature_a", "mppc", "layer_b", "feature_b", "count_a", "count_b", "null")
HIGH, CHANCE = 0.95, 0.95
"""The paper counts matches above ``HIGH`` (section 4.4); ``CHANCE`` is the quantile of the null up to which a match is near chance."""


def summarised(frame: pd.DataFrame) -> dict[str, float]:
    """Statistics of a table of matches, the entries of ``Matches.summary``.

    >>> statistics = summarised(pd.DataFrame({"mppc": [1.0, 0.5, np.nan], "null": [0.1, 0.1, np.nan]}))
    >>> statistics["mean"], statistics["compared"], statistics["near null"]
    (0.75, 2, 0.0)
    """
    mppc, null = frame["mppc"].dropna(), (frame["null"] if "null" in frame else pd.Series(dtype=float)).dropna()
    chance = null.quantile(CHANCE) if len(null) else np.nan
    return {
        "features": len(frame),
        "compared": len(mppc),
        "mean": float(mppc.mean()),
        "median": float(mppc.median()),
        "above .95": float((mppc > HIGH).mean()) if len(mppc) else np.nan,
        "null": float(null.mean()),
        "near null": float((mppc <= chance).mean()) if len(null) and len(mppc) else np.nan,
    }


@dataclass(frozen=True)
class Matches(Shown):
    """Best matches of features. Made by ``circuitry.universality.mppc``.

    ``forward`` has a row for every feature of the first side: ``layer_a`` and ``feature_a``; its ``mppc``, the greatest Pearson
    correlation with any feature of any layer of the other side; that feature (``layer_b``, ``feature_b``); the number of tokens
    on which each of the two is not 0 (``count_a``, ``count_b``); and ``null``, the greatest correlation with the other side
    shifted. Layers are numbered in the order given. A feature without a correlation has NaN, and -1 for its match. ``reverse``
    is the same for the second side: its ``layer_a`` is a layer of the second side. ``provenance`` says what was compared and how.
    """

    forward: pd.DataFrame
    reverse: pd.DataFrame
    provenance: Mapping[str, Any]

    def _shown_(self) -> Iterable[Markup]:
        from ..notebook import of_matches

        return of_matches(self)

    @classmethod
    def of(cls, tiles: Tiles) -> Matches:
        """Merge the tiles of all layer pairs. Raises CircuitryError for a damaged one."""
        rows = [[_side(tiles, (row, column), "row") for column in range(tiles.columns)] for row in range(tiles.rows)]
        columns = [[_side(tiles, (row, column), "column") for row in range(tiles.rows)] for column in range(tiles.columns)]
        return cls(_frame(rows, columns), _frame(columns, rows), dict(tiles.identity))

    def summary(self) -> pd.DataFrame:
        """A row for each direction.

        ``features``, ``compared`` (those with a correlation), ``mean`` and ``median`` MPPC, the share ``above .95``, the mean of
        the ``null``, and ``near null``: the share whose MPPC does not exceed the 95th percentile of the null.
        """
        rows = {"forward": summarised(self.forward), "reverse": summarised(self.reverse)}
        return pd.DataFrame(rows).T.astype({"features": int, "compared": int})

    def text(self) -> str:
        """The summary, for a terminal."""
        lines = []
        for name, row in self.summary().iterrows():
            by_chance = f", {row['null']:.3f} by chance; {row['near null']:.1%} near chance" if row["null"] == row["null"] else ""
            lines.append(
                f"{name}: mean MPPC {row['mean']:.3f}{by_chance}; {row['above .95']:.1%} above {HIGH}; "
                f"{row['compared']:.0f} of {row['features']:.0f} features compared"
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def save(self, folder: str | PathLike[str]) -> Path:
        """Write both tables as Parquet and CSV, and ``about.json``; returns the folder."""
        target = Path(folder)
        for name, frame in (("forward", self.forward), ("reverse", self.reverse)):
            write_whole(target / f"{name}.parquet", functools.partial(frame.to_parquet, index=False))
            write_csv(frame, target / f"{name}.csv", index=False)
        write_csv(self.summary(), target / "summary.csv", index_label="direction")
        write_whole(target / "about.json", json.dumps(dict(self.provenance), indent=1, default=str))
        return target

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> Matches:
        """Read back what ``save`` wrote. Raises CircuitryError for a folder without it."""
        path = Path(folder)
        try:
            provenance = json.loads((path / "about.json").read_text(encoding="utf-8"))
            forward, reverse = (pd.read_parquet(path / f"{name}.parquet") for name in ("forward", "reverse"))
        except (OSError, ValueError):
            raise CircuitryError(f"{path} holds no matches; `circuitry mppc ... --out {path}` makes them") from None
        return cls(forward, reverse, provenance)


@dataclass(frozen=True)
class _Side:
    """One side of a tile: best correlations, the features they are with, those by chance, and counts."""

    value: Floats
    at: Ints
    null: Floats
    count: Ints


def _side(tiles: Tiles, pair: tuple[int, int], side: str) -> _Side:
    tile = tiles.get(pair)
    if tile is None:
        raise CircuitryError(f"the file of layer pair {pair} in {tiles.folder} is damaged; the same command computes it again")
    value = getattr(tile.match, side)
    null = getattr(tile.null, side) if tile.null is not None else np.full(len(value), np.nan)
    return _Side(value, getattr(tile.match, f"{side}_at"), null, getattr(tile, f"{side}_count"))


def _frame(layers: Sequence[Sequence[_Side]], reverse: Sequence[Sequence[_Side]]) -> pd.DataFrame:
    """The table of one direction: ``layers`` [own layer][other side's layer], ``reverse`` [other side's layer][own layer]."""
    counts = [layer[0].count for layer in reverse]
    return pd.concat([_layer(number, parts, counts) for number, parts in enumerate(layers)], ignore_index=True)


def _layer(number: int, parts: Sequence[_Side], counts: Sequence[Ints]) -> pd.DataFrame:
    """The rows of one layer: the best match over the other side's layers; of equally good ones the first."""
    size = len(parts[0].value)
    value, null = np.full((2, size), np.nan)
    layer, at, count = np.full(size, -1), np.full(size, -1), np.zeros(size, np.int64)
    for layer_b, part in enumerate(parts):
        better = (part.value > value) | (np.isnan(value) & ~np.isnan(part.value))
        value[better], layer[better], at[better] = part.value[better], layer_b, part.at[better]
        count[better] = counts[layer_b][part.at[better]]
        null = np.fmax(null, part.null)  # the null, like the match, is a maximum over all layers
    feature = {"layer_a": number, "feature_a": np.arange(size), "count_a": parts[0].count}
    match = {"mppc": value, "layer_b": layer, "feature_b": at, "count_b": count, "null": null}
    return pd.DataFrame(feature | match)[list(COLUMNS)]
