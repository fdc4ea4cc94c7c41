"""The command ``doctor``: what is installed, what it is for, and whether a known circuit is found on this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from .examination import examine

app = typer.Typer()


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, for a report of a fault or for a script")] = False,
) -> None:
    """Say what is installed, what each extra is for, where files go, and test that circuitry measures what it should.

    The test patches a model whose circuit is known by construction, and compares the result with that circuit. Nothing is
    downloaded. The exit code is 0 if the test passes and everything that circuitry needs is there, else 1; what is optional
    does not change it.
    """
    found = examine()
    print(json.dumps(found.record(), indent=1) if as_json else found.text(), flush=True)
    if found.problems:
        raise typer.Exit(1)
