"""The patching table: what was measured, what can be said of it, and how it is shown and written."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import CircuitryError
from ..prompting.record import text
from ..store.files import write_csv, write_whole
from ..thresholds import LEVEL, RESAMPLES, SIGNIFICANT
from . import statistics, writing
from .measurements import COLUMNS as COLUMNS
from .measurements import Measurements
from .skewness import Outliers
from .statistics import Array

if TYPE_CHECKING:
    from .compare import By, Comparison

_WIDE = 130  # characters: a wider grid is printed without standard errors


class PatchingTable(Measurements):
    """Effects of a path with their statistics; a table is a value: make a new one rather than change it."""

    @cached_property
    def _described(self) -> pd.DataFrame:
        return self._describe()

    def _describe(self, *options: Any) -> pd.DataFrame:
        made = statistics.describe(self.values(), *options, outliers=self.outliers, signed=self.signed().to_numpy())
        return made.set_axis(self.mean().index)

    @cached_property
    def outliers(self) -> Outliers:
        """Examples far from the others, over all cells and random nodes whose effects can be negative.

        >>> PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.ones(8), "logit").outliers.enough
        False
        """
        random = self.random_values()
        return Outliers.of([self.values()[self.signed()], *([] if random is None else [random])])

    def statistics(self, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
        """What can be said of each cell's mean effect, indexed as ``mean``.

        ``mean``, ``se`` (standard error), ``low`` and ``high`` (bootstrap interval over examples), ``normalized`` (effect: 1 is that of the whole input), ``p`` (test of mean zero; NaN where effects are never negative), ``q`` (adjusted for false discoveries over all
        cells; NaN where p is below 0.05 but outliers may be missing among the examples), and ``random_quantile`` (fraction of random
        nodes whose |mean effect| is smaller; NaN without ``random``).

        >>> t = PatchingTable.of([{"layer": 0}], np.array([[1.0, 2.0, 3.0]]), np.zeros(3), np.full(3, 4.0), "logit")
        >>> t.statistics().round(2)[["mean", "se", "normalized", "p"]].values.tolist()
        [[2.0, 0.58, 0.5, 0.25]]
        """
        usual = (level, resamples, seed) == (LEVEL, RESAMPLES, 0)
        described = self._described if usual else self._describe(level, resamples, seed)
        made = described.copy()
        for place, name, column in ((0, "mean", self.mean()), (1, "se", self.sem()), (4, "normalized", self.normalized())):
            made.insert(place, name, column)
        return made.assign(random_quantile=self._beyond_random())

    def significant(self, q: float = SIGNIFICANT) -> pd.Series:
        """Which cells have an adjusted p below ``q``.

        >>> t = PatchingTable.of([{"layer": k} for k in (0, 1)], np.ones((2, 48)), np.zeros(48), np.ones(48), "logit")
        >>> t.significant().tolist()
        [True, True]
        """
        return self._described["q"] < q

    def can_show(self, q: float = SIGNIFICANT) -> bool:
        """Whether there are examples enough for a cell, or some of them together, to have an adjusted p below ``q``.

        >>> cells = [{"layer": n} for n in range(16)]
        >>> [PatchingTable.of(cells, np.ones((16, n)), np.zeros(n), np.ones(n), "logit").can_show() for n in (4, 12)]
        [False, True]
        """
        cells = int(self.signed().sum())
        return statistics.least_discovery(self.frame["example"].nunique(), cells, q) <= cells

    def _random_by_cell(self) -> list[Array | None]:
        """|Mean effect| of the random nodes that each cell is compared with."""
        cells = self.mean().index
        if self.random is None:
            return [None] * len(cells)
        shared, means = statistics.random_means(self.random, self.axes)
        keys = zip(*(cells.get_level_values(axis) for axis in shared), strict=True) if shared else [()] * len(cells)
        return [means.get(key) for key in keys]

    def _beyond_random(self) -> list[float]:
        # A draw may be the cell's own node: it is not smaller, whatever the last bit of either says.
        least = self.mean().abs() - self._rounding()
        pairs = zip(least, self._random_by_cell(), strict=True)
        return [np.nan if each is None or np.isnan(mean) else float((each < mean).mean()) for mean, each in pairs]

    def random_band(self, share: float = 0.95) -> pd.Series:
        """What |mean effect| this share of the random nodes stays within, by cell; NaN without ``random``.

        >>> random = pd.DataFrame({"draw": [0, 1, 2], "effect": [0.0, -2.0, 1.0]})
        >>> PatchingTable.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit", random=random).random_band(1.0).tolist()
        [2.0]
        """
        band = [np.nan if each is None else float(np.quantile(each, share)) for each in self._random_by_cell()]
        return pd.Series(band, index=self.mean().index)

    def notes(self, mark: str = "*") -> list[str]:
        """What a reader of the numbers must know: what the mark means, what could have been shown, and what random nodes do.

        >>> PatchingTable.of([{"layer": 0}], np.ones((1, 96)), np.zeros(96), np.ones(96), "logit").notes()
        ["* q < 0.05 (sign flips and Johnson's t, false-discovery control over 1 cell)"]
        """
        q, tested = SIGNIFICANT, int(self._described["p"].notna().sum())
        examples = int(np.isfinite(self.values()).sum(1).max(initial=0))
        found = []
        if tested:
            found.append(f"{mark} q < {q:g} ({statistics.TEST}, false-discovery control over {writing.count(tested, 'cell')})")
            found += statistics.withheld(self._described, self.outliers)
            needed = statistics.least_discovery(examples, tested, q)
            if needed > tested:
                found.append(f"{examples} examples cannot show anything at q < {q:g} over {writing.count(tested, 'cell')}")
            elif needed > 1:
                found.append(f"{examples} examples cannot show fewer than {needed} cells at q < {q:g} over {tested}")
        if not self.signed().all():
            found.append("no q where effects are never negative: their means are above zero by construction")
        if self.random is not None:
            _, means = statistics.random_means(self.random, self.axes)
            known = np.concatenate([[], *means.values()])
            middle, most = (float(np.quantile(known, part)) if known.size else np.nan for part in (0.5, 1.0))
            draws = writing.count(self.random["draw"].nunique(), "draw")
            found.append(f"random nodes: median |mean| {middle:.2g}, at most {most:.2g} over {draws}")
        if checked := self.provenance.get("verified"):
            found.append(str(checked))
        return found

    def caption(self) -> str:
        """One line that says what the numbers are, and what they can show.

        >>> PatchingTable.of([{"layer": 0}], np.ones((1, 1)), np.zeros(1), np.ones(1), "change of logit").caption()
        'mean change of logit over 1 example'
        """
        examples = self.frame["example"].nunique()
        distinct = self.provenance.get("distinct_examples", examples)
        different = f" ({distinct} different {'prompt' if distinct == 1 else 'prompts'})" if distinct < examples else ""
        error = " ± standard error" if self.sem().notna().any() else ""
        where = ", ".join(filter(None, [str(self.provenance.get("model", "")), text(self.provenance.get("task"))]))
        return "; ".join(
            filter(None, [f"mean {self.unit}{error} over {writing.count(examples, 'example')}{different}", where, *self.notes()])
        )

    def plot(self, path: str | FilePath | None = None) -> Any:
        """A heat map (two axes) or bars with bootstrap intervals (one axis), as a matplotlib Figure; saved if named.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> type(t.plot()).__name__
        'Figure'
        """
        from ..drawing.figures import save
        from .figures import plot_table

        figure = plot_table(self)
        if path is not None:
            save(figure, path)
        return figure

    def compare(self, other: PatchingTable, by: By = "normalized", **options: Any) -> Comparison:
        """This table beside another of the same axes, cell by cell, with tests of the difference: see ``Comparison``.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
        >>> t.compare(t).frame[["first", "second", "p"]].values.tolist()
        [[0.5, 0.5, 1.0]]
        """
        from .compare import compare

        return compare(self, other, by, **options)

    def __repr__(self) -> str:
        header, rows, labels = self._cells(2)
        if sum(max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)) > _WIDE:
            header, rows, labels = self._cells(2, errors=False)
        return f"{self.provenance.get('path', 'patching table')}\n{writing.plain(header, rows, labels)}\n({self.caption()})"

    def to_csv(self, path: str | FilePath) -> None:
        """Every row, as CSV.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> t.to_csv(folder / "t.csv")
        >>> (folder / "t.csv").read_text().splitlines()[0]
        'layer,example,effect,base,source'
        """
        write_csv(self.frame, FilePath(path), index=False)

    def to_parquet(self, path: str | FilePath) -> None:
        """Every row, as Parquet; an axis of mixed values becomes text.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> t.to_parquet(folder / "t.parquet")
        >>> len(pd.read_parquet(folder / "t.parquet"))
        2
        """
        mixed = {axis: str for axis in self.axes if self.frame[axis].dtype == object}
        write_whole(FilePath(path), lambda new: self.frame.astype(mixed).to_parquet(new, index=False))

    def to_json(self, path: str | FilePath) -> None:
        """Rows, random nodes and provenance; ``PatchingTable.from_json`` reads them back.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> t.to_json(folder / "t.json")
        >>> PatchingTable.from_json(folder / "t.json").axes
        ('layer',)
        """
        data = {"provenance": self.provenance, "axes": self.axes, "unit": self.unit, "rows": self.frame.to_dict("list")}
        if self.random is not None:
            data["random"] = self.random.to_dict("list")
        write_whole(FilePath(path), json.dumps(data, default=str))

    @classmethod
    def from_json(cls, path: str | FilePath) -> PatchingTable:
        """Read what ``to_json`` wrote. Raises CircuitryError for anything else.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> t.to_json(folder / "t.json")
        >>> PatchingTable.from_json(folder / "t.json").mean().tolist()
        [1.0]
        """
        try:
            data = json.loads(FilePath(path).read_text(encoding="utf-8"))
            random = _frame(data["random"]) if data.get("random") else None
            return cls(_frame(data["rows"]), tuple(data["axes"]), data["unit"], data["provenance"], random)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CircuitryError(f"{path} does not hold a patching table ({error}); to_json writes one") from error

    def to_markdown(self, path: str | FilePath | None = None, digits: int = 2) -> str:
        """Means with standard errors in Markdown, a star where significant, with the caption; one axis shows intervals too.

        >>> t = PatchingTable.of([{"layer": 0}], np.array([[1.0, 2.0, 3.0]]), np.zeros(3), np.ones(3), "logit")
        >>> print(t.to_markdown().splitlines()[2])
        | 0       |  2.00 ± 0.58 |  -0.46 to 4.46 |         200% | 0.250 |
        """
        return writing.written(writing.markdown(*self._cells(digits), self.caption()), path)

    def to_latex(self, path: str | FilePath | None = None, digits: int = 2) -> str:
        r"""The same as a LaTeX table with booktabs rules, with its caption.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> "\\toprule" in t.to_latex()
        True
        """
        return writing.written(writing.latex(*self._cells(digits), self.caption()), path)

    def _cells(self, digits: int, errors: bool = True) -> tuple[list[str], list[list[str]], int]:
        """The table as text: header, rows, and how many columns of these name the row.

        With one axis or none, a row for each cell; else a grid, where the last axis runs across and its name heads the labels.
        """
        seen = self.statistics()
        starred = self.significant()
        se = seen["se"] if errors else seen["se"] * np.nan
        shown = pd.Series(map(writing.measured, seen["mean"], se, starred, [digits] * len(seen)), seen.index, dtype=object)
        if len(self.axes) <= 1:
            columns = [map(str, seen.index if self.axes else ["effect"]), shown]
            columns.append(writing.span(low, high, digits) for low, high in zip(seen["low"], seen["high"], strict=True))
            columns += [map(writing.percent, seen["normalized"]), map(writing.probability, seen["q"])]
            header = [self.axes[0] if self.axes else "", f"mean {self.unit}", "95% interval", "normalized", "q"]
            return header, [list(row) for row in zip(*columns, strict=True)], 1
        grid = self.pivot(shown).fillna("--")
        labels = [*self.axes[:-2], f"{self.axes[-2]} \\ {self.axes[-1]}"]
        names = [index if isinstance(index, tuple) else (index,) for index in grid.index]
        rows = [[*map(str, name), *row] for name, row in zip(names, grid.to_numpy().tolist(), strict=True)]
        return [*labels, *map(str, grid.columns)], rows, len(labels)

    def save(self, folder: str | FilePath, name: str) -> list[FilePath]:
        """Everything a run folder holds of a table: rows, statistics, Markdown, LaTeX, and the picture as PNG and SVG.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> [path.name for path in t.save(folder, "t")]
        ['t.csv', 't.parquet', 't.json', 't.md', 't.tex', 't.png', 't.svg', 't-statistics.csv']
        """
        writers: dict[str, Callable[[FilePath], Any]] = {
            ".csv": self.to_csv, ".parquet": self.to_parquet, ".json": self.to_json, ".md": self.to_markdown,
            ".tex": self.to_latex, ".png": self.plot, ".svg": self.plot,
            "-statistics.csv": lambda path: write_csv(self.statistics(), path, index=bool(self.axes)),
        }  # fmt: skip
        return writing.all_written(writers, folder, name)


def _frame(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """A frame from JSON, where a tuple became a list."""
    return pd.DataFrame({name: [tuple(v) if isinstance(v, list) else v for v in column] for name, column in columns.items()})
