"""Commands for suites and their run folders: ``run | demo | report | compare``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..store.files import check_folder
from . import options as read
from .options import (
    Device,
    DeviceMap,
    Dtype,
    Examples,
    ExamplesOfTask,
    ExecutorName,
    FigureStyle,
    MemoryOption,
    ModelOption,
    Options,
    Out,
    Revision,
    Seed,
    Verify,
)

if TYPE_CHECKING:
    from ..models.model import Model as LoadedModel
    from ..suites.result import SuiteResult

app = typer.Typer()
_MOST_LINES = 40
DEMO = ("bundled:gpt_neox", "bundled:mamba")
RunPath = Annotated[Path, typer.Argument(help="the folder of a run")]


@app.command()
def run(
    suite: Annotated[
        str,
        typer.Argument(
            help="induction, ioi, another task, or a custom file: one that defines SUITE or TASK, such as ./mine.py, or a table of prompts"
        ),
    ],
    model: ModelOption = "bundled:mamba",
    revision: Revision = None,
    out: Out = Path("runs"),
    option: Options = None,
    examples: ExamplesOfTask = None,
    seed: Seed = 0,
    executor: ExecutorName = None,
    verify: Verify = 0,
    memory: MemoryOption = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    discover: Annotated[
        int, typer.Option(help="also discover edges that the suite does not look for, and verify this many of them, such as 50")
    ] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="run again in a new folder, even if this run exists")] = False,
    style: FigureStyle = "screen",
) -> None:
    """Run a whole suite on a model: tables, figures, the circuit, a summary and report.html in a folder.

    Run the same command to resume an interrupted run. Runs never overwrite each other. Under torchrun, processes share the
    work; all of them must see the folder.
    """
    from ..suites.runner import check_asked

    settings = read.merged(
        option, examples=examples, seed=seed, fresh=fresh, discover=discover, **read.executor(executor, memory, verify)
    )
    check_asked(suite, **settings)
    with read.together():
        _suite(suite, read.load(model, dtype, device, revision, device_map), out, **settings)


@app.command()
def demo(out: Out = Path("runs"), examples: Examples = 32) -> None:
    """Run every suite on the bundled Transformer and the bundled Mamba, and compare the two: offline, in minutes."""
    from ..suites.runner import SHIPPED

    for suite in SHIPPED:
        first, second = (
            _suite(suite, read.load(name), out, _alone(suite, name, out, examples), examples=examples) for name in DEMO
        )
        _compare(first, second, out / f"{first.name}-and-{second.name}")
    print(f"\nall results: {out.resolve()}")


def _alone(suite: str, model: str, out: Path, examples: int) -> str:
    """The command that makes one run of the demo without the others."""
    return shlex.join(["circuitry", "run", suite, "--model", model, "--examples", str(examples), "--out", str(out)])


def _suite(suite: str, model: LoadedModel, out: Path, command: str = "", **options: Any) -> Path:
    from ..suites.runner import run as run_suite

    print(f"\n{model}", flush=True)
    result = run_suite(suite, model, out=out, say=read.say, command=command or read.typed(), **options)
    folder = Path(result.record["folder"])
    _print_result(result)
    print(f"\nexplorer: {(folder / 'explorer.html').resolve()}\nreport: {(folder / 'report.html').resolve()}", flush=True)
    return folder


def _print_result(result: SuiteResult) -> None:
    for name, table in result.tables.items():
        lines = f"{table.provenance.get('title', '')}\n{table}".splitlines()
        # A long table is cut, but not its last line: the caption, which says how to read it.
        shown = [*lines[:_MOST_LINES], f"... all {len(lines)} lines: tables/{name}.md", lines[-1]]
        print("\n" + "\n".join(lines if len(lines) <= _MOST_LINES + 2 else shown))
    print(f"\n{result.summary.text()}")


@app.command()
def report(folder: RunPath) -> None:
    """Rebuild report.html of a run or a discovery from the files in its folder."""
    from ..discovery.page import is_discovery
    from ..discovery.page import write_report as write_discovery
    from ..reports.page import write_report

    write = write_discovery if is_discovery(folder) else write_report
    print(f"written: {write(folder).resolve()}")


@app.command()
def compare(
    first: RunPath,
    second: RunPath,
    out: Annotated[Path | None, read.out_folder("folder for the comparison; by default beside the first run")] = None,
) -> None:
    """Compare two runs: summaries, circuits aligned by role, and every table that both have, with intervals.

    A repeated comparison of the same runs replaces the old one. Nothing else is overwritten: a free name is used instead.
    """
    if out is None:
        check_folder(first.parent)
    _compare(first, second, out or first.parent / f"{first.name}-and-{second.name}")


def _compare(first: Path, second: Path, out: Path) -> None:
    from ..reports.compare import write_comparison

    print(f"written: {write_comparison(first, second, out).resolve()}")
