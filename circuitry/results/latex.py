r"""Tables for LaTeX: booktabs rules, numbers to the right with points below each other, a caption and a label.

The table needs ``\usepackage{booktabs}``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = str.maketrans({
    "\\": "/", "^": r"\^{}", "~": r"\~{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "±": r"$\pm$", "≥": r"$\ge$", "≤": r"$\le$", "→": r"$\to$", "×": r"$\times$", "−": "$-$", "…": r"\ldots{}",
    **{c: f"\\{c}" for c in "_%&#${}"},
})  # fmt: skip
_POWER = re.compile(r"(?<![\w.])(-?\d(?:\.\d+)?)e([+-]?\d{1,3})(?!\w)")
_MINUS = re.compile(r"(?<![\w.\]})-])-(?=[\d.])")
_STAR = r"\rlap{*}"


def latex(header: Sequence[str], rows: Sequence[Sequence[str]], labels: int, caption: str, title: str = "") -> str:
    r"""A LaTeX table whose first ``labels`` columns are text. Its caption, above it, begins with the title, which names its label.

    >>> text = latex(["layer", "mean"], [["0", "-1.00 ± 0.10*"]], 1, "a caption", "State @ B+1")
    >>> print("\n".join(text.splitlines()[2:4] + text.splitlines()[8:9]))
    \caption{\textbf{State @ B+1.} a caption}
    \label{tab:state-b-1}
    0 & $-$1.00 $\pm$ 0.10\rlap{*} \\
    """
    lead = f"\\textbf{{{escaped(title.rstrip('.'))}.}} " if title else ""
    lines = ["\\begin{table}", "\\centering", f"\\caption{{{lead}{escaped(caption)}}}", f"\\label{{{label(title)}}}"]
    lines += [f"\\begin{{tabular}}{{{'l' * labels}{'r' * (len(header) - labels)}}}", "\\toprule"]
    lines += [_row(header), "\\midrule", *map(_row, rows)]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"])


def label(title: str) -> str:
    r"""The name for ``\ref``: the words of a title, since a label must not hold what LaTeX reads as a command.

    >>> label("h[{layer}] @ B+1 -> logits"), label("")
    ('tab:h-layer-b-1-logits', 'tab:circuitry')
    """
    return "tab:" + ("-".join(re.findall(r"[a-z0-9]+", title.lower())) or "circuitry")


def escaped(text: str) -> str:
    r"""Text for LaTeX. A backslash becomes a slash, since here it only separates two axis names.

    >>> escaped("layer \\ head_1"), escaped("-0.50 in 1e-6"), escaped("3e-06")
    ('layer / head\\_1', '$-$0.50 in $10^{-6}$', '$3\\times10^{-6}$')
    """
    parts: list[str] = []
    end = 0
    for power in _POWER.finditer(text):
        parts += [_plain(text[end : power.start()]), _power(*power.groups())]
        end = power.end()
    return "".join([*parts, _plain(text[end:])])


def _plain(text: str) -> str:
    return _MINUS.sub("−", text).translate(_SPECIAL)


def _power(factor: str, exponent: str) -> str:
    return f"$10^{{{int(exponent)}}}$" if factor == "1" else f"${factor}\\times10^{{{int(exponent)}}}$"


def _row(cells: Sequence[str]) -> str:
    # The star has no width, so that it does not move the number.
    return (
        " & ".join(escaped(cell[:-1]) + _STAR if len(cell) > 1 and cell.endswith("*") else escaped(cell) for cell in cells)
        + r" \\"
    )
