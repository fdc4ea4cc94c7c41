"""The command that matches the features of two models: ``mppc``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options as read
from .options import Rank, World

app = typer.Typer()

_FOLDERS = "folders of feature activations, one for each layer, or folders that contain them"


@app.command()
def mppc(
    features: Annotated[list[Path], typer.Argument(help=_FOLDERS)],
    other: Annotated[list[Path], typer.Option("--with", help="the same for the other model, on the same tokens; repeatable")],
    out: Annotated[Path, read.out_folder("folder for the result; run the same command to resume")],
    min_count: Annotated[int, typer.Option(help="features that fire on fewer tokens are left out")] = 10,
    null: Annotated[
        str, typer.Option(help="how to estimate what is expected by chance: shift, a number of tokens, or none")
    ] = "shift",
    threads: Annotated[int | None, typer.Option(help="default: OMP_NUM_THREADS, or all cores")] = None,
    engine: Annotated[str, typer.Option(help="numba, scipy, or auto: numba where it is installed")] = "auto",
    rank: Rank = None,
    world: World = None,
) -> None:
    """Match the features of two models by how they correlate (MPPC), in both directions.

    Writes forward and reverse tables as Parquet and CSV. Under torchrun, or with --rank and --world, processes share the work. With
    --rank none of them waits for the others, and the one that ends last writes the result.
    """
    from ..features.matching.mppc import mppc
    from ..features.matching.store import feature_acts
    from ..features.matching.tiles import Unfinished

    chosen = None if null == "none" else int(null) if null.isdigit() else null
    number, processes = read.ranks(rank, world)
    sides = feature_acts(features), feature_acts(other)
    how: dict[str, Any] = {"min_count": min_count, "null": chosen, "threads": threads, "engine": engine}
    try:
        matches = mppc(*sides, out=out, rank=number, world_size=processes, wait=rank is None, **how)
    except Unfinished as error:
        read.warn(str(error))
        return
    if number == 0 or rank is not None:
        print(matches.text())
        print(f"written: {out}")
