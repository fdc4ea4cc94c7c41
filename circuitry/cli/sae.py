"""Commands for sparse autoencoders: ``sae train | sweep | evaluate | encode | latents``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CircuitryError, no_effect
from ..store.files import check_writable, write_csv
from . import latents
from . import options as read
from .options import Context, Device, Dtype, FigureStyle, Memory, Rank, Revision, Texts, World

if TYPE_CHECKING:
    import pandas as pd

    from ..autoencoders.sae import SAE
    from ..features.activations.corpus import Corpus
    from ..features.activations.stored import ActivationStore
    from ..features.matching.store import FeatureActs

ItsModel = Annotated[str | None, typer.Option(help="the model, if the files do not name it")]
ItsNode = Annotated[str | None, typer.Option(help="the node, if the file of a single SAE does not name it")]
ModelOrActivations = Annotated[
    str, typer.Argument(help="a model, as in 'circuitry patch', or a folder that 'circuitry activations' wrote")
]
ItsActivations = Annotated[
    Path | None,
    typer.Option("--activations", help="a folder that 'circuitry activations' wrote, in place of the model and the text"),
]
Skip = Annotated[int, typer.Option(help="tokens to skip at the beginning of the text, in whole documents")]

Target = Annotated[
    list[str] | None,
    typer.Option(help="train transcoders, which read the nodes and predict these, one for each; repeatable"),
]

app = typer.Typer(
    help="Sparse autoencoders on nodes: train them, evaluate them, write their features' activations, list latents.",
    no_args_is_help=True,
)
app.add_typer(latents.app)


@app.command()
def train(
    model: ModelOrActivations,
    nodes: Annotated[list[str], typer.Argument(help='nodes such as "resid[3]", or families such as resid for all their nodes')],
    out: Annotated[Path, read.out_folder("folder for the training; run the same command to resume")],
    target: Target = None,
    revision: Revision = None,
    texts: Texts = None,
    tokens: Annotated[int, typer.Option(help="activations to train on; a shorter text is repeated")] = 2_000_000,
    expansion: Annotated[int | None, typer.Option(help="features, as a multiple of the node's width; 32 by default")] = None,
    kind: Annotated[str, typer.Option(help="relu, with L1; or topk, batchtopk, jumprelu, matryoshka")] = "relu",
    l1: Annotated[float | None, typer.Option(help="weight of the L1 penalty")] = None,
    k: Annotated[int | None, typer.Option(help="active features per token, for the kinds with k; 32 by default")] = None,
    recipe: Annotated[str | None, typer.Option(help="paper: the paper's recipe, which does not clip gradients")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="any other setting of the training as name=value, such as lr=0.001; repeatable"),
    ] = None,
    batch: Annotated[int, typer.Option(help="tokens per batch")] = 1024,
    buffer: Annotated[int, typer.Option(help="tokens shuffled together")] = 65536,
    context: Context = 1024,
    seed: Annotated[int, typer.Option(help="seed of the weights and of the order of tokens")] = 0,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Train a sparse autoencoder on each node, all from one pass of the model over the text, and write them to a folder.

    Under torchrun, processes share the autoencoders and the passes of the model.
    """
    from ..features.sae.train import train_sae

    data: dict[str, Any] = {"batch": batch, "buffer": buffer, "context": context, "seed": seed}
    settings = read.merged(
        setting, kind=kind, tokens=tokens, **data, **read.given(k=k, expansion=expansion, l1=l1, recipe=recipe)
    )
    given = _stored(model, device) or read.load(model, dtype, device, revision)
    trained = train_sae(given, nodes, texts, target=target or None, out=out, **settings)
    if os.environ.get("RANK", "0") == "0":
        _show(trained.last)
        print(f"written: {out.resolve()}")


@app.command()
def sweep(
    model: ModelOrActivations,
    nodes: Annotated[list[str], typer.Argument(help='nodes such as "resid[3]", or families such as resid for all their nodes')],
    out: Annotated[Path, read.out_folder("folder for the sweep; run the same command to resume")],
    target: Target = None,
    revision: Revision = None,
    texts: Texts = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            help="a setting of the training, or several values of it, such as l1=1,2,4, kind=relu,topk, seed=0,1, "
            "batch=1024,4096, order=0,1 or tokens=1000000; repeatable",
        ),
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="paper: the paper's recipe, which does not clip gradients")] = None,
    test_tokens: Annotated[
        int, typer.Option(help="evaluate every SAE at this many tokens after the text of the training; 0: do not evaluate")
    ] = 16_384,
    buffer: Annotated[int, typer.Option(help="tokens shuffled together")] = 65536,
    context: Context = 1024,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    style: FigureStyle = "screen",
) -> None:
    """Train SAEs with every combination of settings, and write a table and a figure of L0 against what they reconstruct.

    Trainings that differ in batch or order take a pass of the model over the text each; all others share one. From a folder of
    activations the model does not run, and SAEs are not evaluated with it.
    """
    from ..features.activations.stored import ActivationStore
    from ..features.sae.recipe import Recipe
    from ..features.sae.sweep import sweep as run

    stored, settings = _stored(model, device), read.values(setting)
    given = stored or read.load(model, dtype, device, revision)
    tokens = settings.get("tokens", Recipe.tokens)
    most = max(tokens) if isinstance(tokens, list) else tokens
    test = _text(given, texts, test_tokens, most, context) if test_tokens and not isinstance(given, ActivationStore) else None
    swept = run(
        given, nodes, texts, out=out, target=target or None, test=test, buffer=buffer, context=context, recipe=recipe, **settings
    )
    if os.environ.get("RANK", "0") == "0":
        print(swept)
        print(f"written: {out.resolve()}")


@app.command()
def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="folders of trainings, or of single SAEs in a known layout")],
    model: ItsModel = None,
    revision: Revision = None,
    node: ItsNode = None,
    texts: Texts = None,
    tokens: Annotated[int, typer.Option(help="tokens to evaluate at")] = 16_384,
    skip: Skip = 0,
    context: Context = 1024,
    memory: Memory = "512MiB",
    activations: ItsActivations = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    out: Annotated[Path | None, read.out_file("also write the table, as .csv")] = None,
) -> None:
    """Measure L0, explained variance, dead features, and how much cross-entropy is recovered when the model runs on x̂.

    With --activations the model does not run, and the cross-entropies are left out.
    """
    import pandas as pd

    from ..features.sae.evaluate import evaluate as run

    read.check_suffix(out, "a table", [".csv"])
    rows = []
    for folder in folders:
        saes = read.saes(folder, node)
        if activations is not None:
            _check_stored(model=model, texts=texts, skip=skip)
            rows.append(run(_open(activations, device), saes, tokens=tokens).assign(folder=str(folder)))
            continue
        loaded = read.model_of(folder, saes, model, dtype, device, revision)
        text = _text(loaded, texts, tokens, skip, context)
        _warn_of_training_text(folder, saes, text, skip)
        rows.append(run(loaded, saes, text, memory=memory).assign(folder=str(folder)))
    table = pd.concat(rows, ignore_index=True)
    _show(table)
    if out is not None:
        write_csv(table, out, index=False)
        print(f"written: {out.resolve()}")


@app.command()
def encode(
    folder: Annotated[Path, typer.Argument(help="folder of a training, or of a single SAE in a known layout")],
    out: Annotated[Path, read.out_folder("folder for the activations, one subfolder per SAE; run the same command to resume")],
    corpus: Annotated[Path | None, typer.Option(help="the corpus, a safetensors file; written if it does not exist")] = None,
    activations: ItsActivations = None,
    model: ItsModel = None,
    revision: Revision = None,
    node: ItsNode = None,
    texts: Texts = None,
    tokens: Annotated[int | None, typer.Option(help="tokens of a new corpus; a million by default")] = None,
    skip: Skip = 0,
    context: Annotated[int | None, typer.Option(help="most tokens per document, 1024 by default")] = None,
    stored_dtype: Annotated[str, typer.Option(help="type of the activations in the files: float16 or float32")] = "float16",
    memory: Memory = "512MiB",
    rank: Rank = None,
    world: World = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Write the feature activations of SAEs on a corpus, for 'circuitry mppc' and 'circuitry features'.

    To compare two models, give both the same corpus file. Several processes may share the work with --rank and --world, or under
    torchrun, if the corpus file exists. None of them waits for the others.
    """
    from ..features.activations.corpus import Corpus
    from ..features.matching.encode import encode as run

    if activations is None and corpus is not None and not corpus.exists():
        check_writable(corpus)
    saes, (number, processes) = read.saes(folder, node), read.ranks(rank, world)
    if activations is not None:
        _check_stored(model=model, texts=texts, tokens=tokens, skip=skip, context=context)
        text = Corpus.load(corpus) if corpus is not None else None
        acts = run(_open(activations, device), saes, text, out, stored_dtype=stored_dtype, rank=number, world_size=processes)
        _print_written(acts, len(saes), out)
        return
    if corpus is None:
        raise CircuitryError("name the file of the corpus with --corpus, or stored activations with --activations")
    if corpus.exists() and (texts or tokens or skip or context):
        read.warn(f"{corpus} exists and is used as it is; --texts, --tokens, --skip and --context have no effect")
    elif not corpus.exists() and processes > 1:
        raise CircuitryError(
            f"{corpus} does not exist, and several processes need the same corpus; write it with one process first"
        )
    loaded = read.model_of(folder, saes, model, dtype, device, revision)
    if not corpus.exists():
        _text(loaded, texts, tokens or 1_000_000, skip, context or 1024).save(corpus)
        _warn_of_training_text(folder, saes, Corpus.load(corpus), skip)
    how: dict[str, Any] = {"memory": memory, "stored_dtype": stored_dtype, "rank": number, "world_size": processes}
    _print_written(run(loaded, saes, Corpus.load(corpus), out, **how), len(saes), out)


def _print_written(written: list[FeatureActs], wanted: int, out: Path) -> None:
    for acts in written:
        print(acts)
    if len(written) < wanted:
        read.warn(
            f"{wanted - len(written)} of {wanted} folders in {out} are not complete: other processes have not written their files; if one "
            "of them has ended, run this command again without --rank to write what is missing"
        )
    else:
        print(f"written: {out.resolve()}")


def _stored(name: str, device: str) -> ActivationStore | None:
    """The activations in a folder of that name; None if it is a model."""
    from ..features.activations.stored import RECORD

    return _open(Path(name), device) if (Path(name) / RECORD).is_file() else None


def _open(folder: Path, device: str) -> ActivationStore:
    from ..features.activations.stored import ActivationStore

    return ActivationStore.open(folder, device)


def _check_stored(**given: object) -> None:
    """Refuse flags that say how to make activations, if they are stored."""
    for name, value in given.items():
        if value:
            raise no_effect(f"--{name}", ..., "--activations has them already", f"leave --{name} out, or leave --activations out")


def _text(model: Any, texts: str | None, tokens: int, skip: int, context: int) -> Corpus:
    """The first ``tokens`` tokens of the text after the skipped documents."""
    from ..features.activations.corpus import corpus

    if not skip:
        return corpus(model, texts, tokens=tokens, context=context)
    # ``skip`` drops whole documents and so up to a document's tokens too many; ``context`` is the most that one can have.
    return corpus(model, texts, tokens=skip + context + tokens, context=context).skip(skip).take(tokens)


def _warn_of_training_text(folder: Path, saes: dict[Any, SAE], text: Corpus, skip: int) -> None:
    provenance = next(iter(saes.values())).config.provenance
    seen = provenance.get("recipe", {}).get("tokens", 1)
    if provenance.get("text") == text.source and skip < seen:
        read.warn(f"{folder} was trained on this text ({text.source}); use --skip {seen} for the text after it")


def _show(table: pd.DataFrame) -> None:
    print(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
