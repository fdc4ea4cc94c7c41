"""Arguments that several commands share, and how their texts are read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CircuitryError, expected
from ..planning.interventions import INTERVENTIONS
from ..planning.metrics import METRICS
from ..store.files import check_writable

if TYPE_CHECKING:
    from ..models.model import Model as LoadedModel
    from ..team import Team


def _either(names: Iterable[str], usual: str = "") -> str:
    """Names as a choice, in words."""
    *others, last = (f"{name} (the default)" if name == usual else name for name in names)
    return f"{', '.join(others)} or {last}"


_MODELS = "bundled:NAME, compiled:NAME, package:NAME, a Hugging Face NAME or NAME@REVISION, a folder, or a .gguf file"
Model = Annotated[str, typer.Argument(help=_MODELS)]
ModelOption = Annotated[str, typer.Option("--model", help=_MODELS)]
Revision = Annotated[
    str | None, typer.Option(help="branch, tag or commit of a Hugging Face model, such as a training checkpoint")
]
PathText = Annotated[str, typer.Argument(help='for example "ssm_state[{layer}] @ B+3 -> logits freezing ssm_state"')]
Examples = Annotated[int, typer.Option(help="prompts to average over")]
ExamplesOfTask = Annotated[
    int | None,
    typer.Option(
        "--examples", help="prompts to average over; by default as many as the task defines: 128, or every row of a file"
    ),
]
Seed = Annotated[int, typer.Option(help="seed of the prompts")]
TaskName = Annotated[str, typer.Option(help="a shipped task, a file that defines TASK, or a table of prompts: .csv or .jsonl")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", help="an option as name=value, such as distance=64; repeatable; 8,16,32 is a list"),
]
Values = Annotated[list[str] | None, typer.Option("--axis", help="values of an open axis, such as layer=0,1; repeatable")]
Metric = Annotated[str | None, typer.Option(help=_either(METRICS, usual="logit"))]
Baseline = Annotated[int | None, typer.Option(help="random nodes to compare with, 16 by default")]
Intervention = Annotated[str, typer.Option(help=_either(name for name, one in INTERVENTIONS.items() if not one.needs_value))]
Direction = Annotated[str, typer.Option(help="noising or denoising")]
Memory = Annotated[str, typer.Option(help="memory limit for one batch, such as 512MiB")]
MemoryOption = Annotated[str | None, typer.Option("--memory", help="memory limit for one batch, 512MiB by default")]
ExecutorName = Annotated[
    str | None, typer.Option("--executor", help="what runs the plan: suffix (the default), rows or reference")
]
Verify = Annotated[int, typer.Option(help="check this many cells against the independent reference")]
Dtype = Annotated[str, typer.Option(help="float32, float64, bfloat16 or float16")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")]
DeviceMap = Annotated[
    str | None, typer.Option(help="auto, balanced, balanced_low_0 or sequential: spread a model that is larger than one device")
]
Texts = Annotated[
    str | None,
    typer.Option(help="a folder, a .txt, .jsonl or .parquet file, or a dataset's name; by default Python's own documentation"),
]
Context = Annotated[int, typer.Option(help="most tokens per document")]
Out = Annotated[Path, typer.Option(help="folder for results")]


def load(
    name: str, dtype: str = "float32", device: str = "cpu", revision: str | None = None, device_map: str | None = None
) -> LoadedModel:
    """Load a model; ``circuitry.load`` lists the names it may have."""
    from ..models.loading import load as load_model

    if device_map is not None:
        where = None if device == "cpu" else device  # which nobody need have asked for
        return load_model(name, dtype=dtype, device=where, device_map=device_map, revision=revision)
    if device == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun: each process has its own
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    return load_model(name, dtype=dtype, device=device, revision=revision)


@contextmanager
def together() -> Iterator[Team]:
    """The processes that torchrun has started for a command and that share its work; only the first prints and writes."""
    from ..executing.distributed import together as share

    with ExitStack() as stack:
        every = stack.enter_context(share())
        if every.rank:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        try:
            yield every
        except CircuitryError as error:
            if every.world_size == 1:
                raise
            if every.rank == 0:  # said here, where a process that is told to stop still comes to it
                print(error, file=sys.stderr, flush=True)
            raise SystemExit(0 if every.rank else 2) from None  # torchrun stops all where one fails


def task(name: str, options: list[str] | None, examples: int | None, seed: int, usual: int | None = None) -> Any:
    """The task with its options; without ``examples`` as many as it has by default, of which no more than ``usual``."""
    from ..prompting.task import task as make_task

    given = merged(options, examples=examples, seed=seed)
    if "name" in given:
        raise CircuitryError("name cannot be given with --option; use --task")
    posed = make_task(name, **given)
    return posed if examples is not None or usual is None else posed.but(examples=min(usual, posed.examples))


def executor(name: str | None, memory: str | None, verify: int = 0) -> dict[str, Any]:
    """``executor=`` from its flags, or nothing if none was given, so that a refusal names only given flags."""
    from ..executing.open import DEFAULT
    from ..executing.open import executor as choose

    asked = name is not None or memory is not None or verify
    return {"executor": choose(name or DEFAULT, memory=memory, verify=verify)} if asked else {}


def axes(texts: list[str] | None) -> dict[str, list[Any]]:
    """Values of open axes: name=value,value."""
    return {name: [value(v) for v in text.split(",")] for name, text in pairs(texts)}


def values(texts: list[str] | None) -> dict[str, Any]:
    """Options by name; a comma makes a list."""
    return {name: [value(v) for v in text.split(",")] if "," in text else value(text) for name, text in pairs(texts)}


def merged(texts: list[str] | None, **flags: Any) -> dict[str, Any]:
    """Options by name, and arguments that have their own flags; an option may not repeat one of these."""
    options = values(texts)
    if twice := sorted(options.keys() & flags.keys()):
        raise CircuitryError(f"{twice[0]} cannot be given with --option; use --{twice[0].replace('_', '-')}")
    return {**options, **flags}


def given(**flags: Any) -> dict[str, Any]:
    """Only the flags that were given; the called function refuses those that have no effect."""
    return {name: value for name, value in flags.items() if value is not None}


def pairs(texts: list[str] | None) -> list[tuple[str, str]]:
    """name=value texts, cut."""
    found = []
    for text in texts or []:
        name, equals, given = text.partition("=")
        if not equals or not name or not given:
            raise CircuitryError(expected("name=value", text))
        found.append((name.strip(), given.strip()))
    return found


def value(text: str) -> int | float | bool | str | None:
    """A number, true, false or none where it reads like one."""
    told = text.strip()
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    if told.lower() in words:
        return words[told.lower()]
    if told.lstrip("-").isdigit():
        return int(told)
    try:
        return float(told)
    except ValueError:
        return told


def check_suffix(out: Path | None, what: str, known: Iterable[str]) -> None:
    """Refuse a file of a kind that is not written, or in a place that cannot be written, before anything runs."""
    if out is not None and out.suffix not in known:
        raise CircuitryError(f"{what} cannot be written as {out.suffix!r}; try {', '.join(known)}")
    if out is not None:
        check_writable(out)


def typed() -> str:
    """The command line as it was given, for the record."""
    return " ".join(["circuitry", *(f'"{a}"' if " " in a else a for a in sys.argv[1:])])


def warn(what: str) -> None:
    """Print a note to stderr, so that logs show it too."""
    print(f"note: {what}", file=sys.stderr, flush=True)


def say(what: str) -> None:
    """Print what runs next above the progress bar, on a terminal only."""
    if sys.stderr.isatty():
        print(f"  {what[:150]}", file=sys.stderr, flush=True)
