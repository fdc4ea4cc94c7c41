"""The page of several circuits, circuits.html, with a link to the report of every run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from ...drawing.embedded import embedded
from ...drawing.inline import inline
from ...html.page import render
from ...reports.roles import CORRESPONDENCE
from ...store.files import write_whole

if TYPE_CHECKING:
    from .compare import Circuits


def write_page(comparison: Circuits, folder: Path) -> Path:
    """Write circuits.html into ``folder`` and return its path.

    >>> import tempfile
    >>> from circuitry.suites import Summary, SuiteResult
    >>> from circuitry.studies.circuits import circuits
    >>> nothing = SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {}), record={"layers": 4})
    >>> write_page(circuits([nothing, nothing]), Path(tempfile.mkdtemp())).name
    'circuits.html'
    """
    target = folder / "circuits.html"
    write_whole(target, render("circuits.html", package=__package__, **_contents(comparison, folder)))
    return target


def _contents(comparison: Circuits, folder: Path) -> dict[str, Any]:
    """The values for the template."""
    drawn = {model: result.circuit for model, result in comparison.results.items() if result.circuit is not None}
    return {
        "circuits": comparison,
        "matched": comparison.matched(),
        "rows": {step: comparison.by_step[comparison.by_step["step"] == step].to_dict("records") for step in comparison.steps},
        "components": comparison.frame.to_dict("records"),
        "agreement": comparison.agreement.to_dict("records"),
        "correspondence": CORRESPONDENCE,
        "figure": Markup(inline(comparison.plot())),
        "pictures": [(m, Markup(embedded(c, f"circuit-{n}", linked=False))) for n, (m, c) in enumerate(drawn.items(), 1)],
        "reports": {model: _link(result.record.get("folder"), folder) for model, result in comparison.results.items()},
    }


def _link(run: str | None, folder: Path) -> str:
    """The relative link from the page to a run's report; empty if the run has no folder."""
    return Path(os.path.relpath(Path(run) / "report.html", folder)).as_posix() if run else ""
