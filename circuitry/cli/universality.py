"""Commands over several models: ``circuits``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as read
from .options import Device, Dtype, Examples, Memory, Options, Out, Seed

app = typer.Typer()


@app.command()
def circuits(
    suite: Annotated[str, typer.Argument(help="induction, ioi, or a file of your own that defines SUITE")],
    models: Annotated[list[str], typer.Argument(help="two models or more, such as bundled:gpt_neox bundled:mamba")],
    out: Out = Path("runs"),
    option: Options = None,
    examples: Examples = 32,
    seed: Seed = 0,
    memory: Memory = "512MiB",
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Run a suite on several models and measure how far their circuits are the same, by step and by depth.

    Every run has its folder and report, as with 'run'; circuits.html puts them side by side.
    """
    from ..suites.folder import plain
    from ..universality import circuits as compare

    told = {"dtype": dtype, "device": device, "memory": memory, **read.values(option)}
    found = compare(models, suite, out=out, examples=examples, seed=seed, say=read.say, **told)
    print(found.text())
    folder = found.save(out / f"circuits-{plain(suite)}")
    print(f"\nreport: {(folder / 'circuits.html').resolve()}")
