"""The command ``view``: the circuit of a run, or of two, as a page to explore."""

from __future__ import annotations

import shlex
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CircuitryError

app = typer.Typer()
RUNS = Path("runs")
"""Where runs are written by default, and looked for."""


@app.command()
def view(
    folder: Annotated[Path | None, typer.Argument(help="the folder of a run; without one, the runs in ./runs are listed")] = None,
    other: Annotated[Path | None, typer.Argument(help="the folder of a second run, to show both side by side")] = None,
    browser: Annotated[
        bool, typer.Option("--open/--no-open", help="open the page in the browser, or only print where it is")
    ] = True,
) -> None:
    """Explore the circuit of a run or a discovery in the browser: circuitry view runs/induction-mamba

    Shows what every node and edge does, on the mean of all prompts or on one, and what is left of the circuit above a threshold. A run
    writes this page, explorer.html, itself; it is written again only if it is missing or older than the run's other files.
    """
    from ..explorer.page import fresh, write_explorer, write_pair

    if folder is None:
        return _list()
    page = write_pair(folder, other) if other is not None else fresh(folder) or write_explorer(folder)
    print(page.resolve())
    if browser:
        webbrowser.open(page.resolve().as_uri())


def _list() -> None:
    """The runs in ./runs, and how to open the newest. Raises CircuitryError if there are none."""
    from ..explorer.listed import listed, runs_in

    runs = runs_in(RUNS)
    if not runs:
        raise CircuitryError(f"no runs in ./{RUNS}; this makes one: circuitry run induction --model bundled:mamba")
    print(f"{listed(runs)}\n\nopen one: {shlex.join(['circuitry', 'view', str(runs[0].folder)])}")
