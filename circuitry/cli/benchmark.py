"""Commands for benchmarks: ``benchmark discovery``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options as read

app = typer.Typer()


@app.command()
def discovery(
    count: Annotated[int, typer.Option(help="compiled models, 42 by default; the first of them cover all families")] = 42,
    method: Annotated[list[str] | None, typer.Option(help="a method; repeatable; by default all but exact")] = None,
    examples: Annotated[int, typer.Option(help="prompts for each model")] = 16,
    bundled: Annotated[bool, typer.Option(help="also the bundled models, in which every edge is patched")] = True,
    out: Annotated[Path | None, read.out_folder("folder that keeps every case, so that another call resumes")] = None,
) -> None:
    """Measure how well methods of discovery find known circuits, and print the table methods x families.

    A second table has the correlation with exact effects of mixers and MLPs at single positions, in the bundled models and one compiled one.
    """
    from ..benchmarks.measure import discovery as measure
    from ..benchmarks.measure import nodes
    from ..store.files import write_csv

    found = measure(count=count, methods=method, examples=examples, with_trained=bundled, folder=out, progress=read.say)
    print(found.text())
    if bundled:
        by_node = nodes(methods=method)
        print(
            f"\nr with exact effects of mixers and MLPs at single positions (8 prompts)\n{by_node.to_string(float_format='{:.3f}'.format)}"
        )
    if out is not None:
        write_csv(found.frame, out / "cases.csv", index=False)
        print(f"written: {out.resolve()}")
