"""Writes report.html: one file that contains its style, script and pictures, and needs no network."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from ..drawing.colours import fill, number
from ..prompting.record import text
from ..results.table import PatchingTable
from ..store.files import write_whole
from ..thresholds import OUTLYING, SIGNIFICANT
from . import words
from .cells import CellView, Row, cells_of, heat_map, interval, limit, paint
from .examples import Strip, Token, data, strips, worst
from .formats import brief, measured, moment, percent, small
from .nodes import panels
from .picture import picture
from .run import Run, read_run

_PICTURES = 2_500_000
"""Figures are put into the page up to this many bytes together, so that it stays under 5 MB; base64 makes them a third larger."""
_MOST = 4_800_000
"""A page gets the effects of single examples as long as it has at most this many bytes."""
_PLACE = '<script type="application/json" id="examples-data">{}</script>'
EXAMPLES: dict[str, Any] = {"styles": ("style.css", "examples.css"), "script": "run.js", "outlying": OUTLYING}
"""What ``render`` needs for a page with the macros of ``examples.html``."""


@dataclass(frozen=True)
class Experiment:
    """One table as the page shows it.

    ``columns`` and ``rows`` are its heat map, empty if it is drawn as bars. Colours end at the effect ``most`` and at the
    normalized effect ``most_normalized``.
    """

    number: int
    name: str
    table: PatchingTable
    cells: list[CellView]
    columns: list[str]
    rows: list[Row]
    most: float
    most_normalized: float
    files: list[tuple[str, str]]

    @classmethod
    def of(cls, number: int, name: str, table: PatchingTable, files: list[tuple[str, str]]) -> Experiment:
        """Compute what the page shows of a table.

        >>> import numpy as np
        >>> table = PatchingTable.of([{"layer": 0}], np.ones((1, 4)), np.zeros(4), np.ones(4), "logit", {"title": "T"})
        >>> Experiment.of(1, "table1", table, []).title
        'T'
        """
        cells = cells_of(table, number)
        columns, rows = heat_map(cells, table.axes) if len(table.axes) > 1 else ([], [])
        most, most_normalized = limit([cell.mean for cell in cells]), limit([cell.normalized for cell in cells])
        return cls(number, name, table, cells, columns, rows, most, most_normalized, files)

    @property
    def title(self) -> str:
        """Its heading: the table's title, or else its file name."""
        return str(self.table.provenance.get("title") or self.name)

    @property
    def caption(self) -> str:
        """The number of examples, the task and the table's notes, except those that the page's legends repeat."""
        task = text(self.table.provenance.get("task"), without=self.table.axes)  # an option that is an axis differs between cells
        notes = [note for note in self.table.notes() if not note.startswith("*")]
        examples = f"means over {self.table.frame['example'].nunique()} examples"
        return "; ".join(filter(None, [examples, task, *notes]))

    @cached_property
    def strips(self) -> list[Strip]:
        """All examples by their mean deviation over the cells, for each set of prompts."""
        return strips(self.table)

    @cached_property
    def worst(self) -> list[tuple[Strip, dict[str, Any], list[Token]]]:
        """The examples that disagree most with the means of all cells."""
        return worst(self.strips)

    @property
    def band(self) -> float:
        """The largest |mean| that 95 % of random nodes do not exceed; NaN without random nodes."""
        return max((cell.band for cell in self.cells if not math.isnan(cell.band)), default=math.nan)

    @property
    def has_normalized(self) -> bool:
        """Whether any cell's normalized effect is known."""
        return any(not math.isnan(cell.normalized) for cell in self.cells)

    @property
    def tested(self) -> bool:
        """Whether any cell was tested against zero, which needs effects that can be negative."""
        return any(cell.signed for cell in self.cells)

    @property
    def scale(self) -> tuple[float, float]:
        """The least and the greatest value on the axis of the bars, which includes zero."""
        ends = [value for cell in self.cells for value in (cell.mean, cell.low, cell.high, cell.band, -cell.band)]
        ends = [end for end in ends if math.isfinite(end)]
        low, high = min([0.0, *ends]), max([0.0, *ends])
        return (low, high) if high > low else (0.0, 1.0)


def write_report(folder: str | Path) -> Path:
    """Write report.html into a run folder, complete or not, and return its path. The same run gives the same file.

    Raises CircuitryError for a folder that is not a run folder.

    >>> write_report("nowhere")
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: folder nowhere does not exist; 'circuitry run SUITE --model MODEL' makes one
    """
    run = read_run(folder)
    contents = _contents(run)
    page = with_examples(render("report.html", **EXAMPLES, **contents), contents["experiments"])
    target = run.folder / "report.html"
    write_whole(target, page)
    return target


def with_examples(page: str, experiments: Sequence[Experiment]) -> str:
    """A page with the effects of all examples, as far as it stays under 5 MB; ``report.html`` has a place for them.

    >>> with_examples("<p>no place</p>", [])
    '<p>no place</p>'
    """
    tables = ((experiment.number, experiment.table) for experiment in experiments if experiment.strips)
    return page.replace(_PLACE, _PLACE.replace("{}", data(tables, _MOST - len(page.encode()))), 1)


def _contents(run: Run) -> dict[str, Any]:
    """The variables of the template."""
    entries = experiments(run)
    tables = [(entry.table, entry.cells) for entry in entries]
    return {
        "run": run,
        "experiments": entries,
        "summary": run.summary,
        "findings": words.findings(run.summary) if run.summary else [],
        "circuit": Markup(picture(run.circuit, "node")) if run.circuit else None,
        "panels": panels(run.circuit, tables) if run.circuit else [],
        "figures": figures_of(run),
        "methods": words.methods(run),
        "citation": run.provenance.get("cites", ""),
    }


def experiments(run: Run, start: int = 1) -> list[Experiment]:
    """The tables of a run, numbered from ``start``, in the order of the report.

    >>> experiments(Run(Path("r"), {}, {}))
    []
    """
    tables = enumerate(run.tables.items(), start)
    return [Experiment.of(n, name, table, list(run.files(name))) for n, (name, table) in tables]


def figures_of(run: Run) -> list[dict[str, Any]]:
    """Figures with their pictures as data URIs; an SVG that is shown as an image cannot run scripts or use the network.

    A PNG replaces an SVG that is too large. A figure whose PNG does not fit into the page either has no data.

    >>> figures_of(Run(Path("r"), {}, {}))
    []
    """
    room, figures = _PICTURES, []
    for figure in run.provenance.get("figures") or []:
        files = [
            (run.folder / "figures" / f"{figure['name']}{end}", kind) for end, kind in ((".svg", "svg+xml"), (".png", "png"))
        ]
        fitting = ((file, kind) for file, kind in files if file.is_file() and file.stat().st_size <= room)
        file, kind = next(fitting, (None, ""))
        data = file.read_bytes() if file else b""
        room -= len(data)
        figures.append({**figure, "data": f"data:image/{kind};base64,{base64.b64encode(data).decode()}" if data else None})
    return figures


def render(
    template: str, *, package: str = "", styles: Sequence[str] = ("style.css",), script: str = "report.js", **contents: Any
) -> str:
    """A page from a template of this package, or of another ``package`` that extends its frame; all values are escaped.

    The page allows only its own script, by its hash, so a script that came in with the data cannot run.

    >>> render("report.html", run=Run(Path("r"), {"model": "<b>", "suite": "s", "state": "complete"}, {}), experiments=[],
    ...     summary=None, findings=[], circuit=None, panels=[], figures=[], methods="", citation="").count("<b>")
    0
    """
    loader = ChoiceLoader([PackageLoader(name) for name in (package, __package__) if name])
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"signed": number, "percent": percent, "small": small, "interval": interval, "url": quote}
    environment.filters |= {"brief": brief, "measured": measured, "moment": moment, "task": text}
    environment.globals |= {"paint": paint, "level": SIGNIFICANT, "ramp": ", ".join(fill(step / 4 - 1, 1) for step in range(9))}
    style, code = (Markup("".join(environment.get_template(name).render() for name in names)) for names in (styles, [script]))
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return environment.get_template(template).render(style=style, script=code, digest=digest, **contents)
