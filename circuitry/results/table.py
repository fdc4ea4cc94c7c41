"""The patching table: effects with their statistics, and how they are shown and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..colours import clipped
from ..drawing.scales import Scale
from ..errors import CircuitryError
from ..html.shown import Shown
from ..prompting.texts import PromptTexts
from ..store.files import write_csv, write_whole
from ..thresholds import SIGNIFICANT
from . import examples, left_out, statistics, writing
from .labels import Labels, fixed, labels_of
from .latex import latex
from .recorded import setting
from .significance import Assessed
from .top_1 import below_threshold

if TYPE_CHECKING:
    from markupsafe import Markup

    from .compare import By, Comparison

_WIDE = 130  # characters: a wider grid is printed without standard errors


class PatchingTable(Shown, Assessed):
    """Effects of a path with their statistics; a table is a value: make a new one rather than change it."""

    @cached_property
    def labels(self) -> Labels:
        """By axis, the labels of the latents that its values stand for; empty unless their autoencoder has labels.

        >>> provenance = {"path": "a[1].latent[{k}] -> b", "labels": {"a[1].latent[3]": "brackets"}}
        >>> t = PatchingTable.of([{"k": 3}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit", provenance)
        >>> t.labels, t.named("k", 3)
        ({'k': {3: 'brackets'}}, '3 brackets')
        """
        cells = self.frame[list(self.axes)].drop_duplicates().to_dict("records") if self.provenance.get("labels") else []
        return labels_of([{str(axis): value for axis, value in cell.items()} for cell in cells], self.provenance)

    def named(self, axis: str, value: Any) -> str:
        """A value of an axis as text, with its label if it has one.

        >>> PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit").named("layer", 0)
        '0'
        """
        label = self.labels.get(axis, {}).get(value)
        return f"{value} {clipped(label)}" if label else str(value)

    def notes(self, mark: str = "*") -> list[str]:
        """What a reader of the numbers must know: what the mark means, what could have been shown, and what random nodes do.

        >>> PatchingTable.of([{"layer": 0}], np.ones((1, 96)), np.zeros(96), np.ones(96), "logit").notes()
        ["* q < 0.05 (sign flips and Johnson's t, false-discovery control over 1 cell)"]
        """
        q, tested = SIGNIFICANT, int(self._described["p"].notna().sum())
        examples = int(np.isfinite(self.values()).sum(1).max(initial=0))
        notes = [*fixed(self.provenance)]
        if tested:
            notes.append(f"{mark} q < {q:g} ({statistics.TEST}, false-discovery control over {writing.count(tested, 'cell')})")
            notes += statistics.withheld(self._described, self.outliers)
            needed = statistics.least_discovery(examples, tested, q)
            if needed > tested:
                notes.append(f"{examples} examples cannot show anything at q < {q:g} over {writing.count(tested, 'cell')}")
            elif needed > 1:
                notes.append(f"{examples} examples cannot show fewer than {needed} cells at q < {q:g} over {tested}")
        if not self.signed().all():
            notes.append("no q where effects are never negative: their means are above zero by construction")
        if self.random is not None:
            _, means = statistics.random_means(self.random, self.axes)
            all_means = np.concatenate([[], *means.values()])
            middle, most = (float(np.quantile(all_means, part)) if all_means.size else np.nan for part in (0.5, 1.0))
            draws = writing.count(self.random["draw"].nunique(), "draw")
            notes.append(f"random nodes: median |mean| {middle:.2g}, at most {most:.2g} over {draws}")
        if below := below_threshold(self.provenance.get("top_1")):
            notes.append(below)
        notes += left_out.said(self.provenance.get("skipped") or [])
        if checked := self.provenance.get("verified"):
            notes.append(str(checked))
        return notes

    def caption(self) -> str:
        """One line that says what the numbers are, and what they can show.

        >>> PatchingTable.of([{"layer": 0}], np.ones((1, 1)), np.zeros(1), np.ones(1), "change of logit").caption()
        'mean change of logit over 1 example'
        """
        examples = self.frame["example"].nunique()
        distinct = self.provenance.get("distinct_examples", examples)
        different = f" ({distinct} different {'prompt' if distinct == 1 else 'prompts'})" if distinct < examples else ""
        error = " ± standard error" if self.sem().notna().any() else ""
        what = f"mean {self.unit}{error} over {writing.count(examples, 'example')}{different}"
        return "; ".join([what, *setting(self.provenance), *self.notes()])

    def plot(self, path: str | FilePath | None = None, style: str | None = None) -> Any:
        """A heat map (two axes) or bars with bootstrap intervals (one axis), as a matplotlib Figure; saved if named.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> type(t.plot()).__name__
        'Figure'
        """
        from ..drawing.figures import plotted
        from .figures import plot_table

        return plotted(plot_table, self, path, style)

    def compare(self, other: PatchingTable, by: By = "normalized", **options: Any) -> Comparison:
        """This table beside another of the same axes, cell by cell, with tests of the difference: see ``Comparison``.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
        >>> t.compare(t).frame[["first", "second", "p"]].values.tolist()
        [[0.5, 0.5, 1.0]]
        """
        from .compare import compare

        return compare(self, other, by, **options)

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_table

        return of_table(self)

    def examples(self, **cell: Any) -> pd.DataFrame:
        """The examples behind one cell, which has a value for every axis; those that disagree most with its mean come first.

        Columns: ``example``, ``effect``, ``deviation`` (from the cell's mean), ``z`` (robust: the distance from the median in units
        of 1.4826 times the median absolute deviation), ``whole`` (the effect of exchanging the whole input), and if the table has
        its prompts, ``prompt`` (clean, with the tokens that differ as ``[clean->corrupted]``), ``answer`` and ``foil``. Raises
        CircuitryError for a cell that the table does not have.

        >>> import circuitry as ct
        >>> model, task = ct.load("bundled:gpt_neox"), ct.task("ioi", examples=4)
        >>> table = ct.patch(model, task, "head[{layer},{head}] @ END -> logits", axes={"layer": [1], "head": [0, 1]}, baseline=0)
        >>> frame = table.examples(layer=1, head=0)
        >>> bool(frame["effect"].mean().round(4) == table.mean()[1, 0].round(4)), frame["deviation"].abs().is_monotonic_decreasing
        (True, True)
        >>> "->" in frame["prompt"][0]
        True
        """
        return examples.of_cell(self, cell)

    def outlying(self) -> pd.DataFrame:
        """The examples over all cells, those that disagree most first: a bad batch of prompts is at the top.

        Columns as in ``examples``; ``deviation`` is the mean over the cells of how much farther from zero than the cell's mean an
        example's effect is (negative: nearer, or on the other side), and ``outlier`` says whether z is at least 3.5 or at most
        -3.5. Cells that were measured on other prompts, such as those of another distance, have rows of their own.

        >>> effects = np.array([[1.0, 1.1, 0.9, 1.0, -2.0], [-3.0, -3.1, -2.9, -3.0, 0.0]])
        >>> t = PatchingTable.of([{"layer": 0}, {"layer": 1}], effects, np.zeros(5), np.ones(5), "logit")
        >>> t.outlying()[["example", "deviation", "outlier"]].head(2).round(2).values.tolist()
        [[4, -2.4, True], [1, 0.7, False]]
        """
        return examples.over_cells(self)

    def __repr__(self) -> str:
        header, rows, labels = self._cells(2)
        if sum(max(map(len, column)) + 2 for column in zip(header, *rows, strict=True)) > _WIDE:
            header, rows, labels = self._cells(2, errors=False)
        return (
            f"{self.provenance.get('path', 'patching table')}\n{writing.plain(header, rows, labels)}\n({self._scaled_caption(2)})"
        )

    def _scaled_caption(self, digits: int) -> str:
        """The caption of a grid, whose header has no place for the scale of its numbers."""
        note = self.scale(digits).note if len(self.axes) > 1 else ""
        return f"numbers {note}; {self.caption()}" if note else self.caption()

    def scale(self, digits: int = 2) -> Scale:
        """The scale in which the table's means are shown; one of 1e-6 has the exponent -6.

        >>> PatchingTable.of([{"layer": 0}], np.full((1, 2), 3e-6), np.zeros(2), np.ones(2), "logit").scale().note
        'in 1e-6'
        """
        return Scale.of(self.mean(), digits)

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
        data: dict[str, Any] = {
            "provenance": self.provenance,
            "axes": self.axes,
            "unit": self.unit,
            "rows": self.frame.to_dict("list"),
        }
        if self.random is not None:
            data["random"] = self.random.to_dict("list")
        if self.prompts:
            data["prompts"] = [{"cells": cells, **texts.to_data()} for cells, texts in self.prompts]
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
            prompts = tuple((_values(entry["cells"]), PromptTexts.from_data(entry)) for entry in data.get("prompts", []))
            return cls(_frame(data["rows"]), tuple(data["axes"]), data["unit"], data["provenance"], random, prompts)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            former = error.args == ("provenance",)
            hint = "an earlier version wrote tables with other columns; patch again" if former else "to_json writes one"
            raise CircuitryError(f"{path} does not hold a patching table ({error}); {hint}") from error

    def to_markdown(self, path: str | FilePath | None = None, digits: int = 2) -> str:
        """Means with standard errors in Markdown, a star where significant, with the caption; one axis shows intervals too.

        >>> t = PatchingTable.of([{"layer": 0}], np.array([[1.0, 2.0, 3.0]]), np.zeros(3), np.ones(3), "logit")
        >>> print(t.to_markdown().splitlines()[2])
        | 0       |  2.00 ± 0.58 |  -0.46 to 4.46 |         200% | 0.250 |
        """
        return writing.written(writing.markdown(*self._cells(digits), self._scaled_caption(digits)), path)

    def to_latex(self, path: str | FilePath | None = None, digits: int = 2) -> str:
        r"""The same as a LaTeX table with booktabs rules; title or path, and caption, are above it, with a label to refer to.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> "\\toprule" in t.to_latex(), r"\label{tab:states-by-layer}" in t.titled("States by layer").to_latex()
        (True, True)
        """
        title = str(self.provenance.get("title") or self.provenance.get("path", ""))
        return writing.written(latex(*self._cells(digits), self._scaled_caption(digits), title), path)

    def _cells(self, digits: int, errors: bool = True) -> tuple[list[str], list[list[str]], int]:
        """The table as text: header, rows, and how many columns of these name the row.

        With one axis or none, a row for each cell; else a grid whose columns are the last axis.
        """
        seen, starred, scale = self.statistics(), self.significant(), self.scale(digits)
        se = seen["se"] if errors else seen["se"] * np.nan
        means = zip(seen["mean"], se, starred, strict=True)
        shown = pd.Series([writing.measured(*mean, scale=scale) for mean in means], seen.index, dtype=object)
        if len(self.axes) <= 1:
            scales = [scale.seen(mean) if star else scale for mean, star in zip(seen["mean"], starred, strict=True)]
            columns: list[Any] = [[self.named(self.axes[0], value) for value in seen.index] if self.axes else ["effect"], shown]
            ends = zip(seen["low"], seen["high"], scales, strict=True)
            columns.append([writing.span(low, high, scale=one) for low, high, one in ends])
            columns += [map(writing.percent, seen["normalized"]), map(writing.probability, seen["q"])]
            header = [self.axes[0] if self.axes else "", scale.unit(f"mean {self.unit}"), "95% interval", "normalized", "q"]
            return header, [list(row) for row in zip(*columns, strict=True)], 1
        grid = self.pivot(shown).fillna("--")
        labels = [*self.axes[:-2], f"{self.axes[-2]} \\ {self.axes[-1]}"]
        names = list(grid.index) if len(self.axes) > 2 else [(value,) for value in grid.index]
        heads = [[self.named(axis, value) for axis, value in zip(self.axes, name, strict=False)] for name in names]
        rows = [[*head, *row] for head, row in zip(heads, grid.to_numpy().tolist(), strict=True)]
        return [*labels, *(self.named(self.axes[-1], value) for value in grid.columns)], rows, len(labels)

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


def _values(cells: dict[str, Any]) -> dict[str, Any]:
    """Axis values from JSON, in which tuples have become lists."""
    return {axis: tuple(value) if isinstance(value, list) else value for axis, value in cells.items()}


def _frame(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """A frame from JSON, in which tuples have become lists."""
    return pd.DataFrame({name: [tuple(v) if isinstance(v, list) else v for v in column] for name, column in columns.items()})
