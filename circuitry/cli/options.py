"""Arguments that several commands share, and functions that read their values."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CircuitryError, expected, no_effect
from ..planning.interventions import INTERVENTIONS
from ..planning.metrics import METRICS
from ..store.files import check_folder, check_writable

if TYPE_CHECKING:
    from ..autoencoders.sae import SAE
    from ..models.model import Model as LoadedModel
    from ..team import Team


def _either(names: Iterable[str], usual: str = "") -> str:
    """The names as "a, b or c"."""
    *others, last = (f"{name} (the default)" if name == usual else name for name in names)
    return f"{', '.join(others)} or {last}"


_MODELS = "bundled:NAME, compiled:NAME, package:NAME, a Hugging Face NAME or NAME@REVISION, a folder, or a .gguf file"
Model = Annotated[str, typer.Argument(help=_MODELS)]
ModelOption = Annotated[str, typer.Option("--model", help=_MODELS)]
Revision = Annotated[
    str | None, typer.Option(help="branch, tag or commit of a Hugging Face model, such as a training checkpoint")
]


def _use_style(context: typer.Context, style: str) -> str:
    """Draw all figures of a command in a style: only what is drawn asks for it, so that no command passes it on."""
    if style != "screen":
        from ..drawing.figures import styled

        context.with_resource(styled(style))
    return style


FigureStyle = Annotated[
    str,
    typer.Option("--style", help="of figures: screen, or paper (3.25 inches wide, 8-point serif type)", callback=_use_style),
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
Intervention = Annotated[str, typer.Option(help=_either(name for name, entry in INTERVENTIONS.items() if not entry.needs_value))]
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
Attach = Annotated[
    list[str] | None,
    typer.Option("--attach", help="a folder of sparse autoencoders, so that paths can name resid[2].latent[17]; repeatable"),
]
Texts = Annotated[
    str | None,
    typer.Option(help="a folder, a .txt, .jsonl or .parquet file, or a dataset's name; by default Python's own documentation"),
]
Context = Annotated[int, typer.Option(help="most tokens per document")]
Rank = Annotated[int | None, typer.Option(help="number of this process, from 0, of --world that share the work")]
World = Annotated[int | None, typer.Option(help="number of processes that share the work")]


def checked_folder(folder: Path | None) -> Path | None:
    """A folder to write, as it is. Raises FileError if files cannot be written into it."""
    if folder is not None:
        check_folder(folder)
    return folder


def checked_file(file: Path | None) -> Path | None:
    """A file to write, as it is. Raises FileError if it cannot be written."""
    if file is not None:
        check_writable(file)
    return file


def out_folder(help: str, *names: str) -> Any:
    """The option of a folder that a command writes; one that cannot be written is refused before anything runs."""
    return typer.Option(*names, help=help, callback=checked_folder)


def out_file(help: str, *names: str) -> Any:
    """The same for a file."""
    return typer.Option(*names, help=help, callback=checked_file)


Out = Annotated[Path, out_folder("folder for results")]


def load(
    name: str,
    dtype: str = "float32",
    device: str = "cpu",
    revision: str | None = None,
    device_map: str | None = None,
    attach: list[str] | None = None,
) -> LoadedModel:
    """Load a model with its autoencoders; ``circuitry.load`` lists the names it may have."""
    from ..models.loading import load as load_model

    requested: str | None = device
    if device_map is not None:
        requested = None if device == "cpu" else device  # cpu is the flag's default, not a request
    elif device == "cuda" and "LOCAL_RANK" in os.environ:  # under torchrun each process has its own GPU
        requested = f"cuda:{os.environ['LOCAL_RANK']}"
    options = {} if device_map is None else {"device_map": device_map}
    model = load_model(name, dtype=dtype, device=requested, revision=revision, **options)
    for folder in attach or ():
        model.attach(folder)
    return model


def model_of(
    folder: Path, saes: dict[Any, SAE], requested: str | None, dtype: str, device: str, revision: str | None = None
) -> LoadedModel:
    """The requested model, or else the one that the files name. Raises CircuitryError if there is neither."""
    provenance = next(iter(saes.values())).config.provenance
    name = requested or provenance.get("model")
    if not name:
        raise CircuitryError(f"{folder} does not name its model; give it with --model")
    loaded = load(str(name), dtype, device, revision)
    if requested and provenance.get("weights") not in (None, loaded.fingerprint):
        warn(f"{folder} was trained on {provenance.get('model')} but is used on {loaded.name}, which has other weights")
    return loaded


def saes(folder: Path, node: str | None = None) -> dict[Any, SAE]:
    """The SAEs of a training by node, or the single SAE of a folder. Raises CircuitryError if its node is not known."""
    from ..autoencoders.sae import SAE
    from ..features.sae.trained import Trained

    if (folder / "training.json").is_file():
        if node is not None:
            raise no_effect(
                "--node", ..., f"{folder} is a training, which names its nodes", "leave it out, or give the folder of one SAE"
            )
        return dict(Trained.load(folder))
    sae = SAE.load(folder)
    named = node or sae.config.node
    if named is None:
        raise CircuitryError(f"{folder} does not name its node; give it with --node")
    return {named: sae}


def ranks(rank: int | None, world: int | None) -> tuple[int, int]:
    """Number of this process and of all, from the flags, or else from torchrun. Raises CircuitryError for one flag without the other."""
    from ..team import environment

    if (rank is None) != (world is None):
        raise CircuitryError("--rank and --world belong together: this process is number RANK of WORLD, from 0")
    return environment() if rank is None or world is None else (rank, world)


@contextmanager
def together() -> Iterator[Team]:
    """Share a command's work among the processes that torchrun started; only the first one prints and writes."""
    from ..executing.distributed import together as share

    with ExitStack() as stack:
        team = stack.enter_context(share())
        if team.rank:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        try:
            yield team
        except CircuitryError as error:
            if team.world_size == 1:
                raise
            # torchrun kills all processes as soon as one fails. The first one prints before it exits, and the others exit with
            # code 0, so that none of them ends the first before it has printed.
            if team.rank == 0:
                print(error, file=sys.stderr, flush=True)
            raise SystemExit(0 if team.rank else 2) from None


def task(name: str, options: list[str] | None, examples: int | None, seed: int, usual: int | None = None) -> Any:
    """The task with its options; without ``examples`` it has its default number of them, at most ``usual``."""
    from ..prompting.task import task as make_task

    settings = merged(options, examples=examples, seed=seed)
    if "name" in settings:
        raise CircuitryError("name cannot be given with --option; use --task")
    posed = make_task(name, **settings)
    return posed if examples is not None or usual is None else posed.but(examples=min(usual, posed.examples))


def executor(name: str | None, memory: str | None, verify: int = 0) -> dict[str, Any]:
    """``executor=`` from its flags, or nothing if none was given, so that an error message names only flags that were given."""
    from ..executing.open import DEFAULT
    from ..executing.open import executor as choose

    flagged = name is not None or memory is not None or verify
    return {"executor": choose(name or DEFAULT, memory=memory, verify=verify)} if flagged else {}


def axes(texts: list[str] | None) -> dict[str, list[Any]]:
    """Values of open axes by name, from texts such as ``name=value,value``."""
    return {name: [value(v) for v in text.split(",")] for name, text in pairs(texts)}


def values(texts: list[str] | None) -> dict[str, Any]:
    """Options by name, from texts such as ``name=value``; a comma makes a list."""
    return {name: [value(v) for v in text.split(",")] if "," in text else value(text) for name, text in pairs(texts)}


def merged(texts: list[str] | None, **flags: Any) -> dict[str, Any]:
    """Options by name, together with arguments that have their own flags. Raises CircuitryError if an option repeats a flag."""
    options = values(texts)
    if twice := sorted(options.keys() & flags.keys()):
        raise CircuitryError(f"{twice[0]} cannot be given with --option; use --{twice[0].replace('_', '-')}")
    return {**options, **flags}


def given(**flags: Any) -> dict[str, Any]:
    """Only the flags that were given, so that the called function can refuse those that have no effect."""
    return {name: value for name, value in flags.items() if value is not None}


def pairs(texts: list[str] | None) -> list[tuple[str, str]]:
    """Texts ``name=value``, split at the first equals sign. Raises CircuitryError for any other text."""
    cut = []
    for text in texts or []:
        name, equals, text_value = text.partition("=")
        if not equals or not name or not text_value:
            raise CircuitryError(expected("name=value", text))
        cut.append((name.strip(), text_value.strip()))
    return cut


def value(text: str) -> int | float | bool | str | None:
    """The number, boolean or None that a text spells, or else the text itself."""
    stripped = text.strip()
    words: dict[str, bool | None] = {"true": True, "false": False, "none": None}
    if stripped.lower() in words:
        return words[stripped.lower()]
    if stripped.lstrip("-").isdigit():
        return int(stripped)
    try:
        return float(stripped)
    except ValueError:
        return stripped


def check_suffix(out: Path | None, kind: str, suffixes: Iterable[str]) -> None:
    """Refuse a file with another suffix, before anything runs."""
    if out is not None and out.suffix not in suffixes:
        raise CircuitryError(f"{kind} cannot be written as {out.suffix!r}; try {', '.join(suffixes)}")


def typed() -> str:
    """The command line as it was given, for the record."""
    return shlex.join(["circuitry", *sys.argv[1:]])


def warn(message: str) -> None:
    """Print a note to stderr, so that logs show it too."""
    print(f"note: {message}", file=sys.stderr, flush=True)


def say(message: str) -> None:
    """Print what runs next above the progress bar, on a terminal only."""
    if sys.stderr.isatty():
        print(f"  {message[:150]}", file=sys.stderr, flush=True)
