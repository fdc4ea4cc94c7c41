"""Tables as text: Markdown from a header and rows, and one cell's number with its error and its star. LaTeX is in ``latex``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from ..drawing.scales import Scale
from ..store.files import write_csv, write_whole

if TYPE_CHECKING:
    import pandas as pd


def number(value: float, digits: int = 2, scale: Scale | None = None) -> str:
    """A number with this many digits after the point, or in a scale; two dashes for NaN.

    >>> number(-0.001), number(1.5, 3), number(float("nan")), number(2e-6, scale=Scale(-6))
    ('0.00', '1.500', '--', '2.00')
    """
    return (scale or Scale(0, digits)).text(value)


def measured(mean: float, error: float = math.nan, star: bool = False, digits: int = 2, scale: Scale | None = None) -> str:
    """A mean with its standard error, and a star if it is significant. What has a star never reads as zero.

    >>> measured(-9.654, 0.312, True), measured(1.0), measured(float("nan")), measured(2e-6, 1e-6, True)
    ('-9.65 ± 0.31*', '1.00', '--', '2e-06 ± 1e-06*')
    """
    scale = scale or Scale(0, digits)
    scale = scale.seen(mean) if star else scale
    return scale.text(mean) + ("" if math.isnan(error) else f" ± {scale.text(error)}") + "*" * star


def probability(value: float) -> str:
    """A p or q as text.

    >>> probability(0.0312), probability(0.00002), probability(float("nan"))
    ('0.031', '<0.001', '--')
    """
    return "--" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: float) -> str:
    """A fraction as per cent; two dashes if it is not finite.

    >>> percent(0.123), percent(-0.001), percent(float("inf"))
    ('12%', '0%', '--')
    """
    return f"{round(value, 2) + 0.0:.0%}" if math.isfinite(value) else "--"


def span(low: float, high: float, digits: int = 2, scale: Scale | None = None) -> str:
    """An interval as text.

    >>> span(-1.0, 2.0), span(float("nan"), float("nan")), span(1e-6, 2e-6, scale=Scale(-6))
    ('-1.00 to 2.00', '--', '1.00 to 2.00')
    """
    scale = scale or Scale(0, digits)
    return "--" if math.isnan(low) else f"{scale.text(low)} to {scale.text(high)}"


def having(components: str) -> str:
    """Components and the verb for their joint effect.

    >>> having("the 1 state"), having("the 2 heads at END")
    ('the 1 state has', 'the 2 heads at END together have')
    """
    return f"{components} has" if components.startswith("the 1 ") else f"{components} together have"


def count(number: int, noun: str) -> str:
    """A number of things, in words.

    >>> count(1, "cell"), count(2, "cell")
    ('1 cell', '2 cells')
    """
    return f"{number} {noun}" + "s" * (number != 1)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], labels: int, caption: str) -> str:
    """A Markdown table whose first ``labels`` columns are text, with its caption below if it has one.

    >>> print(markdown(["layer", "mean"], [["0", "1.00"], ["1", "2.00*"]], 1, "a caption"))
    | layer   |   mean |
    |:--------|-------:|
    | 0       |  1.00  |
    | 1       |  2.00* |
    <BLANKLINE>
    *a caption*
    """
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]  # a label may hold the character that ends a cell
    table = _aligned(header, rows, labels, "pipe")
    return f"{table}\n\n*{caption.replace('*', chr(92) + '*')}*" if caption else f"{table}\n"


def plain(header: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> str:
    """The same table for a terminal.

    >>> print(plain(["layer", "mean"], [["0", "1.00"]], 1))
    layer      mean
    -------  ------
    0          1.00
    """
    return _aligned(header, rows, labels, "simple")


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]], labels: int, kind: str) -> str:
    """Text to the left and numbers to the right, points below each other: a space stands where other rows have a star."""
    starred = [any(row[column].endswith("*") for row in rows) for column in range(len(header))]
    even = [
        [f"{cell} " if star and column >= labels and not cell.endswith("*") else cell
         for column, (cell, star) in enumerate(zip(row, starred, strict=True))]
        for row in rows
    ]  # fmt: skip
    align = ["left"] * labels + ["right"] * (len(header) - labels)
    return tabulate(even, header, kind, disable_numparse=True, colalign=align, preserve_whitespace=True)


def written(text: str, path: str | FilePath | None) -> str:
    """The text, written to a file too if one is named.

    >>> written("a table", None)
    'a table'
    """
    if path is not None:
        write_whole(FilePath(path), text + "\n")
    return text


def all_written(writers: Mapping[str, Callable[[FilePath], Any]], folder: str | FilePath, name: str) -> list[FilePath]:
    """Call each writer with the path ``folder``/``name`` plus its ending; returns the paths.

    >>> [path.name for path in all_written({".md": str, "-more.csv": str}, "runs", "table")]
    ['table.md', 'table-more.csv']
    """
    paths = []
    for ending, write in writers.items():
        paths.append(FilePath(folder) / f"{name}{ending}")
        write(paths[-1])
    return paths


def write_frames(frames: Mapping[str, pd.DataFrame], folder: FilePath) -> None:
    """Write plain frames as CSV and as Markdown with numbers to three places, each under its name; empty ones are left out.

    >>> import tempfile, pandas as pd
    >>> folder = FilePath(tempfile.mkdtemp())
    >>> write_frames({"one": pd.DataFrame({"model": ["m"], "kind": ["k"], "mean": [0.12345]}), "none": pd.DataFrame()}, folder)
    >>> sorted(file.name for file in folder.iterdir()), "0.123" in (folder / "one.md").read_text()
    (['one.csv', 'one.md'], True)
    """
    for name, frame in frames.items():
        if len(frame):
            write_csv(frame, folder / f"{name}.csv", index=False)
            columns = [_column(str(column), list(frame[column])) for column in frame]
            rows = list(zip(*(cells for _, cells in columns), strict=True))
            write_whole(folder / f"{name}.md", markdown([head for head, _ in columns], rows, 2, ""))


def _column(name: str, values: Sequence[Any]) -> tuple[str, list[str]]:
    """The header and the cells of a frame's column; numbers that three places cannot show are scaled."""
    numbers = [value for value in values if isinstance(value, float)]
    scale = Scale.of(numbers, 3)
    shown = [round(scale.scaled(value), 3) + 0.0 if isinstance(value, float) else value for value in values]
    return scale.unit(name), list(map(str, shown))
