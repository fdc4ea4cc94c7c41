"""The output of a notebook's cell: parts of a page below one class, with the style of the reports, legible without any script.

Every part escapes the text that it gets. A notebook that removes styles and scripts (GitHub) shows plain tables and text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from markupsafe import Markup

from .formats import measured
from .page import environment

if TYPE_CHECKING:
    import pandas as pd
    from jinja2 import Environment

Format: TypeAlias = Callable[[Any], str]

MOST_ROWS = 100
"""An output lists this many rows of a table; the value itself has all."""
_REM = 15
"""Pixels of a rem. In a page it is the browser's, in a notebook it may be anything: 10 pixels in the classic one."""


def output(*parts: Markup) -> str:
    """Parts as one element with its style.

    >>> print(output(lines("<b>"))[:23], "&lt;b&gt;" in output(lines("<b>")))
    <div class="circuitry"> True
    """
    script = Markup(_script()) if any("sortable" in part for part in parts) else ""
    return str(_macros().output(parts, Markup(_style()), script))


def heading(text: object, note: object = "") -> Markup:
    """What the value is, and beside it, paler, what else to know at once.

    >>> "<strong>mamba</strong>" in heading("mamba")
    True
    """
    return Markup(_macros().heading(text, note))


def code(text: object) -> Markup:
    """A path, or a part of one.

    >>> print(code("embed -> logits"))
    <p class="head"><code>embed -&gt; logits</code></p>
    """
    return Markup(_macros().code(text))


def lines(text: object) -> Markup:
    """Text as it is in a terminal.

    >>> print(lines("a < b"))
    <pre class="lines">a &lt; b</pre>
    """
    return Markup(_macros().lines(text))


def caption(text: object) -> Markup:
    """A pale sentence below what it is about; nothing if it is empty.

    >>> str(caption(""))
    ''
    """
    return Markup(_macros().caption(text))


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Names and their values; those without a value are left out.

    >>> "<dd>4</dd>" in facts([("layers", 4), ("window", "")])
    True
    """
    return Markup(_macros().facts([(name, str(value)) for name, value in pairs if str(value)]))


def steps(rows: Iterable[tuple[str, str]]) -> Markup:
    """Sentences, each with its label in front, one below the other.

    >>> "<th scope=\\"row\\">kind</th>" in steps([("kind", "total effect")])
    True
    """
    return Markup(_macros().steps(list(rows)))


def details(summary: str, *parts: Markup) -> Markup:
    """Parts that a click opens.

    >>> details("more", lines("x")).startswith("<details>")
    True
    """
    return Markup(_macros().details(summary, parts))


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], formats: dict[str, Format] | None = None) -> Markup:
    """A table that a click on a head sorts, if scripts run; ``MOST_ROWS`` rows at most, and how many there are.

    A column is written by its format in ``formats``, by default numbers with three digits, and anything else as text.

    >>> "0.123" in table(["name", "value"], [["a", 0.12345]])
    True
    """
    every = [list(row) for row in rows]
    numeric = [bool(every) and all(_is_number(row[k]) for row in every) for k in range(len(columns))]
    shown = [[_text(value, (formats or {}).get(name)) for name, value in zip(columns, row, strict=True)] for row in every]
    return Markup(_macros().table(list(zip(columns, numeric, strict=True)), shown[:MOST_ROWS], len(shown)))


def frame(data: pd.DataFrame, formats: dict[str, Format] | None = None) -> Markup:
    """A pandas frame as a table, without its index.

    >>> import pandas as pd
    >>> ">a</td>" in frame(pd.DataFrame({"name": ["a"]}))
    True
    """
    return table([str(column) for column in data.columns], data.itertuples(index=False), formats)


def picture(svg: str) -> Markup:
    """A picture, which is SVG that the library drew itself, on white paper.

    >>> print(picture("<svg></svg>"))
    <div class="paper scroll"><svg></svg></div>
    """
    return Markup(_macros().picture(Markup(svg)))


def part(name: str, *values: Any) -> Markup:
    """A macro of parts.html, such as the heat map of a table.

    >>> "Copy" in part("copy", "path-1")
    True
    """
    return Markup(getattr(_environment().get_template("parts.html").module, name)(*values))


def _is_number(value: Any) -> bool:
    return value is None or (hasattr(value, "__float__") and not isinstance(value, bool))


def _text(value: Any, format: Format | None) -> str:
    if value is None or value != value:
        return ""
    if format is not None:
        return format(value)
    return measured(value) if isinstance(value, float) else str(value)


@functools.cache
def _environment() -> Environment:
    return environment()


def _macros() -> Any:
    return _environment().get_template("output.html").module


def _block(template: str, name: str) -> str:
    source = _environment().get_template(template)
    return "".join(source.blocks[name](source.new_context()))


@functools.cache
def _style() -> str:
    """The style of the reports' tables below the class, with the colours of the notebook's theme."""
    blocks = {name: _block("style.css", name) for name in ("colours", "values")}
    css = _environment().get_template("output.css").render({name: Markup(text) for name, text in blocks.items()})
    sized = re.sub(r"(\d*\.?\d+)rem", lambda match: f"{float(match[1]) * _REM:g}px", css)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", sized, flags=re.DOTALL)).strip()


@functools.cache
def _script() -> str:
    return _environment().get_template("output.js").render()
