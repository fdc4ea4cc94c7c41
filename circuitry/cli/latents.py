"""The command that lists the latents of a node that differ between a task's prompts: ``sae latents``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..store.files import write_csv
from . import options as read
from .options import Device, Dtype, ExamplesOfTask, Model, Options, Revision, Seed, TaskName

app = typer.Typer()


@app.command()
def latents(
    model: Model,
    node: Annotated[str, typer.Argument(help='the node whose latents are listed, such as "resid[2]"')],
    attach: Annotated[list[str], typer.Option(help="a folder of sparse autoencoders; repeatable")],
    revision: Revision = None,
    task: TaskName = "induction",
    option: Options = None,
    examples: ExamplesOfTask = None,
    seed: Seed = 0,
    top: Annotated[int, typer.Option(help="how many latents to list")] = 50,
    at: Annotated[
        str | None, typer.Option(help="compare at this position, such as B+1; by default at all tokens together")
    ] = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    out: Annotated[Path | None, read.out_file("also write the list, as .csv")] = None,
) -> None:
    """List the latents of a node that differ most between a task's clean and corrupted prompts, for paths such as resid[2].latent[17].

    Of each latent: its number, its label if any has one, its mean change, and in how many examples it fires on either prompt.
    """
    import pandas as pd

    from ..paths.values import position

    read.check_suffix(out, "a list", [".csv"])
    posed, loaded = read.task(task, option, examples, seed), read.load(model, dtype, device, revision, attach=attach)
    numbers = loaded.latents(node, posed, top, at)
    change, fires = loaded.changing(node, posed.prompts(loaded.vocabulary), None if at is None else position(at))
    labels = loaded.saes[loaded.graph.node(node).host].labels
    table = pd.DataFrame({
        "latent": numbers, **({"label": [labels.get(number, "") for number in numbers]} if labels else {}),
        "change": change[numbers].tolist(), "examples": fires[numbers].tolist(),
    })  # fmt: skip
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    if out is not None:
        write_csv(table, out, index=False)
        print(f"written: {out.resolve()}")
