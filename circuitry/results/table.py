"""The patching table: one row per cell and example, so that means, errors and plots come for free."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from ..errors import CircuitryError

COLUMNS = ("example", "effect", "base", "other")
"""What every table has beside its axes."""
_IN_LATEX = str.maketrans({
    "\\": "/", "^": r"\^{}", "~": r"\~{}", "<": r"\textless{}", ">": r"\textgreater{}", **{c: f"\\{c}" for c in "_%&#${}"}
})  # fmt: skip


@dataclass
class PatchingTable:
    """Effects of a path, and where they come from.

    ``frame`` has a column for every axis, then ``example``, ``effect`` (in ``unit``), ``base`` and ``other`` (the metric on
    the unpatched and on the other input). ``about`` holds path, model, task, seed and versions, for the record.
    """

    frame: pd.DataFrame
    axes: tuple[str, ...]
    unit: str
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cells: Sequence[dict[str, Any]],
        effect: np.ndarray[Any, Any],
        base: np.ndarray[Any, Any],
        other: np.ndarray[Any, Any],
        unit: str,
        about: dict[str, Any] | None = None,
    ) -> PatchingTable:
        """Make a table of cells (axis values) and ``effect``, ``base`` and ``other`` [cell, example]; of these two, [example] will do.

        >>> t = PatchingTable.of([{"layer": 0}, {"layer": 1}], np.array([[1.0], [3.0]]), np.zeros(1), np.ones(1), "logit")
        >>> t.mean().tolist()
        [1.0, 3.0]
        """
        examples = effect.shape[1]
        axes = tuple(cells[0])
        columns: dict[str, Any] = {a: np.repeat(np.array([c[a] for c in cells], dtype=object), examples) for a in axes}
        columns["example"] = np.tile(np.arange(examples), len(cells))
        columns["effect"] = effect.ravel()
        columns |= {name: np.broadcast_to(values, effect.shape).ravel() for name, values in (("base", base), ("other", other))}
        return cls(pd.DataFrame(columns).infer_objects(), axes, unit, about or {})

    def __repr__(self) -> str:
        return f"{self.about.get('path', 'patching table')}\n{self.pivot().round(3).to_string()}\n({self.caption()})"

    def caption(self) -> str:
        """One line that says what the numbers are.

        >>> PatchingTable.of([{"layer": 0}], np.ones((1, 4)), np.zeros(4), np.ones(4), "change of logit").caption()
        'mean change of logit over 4 examples'
        """
        where = ", ".join(str(self.about[k]) for k in ("model", "task") if k in self.about)
        return f"mean {self.unit} over {self.frame['example'].nunique()} examples" + (f"; {where}" if where else "")

    def _grouped(self, values: pd.Series | None = None) -> Any:
        """Effects (or other values a row) by cell, in the order of the cells; one group where no axis is open."""
        keys: list[Any] = [self.frame[axis] for axis in self.axes] or [np.zeros(len(self.frame), int)]
        return (self.frame["effect"] if values is None else values).groupby(keys, sort=False)

    def mean(self) -> pd.Series:
        """Mean effect of each cell, indexed by the axes.

        >>> PatchingTable.of([{}], np.array([[1.0, 2.0]]), np.zeros(2), np.ones(2), "logit").mean().tolist()
        [1.5]
        """
        return pd.Series(self._grouped().mean())

    def sem(self) -> pd.Series:
        """Standard error of each cell's mean over examples; NaN with one example.

        >>> PatchingTable.of([{}], np.array([[1.0, 3.0]]), np.zeros(2), np.ones(2), "logit").sem().tolist()
        [1.0]
        """
        return self._grouped().sem()  # type: ignore[no-any-return]

    def share(self) -> pd.Series:
        """Mean effect as a share of what patching the whole input does: 1 is all of it, of the same sign.

        >>> PatchingTable.of([{}], np.array([[-1.0]]), np.array([2.0]), np.array([0.0]), "logit").share().tolist()
        [0.5]
        """
        whole: pd.Series = self._grouped(self.frame["other"] - self.frame["base"]).mean()
        return self.mean() / whole

    def pivot(self, values: pd.Series | None = None) -> pd.DataFrame:
        """Cell means (or other values by cell) as a grid: the first axis in rows, the last in columns.

        >>> t = PatchingTable.of([{"layer": 0}, {"layer": 1}], np.array([[1.0], [3.0]]), np.zeros(1), np.ones(1), "logit")
        >>> t.pivot().to_numpy().tolist()
        [[1.0, 3.0]]
        """
        values = self.mean() if values is None else values
        if len(self.axes) <= 1:
            name = self.axes[0] if self.axes else ""
            frame = values.to_frame().T
            frame.index, frame.columns = pd.Index(["effect"]), pd.Index(values.index, name=name)
            return frame
        grid: pd.DataFrame = values.unstack(self.axes[-1])
        first = [tuple(v) if isinstance(v, list) else v for v in dict.fromkeys(self.frame[self.axes[-1]])]
        return grid[first]

    def plot(self, path: str | FilePath | None = None) -> Any:
        """A heat map (two axes) or a bar chart with standard errors (one axis), as a matplotlib Figure; saved if named.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> type(t.plot()).__name__
        'Figure'
        """
        from .figures import plot_table, save

        figure = plot_table(self)
        if path is not None:
            save(figure, path)
        return figure

    def to_csv(self, path: str | FilePath) -> None:
        """Every row, as CSV.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> t.to_csv(folder / "t.csv")
        >>> (folder / "t.csv").read_text().splitlines()[0]
        'layer,example,effect,base,other'
        """
        self.frame.to_csv(_ready(path), index=False)

    def to_parquet(self, path: str | FilePath) -> None:
        """Every row, as Parquet. Raises CircuitryError where the extra is not installed.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> t.to_parquet(folder / "t.parquet")
        >>> len(pd.read_parquet(folder / "t.parquet"))
        2
        """
        try:
            self.frame.to_parquet(_ready(path), index=False)
        except ImportError as error:
            raise CircuitryError("writing Parquet needs the extra: pip install 'circuitry-lm[parquet]'") from error

    def to_json(self, path: str | FilePath) -> None:
        """Rows and provenance; ``PatchingTable.from_json`` reads them back.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> t.to_json(folder / "t.json")
        >>> PatchingTable.from_json(folder / "t.json").axes
        ('layer',)
        """
        data = {"about": self.about, "axes": self.axes, "unit": self.unit, "rows": self.frame.to_dict("list")}
        _ready(path).write_text(json.dumps(data, default=str))

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
            data = json.loads(FilePath(path).read_text())
            return cls(pd.DataFrame(data["rows"]), tuple(data["axes"]), data["unit"], data["about"])
        except (KeyError, TypeError, ValueError) as error:
            raise CircuitryError(f"{path} is no patching table ({error}); to_json writes one") from error

    def to_markdown(self, path: str | FilePath | None = None, digits: int = 2) -> str:
        """The grid of means in Markdown, with its caption.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> print(t.to_markdown())
        | layer   |    0 |
        |:--------|-----:|
        | effect  | 1.00 |
        <BLANKLINE>
        *mean logit over 2 examples*
        """
        header, rows = self._cells(digits)
        align = ["left"] * max(1, len(self.axes) - 1) + ["right"] * len(header)
        table = tabulate(rows, header, "pipe", disable_numparse=True, colalign=align[: len(header)])
        text = f"{table}\n\n*{self.caption()}*"
        if path is not None:
            _ready(path).write_text(text + "\n")
        return text

    def to_latex(self, path: str | FilePath | None = None, digits: int = 2) -> str:
        r"""The grid of means as a LaTeX table with booktabs rules, with its caption.

        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> "\\toprule" in t.to_latex()
        True
        """
        header, rows = self._cells(digits)
        labels = max(1, len(self.axes) - 1)
        lines = ["\\begin{table}", "\\centering", f"\\caption{{{_escape(self.caption())}}}"]
        lines += [f"\\begin{{tabular}}{{{'l' * labels}{'r' * (len(header) - labels)}}}", "\\toprule"]
        lines += [_latex_row(header), "\\midrule", *map(_latex_row, rows)]
        text = "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"])
        if path is not None:
            _ready(path).write_text(text + "\n")
        return text

    def _cells(self, digits: int) -> tuple[list[str], list[list[str]]]:
        """The grid as text: header and rows, row labels first; the last axis runs across, and its name heads the labels."""
        grid = self.pivot()
        labels = list(self.axes[:-1]) or [""]
        across = self.axes[-1] if self.axes else ""
        labels[-1] = " \\ ".join(filter(None, [labels[-1], across])) if len(self.axes) > 1 else across
        rows = []
        for index, values in zip(grid.index, grid.to_numpy(dtype=float), strict=True):
            names = index if isinstance(index, tuple) else (index,)
            # Adding zero makes a rounded -0.0 plain 0.
            numbers = ("--" if np.isnan(v) else f"{round(v, digits) + 0.0:.{digits}f}" for v in values.tolist())
            rows.append([*map(str, names), *numbers])
        return [*labels, *map(str, grid.columns)], rows

    def save(self, folder: str | FilePath, name: str) -> list[FilePath]:
        """Everything a run folder holds of a table: CSV, JSON, Markdown, LaTeX, and the picture as PNG and SVG.

        >>> import tempfile
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> folder = FilePath(tempfile.mkdtemp())
        >>> [path.suffix for path in t.save(folder, "table1")]
        ['.csv', '.json', '.md', '.tex', '.png', '.svg']
        """
        writers: dict[str, Callable[[FilePath], Any]] = {
            ".csv": self.to_csv,
            ".json": self.to_json,
            ".md": self.to_markdown,
            ".tex": self.to_latex,
        }
        writers |= {".png": self.plot, ".svg": self.plot}
        written = []
        for suffix, write in writers.items():
            written.append(FilePath(folder) / f"{name}{suffix}")
            write(written[-1])
        return written


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escape, cells)) + r" \\"


def _escape(text: str) -> str:
    """Text for LaTeX: a backslash only ever parts two axis names here."""
    return text.translate(_IN_LATEX)


def _ready(path: str | FilePath) -> FilePath:
    """The path, with its folder made."""
    made = FilePath(path)
    made.parent.mkdir(parents=True, exist_ok=True)
    return made
