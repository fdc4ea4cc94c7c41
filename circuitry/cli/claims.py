"""Commands for claims: ``check | claims``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..store.files import write_whole
from . import options as read
from .options import Device

app = typer.Typer()


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="a claims file, such as claims.yaml")],
    seed: Annotated[
        int | None, typer.Option(help="fresh prompts: this seed for every claim, instead of those in the file")
    ] = None,
    json: Annotated[Path | None, read.out_file("also write verdicts and numbers to this file: .json")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="folder that keeps measurements; by default the platform's cache folder")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="measure everything again, and keep nothing")] = False,
    device: Device = "cpu",
) -> None:
    """Check the claims of a file: measure what each is about, and print whether it holds, with the numbers.

    Exit code 0: all claims hold. 1: at least one does not hold. 2: none fails, but at least one cannot be decided; or the file
    cannot be read, and then nothing is measured.
    """
    from ..claims.checking import check as check_claims
    from ..errors import no_effect

    read.check_suffix(json, "verdicts", [".json"])
    if fresh and cache is not None:
        raise no_effect("--cache", ..., "--fresh keeps nothing", "give one of the two")
    try:
        checked = check_claims(file, cache=False if fresh else cache or True, seed=seed, device=device)
    except KeyboardInterrupt:
        print("Interrupted. What was measured is kept: run the same command to go on.", file=sys.stderr)
        raise typer.Exit(130) from None
    print(checked.text())
    if json is not None:
        checked.to_json(json)
    raise typer.Exit(checked.code)


@app.command()
def claims(
    run: Annotated[Path, typer.Argument(help="the folder of a run of a suite, or of a discovery")],
    out: Annotated[Path | None, read.out_file("write the claims to this file instead of printing them")] = None,
) -> None:
    """Write the claims file of a run: what its summary says, as claims that `circuitry check` can check on other prompts."""
    from ..claims.writing import claims_of

    text = claims_of(run)
    if out is None:
        print(text, end="")
    else:
        write_whole(out, text)
        print(f"written: {out.resolve()}")
