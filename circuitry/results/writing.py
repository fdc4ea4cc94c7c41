"""Tables as text: Markdown and LaTeX from a header and rows, and one cell's number with its error and its star."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from ..store.files import write_csv, write_whole

if TYPE_CHECKING:
    import pandas as pd

_IN_LATEX = str.maketrans({
    "\\": "/", "^": r"\^{}", "~": r"\~{}", "<": r"\textless{}", ">": r"\textgreater{}", "±": r"$\pm$", "≥": r"$\ge$",
    **{c: f"\\{c}" for c in "_%&#${}"},
})  # fmt: skip


def number(value: float, digits: int = 2) -> str:
    """A number with this many digits after the point; two dashes for NaN.

    >>> number(-0.001), number(1.5, 3), number(float("nan"))
    ('0.00', '1.500', '--')
    """
    # Adding zero makes a rounded -0.0 plain 0.
    return "--" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def measured(mean: float, error: float = math.nan, star: bool = False, digits: int = 2) -> str:
    """A mean with its standard error, and a star if it is significant.

    >>> measured(-9.654, 0.312, True), measured(1.0), measured(float("nan"))
    ('-9.65 ± 0.31*', '1.00', '--')
    """
    return number(mean, digits) + ("" if math.isnan(error) else f" ± {number(error, digits)}") + "*" * star


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


def span(low: float, high: float, digits: int = 2) -> str:
    """An interval as text.

    >>> span(-1.0, 2.0), span(float("nan"), float("nan"))
    ('-1.00 to 2.00', '--')
    """
    return "--" if math.isnan(low) else f"{number(low, digits)} to {number(high, digits)}"


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

    >>> print(markdown(["layer", "mean"], [["0", "1.00"]], 1, "a caption"))
    | layer   |   mean |
    |:--------|-------:|
    | 0       |   1.00 |
    <BLANKLINE>
    *a caption*
    """
    align = ["left"] * labels + ["right"] * (len(header) - labels)
    rows = [[cell.replace("|", "\\|") for cell in row] for row in rows]  # a label may hold the character that ends a cell
    table = tabulate(rows, header, "pipe", disable_numparse=True, colalign=align)
    return f"{table}\n\n*{caption.replace('*', chr(92) + '*')}*" if caption else f"{table}\n"


def plain(header: Sequence[str], rows: Sequence[Sequence[str]], labels: int) -> str:
    """The same table for a terminal.

    >>> print(plain(["layer", "mean"], [["0", "1.00"]], 1))
    layer      mean
    -------  ------
    0          1.00
    """
    align = ["left"] * labels + ["right"] * (len(header) - labels)
    return tabulate(rows, header, "simple", disable_numparse=True, colalign=align)


def latex(header: Sequence[str], rows: Sequence[Sequence[str]], labels: int, caption: str) -> str:
    r"""A LaTeX table with booktabs rules, its caption above.

    >>> print(latex(["layer", "mean"], [["0", "1.00 ± 0.10"]], 1, "a caption").splitlines()[7])
    0 & 1.00 $\pm$ 0.10 \\
    """
    lines = ["\\begin{table}", "\\centering", f"\\caption{{{_escape(caption)}}}"]
    lines += [f"\\begin{{tabular}}{{{'l' * labels}{'r' * (len(header) - labels)}}}", "\\toprule"]
    lines += [_row(header), "\\midrule", *map(_row, rows)]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"])


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(_escape, cells)) + r" \\"


def _escape(text: str) -> str:
    """Text for LaTeX. A backslash becomes a slash, since here it only separates two axis names."""
    return text.translate(_IN_LATEX)


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
            rows = [[str(value) for value in row] for row in frame.round(3).itertuples(index=False)]
            write_whole(folder / f"{name}.md", markdown([str(column) for column in frame], rows, 2, ""))
