"""Commands for one experiment: ``patch | explain | sensitivity | offsets``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..store.files import write_csv
from . import options as read
from .options import (
    Attach,
    Baseline,
    Device,
    DeviceMap,
    Direction,
    Dtype,
    ExamplesOfTask,
    ExecutorName,
    FigureStyle,
    Intervention,
    MemoryOption,
    Metric,
    Model,
    Options,
    PathText,
    Revision,
    Seed,
    TaskName,
    Values,
    Verify,
)

app = typer.Typer()


@app.command()
def patch(
    model: Model,
    path: PathText,
    revision: Revision = None,
    task: TaskName = "induction",
    option: Options = None,
    axis: Values = None,
    examples: ExamplesOfTask = None,
    seed: Seed = 0,
    metric: Metric = None,
    intervention: Intervention = "resample",
    direction: Direction = "noising",
    baseline: Baseline = None,
    executor: ExecutorName = None,
    verify: Verify = 0,
    memory: MemoryOption = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    attach: Attach = None,
    out: Annotated[
        Path | None, read.out_file("also write the table: .csv, .json, .md, .tex, .parquet, .png, .svg or .pdf")
    ] = None,
    style: FigureStyle = "screen",
) -> None:
    """Patch one path on one model and print its table. Under torchrun, processes share the work."""
    from ..patching.experiment import patch as run_patch

    writer = _writer(out)
    settings = _asked(axis, metric, intervention, direction, baseline) | read.executor(executor, memory, verify)
    posed = read.task(task, option, examples, seed)
    with read.together() as team:
        loaded = read.load(model, dtype, device, revision, device_map, attach)
        table = run_patch(loaded, posed, path, **settings)
        print(table)
        if out is not None and team.rank == 0:
            writer(table, out)
            print(f"written: {out.resolve()}")


def _writer(out: Path | None) -> Callable[[Any, Path], object]:
    """The function that writes a table to this file; a wrong suffix is refused before anything runs."""
    writers: dict[str, Callable[[Any, Path], object]] = {
        ".csv": lambda t, p: t.to_csv(p),
        ".json": lambda t, p: t.to_json(p),
        ".md": lambda t, p: t.to_markdown(p),
        ".tex": lambda t, p: t.to_latex(p),
        ".png": lambda t, p: t.plot(p),
        ".svg": lambda t, p: t.plot(p),
        ".pdf": lambda t, p: t.plot(p),
        ".parquet": lambda t, p: t.to_parquet(p),
    }
    read.check_suffix(out, "a table", writers)
    return writers[out.suffix] if out is not None else lambda *_: None


@app.command()
def explain(
    model: Model,
    path: PathText,
    revision: Revision = None,
    task: TaskName = "induction",
    option: Options = None,
    axis: Values = None,
    examples: ExamplesOfTask = None,
    seed: Seed = 0,
    metric: Metric = None,
    intervention: Intervention = "resample",
    direction: Direction = "noising",
    baseline: Baseline = None,
    executor: ExecutorName = None,
    verify: Verify = 0,
    memory: MemoryOption = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    attach: Attach = None,
) -> None:
    """Show what a path would run: passes, frozen set, kind of path patching, predicted cost. Nothing is run."""
    from ..patching.experiment import explain as run_explain

    settings = _asked(axis, metric, intervention, direction, baseline) | read.executor(executor, memory, verify)
    posed = read.task(task, option, examples, seed)
    print(run_explain(read.load(model, dtype, device, revision, device_map, attach), posed, path, **settings))


def _asked(axis: list[str] | None, metric: str | None, intervention: str, direction: str, baseline: int | None) -> dict[str, Any]:
    """The arguments that ``patch`` and ``explain`` share."""
    arguments = {"axes": read.axes(axis), "metric": metric, "intervention": intervention, "direction": direction}
    return arguments | read.given(baseline=baseline)


@app.command()
def sensitivity(
    model: Model,
    path: PathText,
    revision: Revision = None,
    task: TaskName = "induction",
    option: Options = None,
    axis: Values = None,
    examples: ExamplesOfTask = None,
    seed: Seed = 0,
    executor: ExecutorName = None,
    memory: MemoryOption = None,
    attach: Attach = None,
    out: Annotated[Path | None, read.out_file("also write the grid: .png, .svg, .pdf or .csv")] = None,
    style: FigureStyle = "screen",
) -> None:
    """Measure a path under every ablation, direction, metric and frozen set: does the finding depend on the method?"""
    from ..evidence.grid import sensitivity as measure

    read.check_suffix(out, "the grid", (".png", ".svg", ".pdf", ".csv"))
    result = measure(
        read.load(model, revision=revision, attach=attach),
        read.task(task, option, examples, seed, usual=64),
        path,
        axes=read.axes(axis),
        **read.executor(executor, memory),
    )
    print(result.frame.round(3).to_string(index=False))
    print(result.text())
    if out is not None:
        write_csv(result.frame, out, index=False) if out.suffix == ".csv" else result.plot(str(out))
        print(f"written: {out.resolve()}")


@app.command()
def offsets(
    models: Annotated[list[str], typer.Argument(help="one model or several, such as seeds of one architecture")],
    task: TaskName = "induction",
    option: Options = None,
    token: Annotated[str | None, typer.Option(help="a named position; by default the one that the corruption changes")] = None,
    reach: Annotated[int, typer.Option(help="the last position to measure, in tokens after the token")] = 4,
    examples: ExamplesOfTask = None,
    seed: Seed = 0,
    executor: ExecutorName = None,
    memory: MemoryOption = None,
    out: Annotated[Path | None, read.out_file("also write the result: .json, .md, .png, .svg or .pdf")] = None,
    style: FigureStyle = "screen",
) -> None:
    """Find the write position (states) or read position (attention) of a token in each model, in tokens after the token.

    This is the off-by-one detector. Under torchrun, processes share the work."""
    from ..evidence.offsets import off_by_one

    read.check_suffix(out, "the result", (".json", ".md", ".png", ".svg", ".pdf"))
    posed = read.task(task, option, examples, seed, usual=64)
    settings = read.executor(executor, memory)
    with read.together() as team:
        result = off_by_one([read.load(name) for name in models], posed, token, reach=reach, say=read.say, **settings)
        print(result.to_markdown())
        if out is not None and team.rank == 0:
            plot: Callable[[Path], object] = result.plot
            writers: dict[str, Callable[[Path], object]] = {".json": result.to_json, ".md": result.to_markdown}
            writers.get(out.suffix, plot)(out)
            print(f"written: {out.resolve()}")
