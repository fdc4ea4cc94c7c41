"""Two patching tables beside each other, cell by cell: two models on one task, or one model under two settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from ..drawing.scales import Scale
from ..errors import CircuitryError, suggest
from ..html.shown import Shown
from ..prompting.record import text
from ..store.files import write_csv
from ..thresholds import LEVEL, RESAMPLES, SIGNIFICANT
from . import statistics, writing
from .latex import latex
from .measurements import Measurements
from .naming import told_apart
from .recorded import facts
from .skewness import Outliers, widths
from .statistics import Array

if TYPE_CHECKING:
    from markupsafe import Markup

By: TypeAlias = Literal["normalized", "effect"]
Pair: TypeAlias = tuple[Array, Array]
COLUMNS = ["first", "second", "difference", "low", "high", "p", "q"]
_FEW = 6


@dataclass
class Comparison(Shown):
    """Cells that both tables have, and what differs.

    ``frame`` is indexed by the axes, with columns ``first``, ``second`` (normalized effects, or mean effects),
    ``difference`` (first less second), ``low`` and ``high`` (bootstrap interval of the difference at ``level``), ``p``
    (test of no difference) and ``q`` (adjusted for false discoveries over all cells; NaN where p is below 0.05 but could be due to
    outliers that are missing among the examples). ``names`` say which table is which, ``unit`` what the numbers are, ``method``
    how the examples were compared, ``missing`` which cells only one table has, ``outliers`` how far examples lie from each
    other, over all cells, and ``settings`` how sources were patched, in which model and task. ``too_few`` says so if the examples cannot show that a single cell differs.
    """

    frame: pd.DataFrame
    axes: tuple[str, ...]
    unit: str
    names: tuple[str, str]
    paired: bool
    method: str
    level: float
    missing: list[str]
    outliers: Outliers
    settings: tuple[str, ...] = ()
    too_few: str = ""

    def significant(self, q: float = SIGNIFICANT) -> pd.Series:
        """Which cells differ, with an adjusted p below ``q``.

        >>> from circuitry.results import PatchingTable
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
        >>> t.compare(t).significant().tolist()
        [False]
        """
        return self.frame["q"] < q

    def caption(self) -> str:
        """One line that says what the numbers are and how they were tested.

        >>> from circuitry.results import PatchingTable
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
        >>> t.compare(t).caption()
        "normalized effect; first and second; 95% bootstrap interval of the difference; * q < 0.05 (8 and 8 examples, label shuffles and Johnson's t, false-discovery control over 1 cell)"
        """
        cells = writing.count(int(self.frame["p"].notna().sum()), "cell")
        parts = [self.unit, " and ".join(self.names), *self.settings, f"{self.level:.0%} bootstrap interval of the difference"]
        parts.append(f"* q < {SIGNIFICANT:g} ({self.method}, false-discovery control over {cells})")
        return "; ".join([*parts, *self.notes])

    @property
    def notes(self) -> list[str]:
        """How many cells have no q, and which cells only one table has.

        >>> from circuitry.results import PatchingTable
        >>> one, two = (PatchingTable.of([{"layer": 0}], np.full((1, 8), x), np.zeros(8), np.full(8, 2.0), "logit") for x in (1.0, 2.0))
        >>> one.compare(two).notes
        ['no q for 1 cell: 16 effects are too few to tell how skewed they are, 90 are enough']
        """
        few = [self.too_few] if self.too_few else []
        return [*few, *statistics.withheld(self.frame, self.outliers), *self.missing]

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_comparison

        return of_comparison(self)

    def __repr__(self) -> str:
        return f"{' and '.join(self.names)}\n{writing.plain(*self._cells(2))}\n({self._scaled_caption(2)})"

    def _scaled_caption(self, digits: int) -> str:
        note = self.scale(digits).note
        return f"numbers {note}; {self.caption()}" if note else self.caption()

    def _cells(self, digits: int) -> tuple[list[str], list[list[str]], int]:
        """Header, rows, and how many columns of these name the cell."""
        rows, scale = [], self.scale(digits)
        numbers: list[list[float]] = self.frame.to_numpy(float).tolist()
        for index, (first, second, difference, low, high, _, q) in zip(self.frame.index, numbers, strict=True):
            names = index if isinstance(index, tuple) and len(self.axes) > 1 else (index if self.axes else "effect",)
            star = q < SIGNIFICANT
            at = scale.seen(difference) if star else scale
            shown = [
                *map(scale.text, (first, second)),
                writing.measured(difference, star=star, scale=scale),
                writing.span(low, high, scale=at),
            ]
            rows.append([*map(str, names), *shown, writing.probability(q)])
        labels = list(self.axes) or [""]
        return [*labels, *self.names, "difference", f"{self.level:.0%} interval", "q"], rows, len(labels)

    def scale(self, digits: int = 2) -> Scale:
        """The scale in which both numbers and their difference are shown.

        >>> from circuitry.results import PatchingTable
        >>> t = PatchingTable.of([{"layer": 0}], np.full((1, 8), 2e-6), np.zeros(8), np.full(8, 2.0), "logit")
        >>> t.compare(t).scale().note
        'in 1e-6'
        """
        return Scale.of(self.frame[["first", "second"]].to_numpy(float).ravel(), digits)

    def to_markdown(self, path: str | FilePath | None = None, digits: int = 2) -> str:
        """Both numbers of each cell, their difference with its interval, and q, in Markdown.

        >>> from circuitry.results import PatchingTable
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
        >>> print(t.compare(t).to_markdown().splitlines()[2])
        | 0       |    0.50 |     0.50 |         0.00 |   0.00 to 0.00 | 1.000 |
        """
        return writing.written(writing.markdown(*self._cells(digits), self._scaled_caption(digits)), path)

    def to_latex(self, path: str | FilePath | None = None, digits: int = 2) -> str:
        r"""The same as a LaTeX table with booktabs rules.

        >>> from circuitry.results import PatchingTable
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
        >>> "\\toprule" in t.compare(t).to_latex()
        True
        """
        return writing.written(latex(*self._cells(digits), self._scaled_caption(digits), " and ".join(self.names)), path)

    def plot(self, path: str | FilePath | None = None, style: str | None = None) -> Any:
        """Both numbers of each cell joined by a line, beside their difference with its interval; saved if named.

        >>> from circuitry.results import PatchingTable
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
        >>> len(t.compare(t).plot().axes)
        2
        """
        from ..drawing.figures import plotted
        from .figures import plot_comparison

        return plotted(plot_comparison, self, path, style)

    def save(self, folder: str | FilePath, name: str) -> list[FilePath]:
        """Everything a run folder holds of a comparison: numbers, Markdown, LaTeX, and the picture as PNG and SVG.

        >>> import tempfile
        >>> from circuitry.results import PatchingTable
        >>> t = PatchingTable.of([{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.full(8, 2.0), "logit")
        >>> [path.suffix for path in t.compare(t).save(tempfile.mkdtemp(), "both")]
        ['.csv', '.md', '.tex', '.png', '.svg']
        """
        writers: dict[str, Callable[[FilePath], Any]] = {
            ".csv": lambda path: write_csv(self.frame, path, index=bool(self.axes)),
            ".md": self.to_markdown, ".tex": self.to_latex, ".png": self.plot, ".svg": self.plot,
        }  # fmt: skip
        return writing.all_written(writers, folder, name)


def compare(
    first: Measurements,
    second: Measurements,
    by: By = "normalized",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare the cells that both tables have, by their normalized effect or by the effect itself.

    Examples are paired if both tables have the same task text and number of examples, else the tables are two samples. Raises
    CircuitryError if the axes differ, no cell is shared, or effects of different units are to be compared.

    >>> from circuitry.results import PatchingTable
    >>> one, two = (PatchingTable.of([{"layer": 0}], np.full((1, 8), x), np.zeros(8), np.full(8, 2.0), "logit") for x in (1.0, 2.0))
    >>> compare(one, two).frame[["first", "second", "difference"]].values.tolist()
    [[0.5, 1.0, -0.5]]
    """
    _check(first, second, by)
    places = [{cell: i for i, cell in enumerate(table.mean().index)} for table in (first, second)]
    shared = [cell for cell in places[0] if cell in places[1]]
    if not shared:
        raise CircuitryError(f"no cell is in both tables; the first has {_some(places[0])}, the second {_some(places[1])}")
    tables = list(zip((first, second), ([place[cell] for cell in shared] for place in places), strict=True))
    effects = tuple(table.values()[rows] for table, rows in tables)
    wholes = tuple((table.values("source") - table.values("base"))[rows] for table, rows in tables)
    if by == "effect":  # with whole effects of 1, the ratio of means is the mean effect
        wholes = tuple(np.where(np.isnan(effect), np.nan, 1.0) for effect in effects)
    paired = _paired(first, second)
    sides = _complete((effects[0], effects[1]), (wholes[0], wholes[1]), paired)
    outliers = Outliers.of(_samples(*sides, paired))
    frame = _tested(*sides, paired, outliers, level, resamples, seed).set_axis(first.mean().index[tables[0][1]])
    counts = [effect.shape[1] for effect in effects]
    method = (
        f"{counts[0]} pairs of examples, {statistics.TEST}"
        if paired
        else f"{counts[0]} and {counts[1]} examples, {statistics.TWO_SAMPLE_TEST}"
    )
    unit = "normalized effect" if by == "normalized" else f"mean {first.unit}"
    names = told_apart(first.provenance, second.provenance)
    alone = [[cell for cell in place if cell not in set(shared)] for place in places]
    missing = [f"only in {name}: {_some(cells)}" for name, cells in zip(names, alone, strict=True) if cells]
    few = _too_few(counts[0], counts[1], int(frame["p"].notna().sum()), paired)
    return Comparison(
        frame, first.axes, unit, names, paired, method, level, missing, outliers, _settings(first, second, names), few
    )


def _settings(first: Measurements, second: Measurements, names: tuple[str, str]) -> tuple[str, ...]:
    """What both records say; where they differ, what each says, under its name, unless the names say it."""
    shown = []
    for pair in zip(facts(first.provenance), facts(second.provenance), strict=True):
        if pair[0] == pair[1]:
            shown.append(pair[0])
        elif pair != names:
            shown += [f"{name}: {said or 'not recorded'}" for name, said in zip(names, pair, strict=True)]
    return tuple(filter(None, shown))


def _too_few(first: int, second: int, cells: int, paired: bool) -> str:
    least = statistics.least_discovery(first, cells) if paired else statistics.least_difference(first, second, cells)
    if not cells or least <= 1:
        return ""
    some = f"fewer than {least} differences of {cells}" if least <= cells else f"any difference in {writing.count(cells, 'cell')}"
    return f"too few examples to show {some}"


def _check(first: Measurements, second: Measurements, by: str) -> None:
    if by not in get_args(By):
        raise CircuitryError(f"tables are not compared by {by!r}; {suggest(by, get_args(By))}")
    if first.axes != second.axes:
        shown = " and ".join(", ".join(table.axes) or "none" for table in (first, second))
        raise CircuitryError(f"the tables have different axes ({shown}); select() drops an axis")
    if by == "effect" and first.unit != second.unit:
        raise CircuitryError(f"effects in {first.unit} and in {second.unit} cannot be subtracted; try by='normalized'")


def _paired(first: Measurements, second: Measurements) -> bool:
    """Whether both tables have the same prompts, example by example, by their records."""
    task = text(first.provenance.get("task"))
    return task != "" and task == text(second.provenance.get("task")) and first.values().shape[1] == second.values().shape[1]


def _some(cells: Any) -> str:
    shown = [str(cell) for cell in cells]
    return ", ".join(shown[:_FEW]) + (f" and {len(shown) - _FEW} more" if len(shown) > _FEW else "")


def _complete(effects: Pair, wholes: Pair, paired: bool) -> tuple[Pair, Pair]:
    """Effect and whole effect of each side [cell, example], complete examples first and NaN after them; pairs stay aligned."""
    complete = tuple(np.isfinite(effect) & np.isfinite(whole) for effect, whole in zip(effects, wholes, strict=True))
    if paired:
        complete = (complete[0] & complete[1],) * 2
    sides = []
    for effect, whole, complete_here in zip(effects, wholes, complete, strict=True):
        place = np.argsort(~complete_here, axis=1, kind="stable")
        ordered = [np.take_along_axis(np.where(complete_here, values, np.nan), place, axis=1) for values in (effect, whole)]
        sides.append((ordered[0], ordered[1]))
    return sides[0], sides[1]


def _samples(first: Pair, second: Pair, paired: bool) -> list[Array]:
    """What is tested, [cell, example] with NaN for none: differences of pairs, or each side's pulls on its normalized effect."""
    pulls = []
    for effect, whole in (first, second):
        with np.errstate(invalid="ignore", divide="ignore"):
            pulls.append(_pulls(effect, whole))
    return [pulls[0] - pulls[1]] if paired else pulls


def _tested(
    first_side: Pair, second_side: Pair, paired: bool, outliers: Outliers, level: float, resamples: int, seed: int
) -> pd.DataFrame:
    """All columns; cells with the same numbers of complete examples are tested together."""
    counts = np.stack([np.isfinite(effect).sum(1) for effect, _ in (first_side, second_side)], axis=1)
    columns, hidden = np.full((len(counts), len(COLUMNS)), np.nan), np.zeros(len(counts), bool)
    for n, m in np.unique(counts[counts.min(1) >= 2], axis=0):
        rows = (counts == (n, m)).all(1)
        first, second = ((effect[rows, :k], whole[rows, :k]) for (effect, whole), k in ((first_side, n), (second_side, m)))
        columns[rows, :6] = _estimated(first, second, paired, level, resamples, seed, statistics.draws_for(len(counts)))
        samples = [np.sort(sample, axis=1) for sample in _samples(first, second, paired)]
        hidden[rows] = outliers.may_hide(columns[rows, 2], np.max([widths(sample) for sample in samples], axis=0), min(n, m))
    columns[:, 6] = statistics.false_discovery(columns[:, 5], hidden)
    return pd.DataFrame(columns, columns=COLUMNS)


def _estimated(first_side: Pair, second_side: Pair, paired: bool, level: float, resamples: int, seed: int, draws: int) -> Array:
    """Both estimates, their difference, its interval and p, [cell, 6], if every cell has the same number of examples."""
    pulls = _pulls(*first_side), _pulls(*second_side)
    first, second = (pull.mean(1) for pull in pulls)
    rng, sizes = np.random.default_rng(seed), [pull.shape[1] for pull in pulls]
    weights = [statistics.resampling(n, resamples, rng) for n in sizes[: 1 if paired else 2]]
    ratios = [_ratios(side, weight) for side, weight in zip((first_side, second_side), (weights * 2)[:2], strict=True)]
    centred = [(pull - pull.mean(1, keepdims=True)) / n for pull, n in zip(pulls, sizes, strict=True)]
    influence = centred[0] - centred[1] if paired else np.concatenate([centred[0], -centred[1]], axis=1)
    difference = first - second
    replicates = ratios[0] - ratios[1] - difference
    interval = statistics.corrected(replicates, influence, level, min(sizes))
    low, high = statistics.widened(interval, replicates, min(sizes), level)
    test = (
        statistics.mean_test(pulls[0] - pulls[1], draws, seed)
        if paired
        else statistics.two_sample_test(pulls[0], pulls[1], draws, seed)
    )
    return np.stack([first, second, difference, difference + low, difference + high, test], axis=1)


def _ratios(side: Pair, weights: Array) -> Array:
    """Mean effect over mean whole effect on each resample, [resample, cell]."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((weights @ side[0].T) / (weights @ side[1].T))


def _pulls(effect: Array, whole: Array) -> Array:
    """Each example's value of the ratio of means, to first order: their mean is the ratio, and their spread is that of the ratio."""
    counted = np.isfinite(effect).sum(1)
    total, scale = np.nansum(effect, axis=1) / counted, (np.nansum(whole, axis=1) / counted)[:, None]
    normalized = total[:, None] / scale
    return np.asarray(normalized + (effect - normalized * whole) / scale)
