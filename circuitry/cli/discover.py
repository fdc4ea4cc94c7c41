"""The command ``discover``: from a model and a task to its circuit, without naming anything beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import no_effect
from ..store.files import check_folder
from . import options as read
from .options import (
    Attach,
    Device,
    DeviceMap,
    Direction,
    Dtype,
    ExamplesOfTask,
    ExecutorName,
    FigureStyle,
    MemoryOption,
    Metric,
    Model,
    Options,
    Revision,
    Seed,
    TaskName,
)

app = typer.Typer()


@app.command()
def discover(
    model: Model,
    revision: Revision = None,
    task: TaskName = "induction",
    option: Options = None,
    examples: ExamplesOfTask = None,
    seed: Seed = 0,
    method: Annotated[
        str | None,
        typer.Option(
            help="block-ig (the default), ig-activations (the default for the nodes of small models), eap, eap-ig-inputs, "
            "eap-ig-activations, atp-star, relp, exact or random"
        ),
    ] = None,
    level: Annotated[str, typer.Option(help="edge or node")] = "edge",
    features: Annotated[bool, typer.Option("--features", help="rank latents and errors of attached autoencoders")] = False,
    attach: Attach = None,
    latents: Annotated[int | None, typer.Option(help="how many latents of each node to rank at most, 1000 by default")] = None,
    positions: Annotated[bool, typer.Option(help="keep token positions apart, or add them up")] = True,
    metric: Metric = None,
    direction: Direction = "noising",
    verify: Annotated[int, typer.Option(help="how many of the best to patch exactly")] = 50,
    confirm: Annotated[bool, typer.Option(help="rank on one half of the prompts and verify on the other")] = True,
    edges: Annotated[int | None, typer.Option(help="how many edges the circuit is made of, 40 by default")] = None,
    executor: ExecutorName = None,
    memory: MemoryOption = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    device_map: DeviceMap = None,
    out: Annotated[Path | None, read.out_folder("folder for results; by default one in runs/ named after all of this")] = None,
    style: FigureStyle = "screen",
) -> None:
    """Rank every edge of a model by how much it carries of a task, verify the best exactly, and score their circuit.

    With --features and --attach FOLDER, rank the latents and errors of autoencoders instead.

    Tables, figures, the circuit, its scores and report.html are written into a folder. Run the same command to resume an
    interrupted run.
    """
    from ..discovery.search import discover as run_discover

    if attach and not features:
        raise no_effect("attach", ..., "without --features no latents are ranked", "give --features too")
    settings: dict[str, Any] = {"level": level, "direction": direction, "features": features}
    settings |= read.given(method=method, metric=metric, edges=edges, latents=latents) | read.executor(executor, memory)
    posed = read.task(task, option, examples, seed)
    if out is None:
        check_folder(Path("runs"))
    loaded = read.load(model, dtype, device, revision, device_map, attach)
    print(f"\n{loaded}", flush=True)
    folder = out or Path("runs") / _named(posed.name, loaded.name, method, "latent" if features else level)
    run_discover(
        loaded, posed, positions=positions, verify=verify, confirm=confirm, seed=seed, out=folder, command=read.typed(), **settings
    )  # fmt: skip
    _print(folder)


def _named(task: str, model: str, method: str | None, level: str) -> str:
    """A folder's name: what is most likely to differ between two runs."""
    from ..suites.folder import plain

    return "-".join(
        ["discover", plain(task), plain(model), *([method] if method else []), *([f"{level}s"] if level != "edge" else [])]
    )


def _print(folder: Path) -> None:
    """What was found, and where it is."""
    from ..discovery.page import RESULTS

    results: dict[str, Any] = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    print(results["text"])
    if results["curve"]:
        print(f"\n{results['curve']['text']}")
    if "scores" in results:
        print(f"\n{results['scores']['text']}")
    if "no_circuit" in results:
        print(f"\n{results['no_circuit']}")
    print(
        f"\nstability: the best {results['edges']} have a mean Jaccard index of {results['jaccard']:.2f} with those of resampled prompts"
    )
    print(f"\nedges: {(folder / 'edges.json').resolve()}\nreport: {(folder / 'report.html').resolve()}", flush=True)
