"""The command line: ``circuitry run | patch | explain | graph | models | demo``. Imports torch only in commands that need it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import CircuitryError

if TYPE_CHECKING:
    from .models import Model as LoadedModel
    from .suites import SuiteResult

app = typer.Typer(
    help="Which components carry a behaviour, and along which paths, in Transformers and state-space models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[str, typer.Argument(help="bundled:NAME, a Hugging Face name, a folder, or a .gguf file")]
PathText = Annotated[str, typer.Argument(help='for example "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"')]
Examples = Annotated[int, typer.Option(help="prompts to average over")]
Seed = Annotated[int, typer.Option(help="seed of the prompts")]
TaskName = Annotated[str, typer.Option(help="a shipped task or a file that defines TASK")]
Options = Annotated[
    list[str] | None, typer.Option("--option", help="a task option as name=value, such as distance=64; repeatable")
]
Values = Annotated[list[str] | None, typer.Option("--axis", help="values of an open axis, such as layer=0,1; repeatable")]
Memory = Annotated[str, typer.Option(help="bound for one batch, such as 512MiB")]
Dtype = Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
Out = Annotated[Path, typer.Option(help="folder for results")]


def main() -> None:
    """Run the command line; a mistake of the user is one message without a traceback, and exit code 2."""
    try:
        app()
    except CircuitryError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


@app.command()
def run(
    suite: Annotated[str, typer.Argument(help="the suite: induction")],
    model: Annotated[str, typer.Option(help="bundled:NAME, a Hugging Face name, a folder, or a .gguf file")] = "bundled:mamba",
    out: Out = Path("runs"),
    distances: Annotated[str, typer.Option(help="distances of the tables")] = "8,16,32,64,128",
    distance: Annotated[int, typer.Option(help="distance at which the circuit is taken apart")] = 32,
    examples: Examples = 128,
    seed: Seed = 0,
    memory: Memory = "512MiB",
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Run a whole suite on a model: tables, heat maps, the circuit diagram and a summary in a folder."""
    if suite != "induction":
        raise CircuitryError(f"no suite {suite!r}; known here: induction")
    _suite(
        model, out, dtype, device, distances=_numbers(distances), distance=distance, examples=examples, seed=seed, memory=memory
    )


@app.command()
def demo(out: Out = Path("runs"), examples: Examples = 64) -> None:
    """The induction suite on every bundled model: offline, in minutes."""
    from .models import bundled

    for name in bundled():
        _suite(name, out, "float32", "cpu", examples=examples)


def _suite(name: str, out: Path, dtype: str, device: str, **options: Any) -> None:
    from .suites import induction

    model = _load(name, dtype, device)
    print(f"\n{model}", flush=True)
    result = induction(model, say=_say, **options)
    folder = result.save(_fresh(out / f"induction-{_plain(name)}"))
    _print_result(result)
    print(f"\ntables, heat maps and circuit diagrams: {folder.resolve()}", flush=True)


def _load(name: str, dtype: str = "float32", device: str = "cpu") -> LoadedModel:
    """Load a model without what transformers says meanwhile: kernels it misses, and a bar for every file."""
    from transformers.utils import logging

    from .models import load

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return load(name, dtype=dtype, device=device)


def _say(what: str) -> None:
    """What runs next, above the progress bar; only for people."""
    if sys.stderr.isatty():
        print(f"  {what[:150]}", file=sys.stderr, flush=True)


def _print_result(result: SuiteResult) -> None:
    for table in result.tables.values():
        print(f"\n{table.about.get('title', '')}\n{table.about.get('path', '')}")
        print((table.pivot().round(2) + 0.0).to_string(na_rep="-"))
        print(f"({table.caption()})")
    print(f"\n{result.summary.text()}")


def _fresh(folder: Path) -> Path:
    """A folder no earlier run has used."""
    made, number = folder, 2
    while made.exists():
        made, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return made


def _plain(name: str) -> str:
    """A model's name as part of a folder's name."""
    last = Path(name).stem if name.endswith(".gguf") else name.removeprefix("bundled:").rstrip("/").split("/")[-1]
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in last)


@app.command()
def patch(
    model: Model,
    path: PathText,
    task: TaskName = "induction",
    option: Options = None,
    axis: Values = None,
    examples: Examples = 128,
    seed: Seed = 0,
    metric: Annotated[str, typer.Option(help="logit, logit_difference, probability, log_probability or kl")] = "logit",
    intervention: Annotated[str, typer.Option(help="resample, zero or mean")] = "resample",
    direction: Annotated[str, typer.Option(help="noising or denoising")] = "noising",
    verify: Annotated[int, typer.Option(help="check this many cells against the reference engine")] = 0,
    memory: Memory = "512MiB",
    dtype: Dtype = "float32",
    device: Device = "cpu",
    out: Annotated[Path | None, typer.Option(help="also write the table: .csv, .json, .md, .tex, .png or .svg")] = None,
) -> None:
    """Patch one path on one model and print its table."""
    from .running import patch as run_patch

    writer = _writer(out)
    options: Any = {"metric": metric, "intervention": intervention, "direction": direction, "verify": verify, "memory": memory}
    table = run_patch(_load(model, dtype, device), _task(task, option, examples, seed), path, axes=_axes(axis), **options)
    print(table)
    if out is not None:
        writer(table, out)
        print(f"written: {out.resolve()}")


def _writer(out: Path | None) -> Callable[[Any, Path], object]:
    """How to write a table to this file; a wrong suffix is refused before anything runs."""
    known: dict[str, Callable[[Any, Path], object]] = {
        ".csv": lambda t, p: t.to_csv(p),
        ".json": lambda t, p: t.to_json(p),
        ".md": lambda t, p: t.to_markdown(p),
        ".tex": lambda t, p: t.to_latex(p),
        ".png": lambda t, p: t.plot(p),
        ".svg": lambda t, p: t.plot(p),
        ".parquet": lambda t, p: t.to_parquet(p),
    }
    if out is not None and out.suffix not in known:
        raise CircuitryError(f"a table cannot be written as {out.suffix!r}; known: {', '.join(known)}")
    return known[out.suffix] if out is not None else lambda *_: None


@app.command()
def explain(
    model: Model, path: PathText, task: TaskName = "induction", option: Options = None, axis: Values = None,
    examples: Examples = 128, seed: Seed = 0, intervention: str = "resample", direction: str = "noising",
) -> None:  # fmt: skip
    """Say what a path would run: passes, frozen set, kind of path patching, predicted cost. Runs nothing."""
    from .running import explain as run_explain

    options: Any = {"axes": _axes(axis), "intervention": intervention, "direction": direction}
    print(run_explain(_load(model), _task(task, option, examples, seed), path, **options))


@app.command()
def graph(
    model: Annotated[str, typer.Argument(help="a model, or an architecture: gpt2, gpt_neox, llama, mamba")],
    out: Annotated[Path | None, typer.Option(help="write .svg, .png, .dot, .graphml or .json; by default NAME-graph.svg")] = None,
) -> None:
    """Show the nodes of a model's architecture, and draw one layer or write the whole graph."""
    from .architecture import graph as make_graph
    from .content import names

    known = model in names("graphs") or model.endswith(".py")
    made = make_graph(model) if known else _load(model).graph
    print(repr(made))
    for family in made.families:
        indices = f"[{','.join(family.indices)}]" if family.indices else ""
        ports = f"  ports: {', '.join(family.ports)}" if family.ports else ""
        print(f"  {family.name + indices:<20} {family.shape:<28} {family.meaning}{ports}")
    target = out or Path(f"{_plain(model)}-graph.svg")
    _write_graph(made, target)
    print(f"written: {target.resolve()}")


def _write_graph(made: Any, target: Path) -> None:
    from .architecture.export import to_dot, to_graphml, to_json

    written = {".dot": to_dot, ".graphml": to_graphml, ".json": to_json}
    if target.suffix in written:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(written[target.suffix](made))
        return
    from .results.architecture_diagram import draw_layer
    from .results.figures import save

    save(draw_layer(made), target)


@app.command()
def models() -> None:
    """List the models that ship with circuitry, and the kinds it can load."""
    from .architecture import model_types
    from .models import bundled

    print("ready to use, offline:")
    for name in bundled():
        print(f"  {name}")
    print("Hugging Face model types that can be loaded by name or folder (llama ones from GGUF too):")
    print(f"  {', '.join(sorted(model_types()))}")


def _task(name: str, options: list[str] | None, examples: int, seed: int) -> Any:
    from .prompting import task

    return task(name, examples=examples, seed=seed, **{k: _value(v) for k, v in _pairs(options)})


def _axes(values: list[str] | None) -> dict[str, list[Any]]:
    return {name: [_value(v) for v in text.split(",")] for name, text in _pairs(values)}


def _pairs(texts: list[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name or not value:
            raise CircuitryError(f"{text!r} is not of the form name=value")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _value(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _numbers(text: str) -> list[int]:
    if not all(part.strip().isdigit() for part in text.split(",")):
        raise CircuitryError(f"{text!r} is no list of numbers; 8,16,32 would do")
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
