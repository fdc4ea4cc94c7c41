"""Commands that compare several models: ``circuits``, ``universality`` and ``replicate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import no_effect
from . import options as read
from .options import Device, Dtype, Examples, ExecutorName, FigureStyle, MemoryOption, Options, Out, Seed, Texts
from .scorers import Key, PerMinute, Price, ScorerName, Setting, Url, Yes, asking

app = typer.Typer()


@app.command()
def circuits(
    suite: Annotated[str, typer.Argument(help="induction, ioi, or a custom file that defines SUITE")],
    models: Annotated[list[str], typer.Argument(help="two models or more, such as bundled:gpt_neox bundled:mamba")],
    out: Out = Path("runs"),
    option: Options = None,
    examples: Examples = 32,
    seed: Seed = 0,
    executor: ExecutorName = None,
    memory: MemoryOption = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    style: FigureStyle = "screen",
) -> None:
    """Run a suite on several models and measure how similar their circuits are, by step and by depth.

    Every run has its folder and report, as with 'run'; circuits.html compares them.
    """
    from ..studies.circuits.compare import circuits as compare
    from ..suites.folder import plain
    from ..suites.runner import check_asked

    running = {"examples": examples, "seed": seed, **read.executor(executor, memory)}
    settings = read.merged(option, dtype=dtype, device=device, **running)
    check_asked(suite, **{name: value for name, value in settings.items() if name not in ("dtype", "device")})
    result = compare(models, suite, out=out, say=read.say, **settings)
    print(result.text())
    folder = result.save(out / f"circuits-{plain(suite)}")
    print(f"\nreport: {(folder / 'circuits.html').resolve()}")


@app.command()
def universality(
    models: Annotated[
        tuple[str, str], typer.Option(help="two models: features of the first are matched to those of the second")
    ] = (
        "bundled:gpt_neox",
        "bundled:mamba",
    ),
    seed_variant: Annotated[str | None, typer.Option(help="the first model with another seed (skyline 1)")] = None,
    also: Annotated[
        list[str] | None, typer.Option(help="a further model to look in, as the paper does in RWKV; repeatable")
    ] = None,
    out: Out = Path("runs"),
    texts: Texts = None,
    tokens: Annotated[int, typer.Option(help="tokens to train autoencoders on; a shorter text is repeated")] = 1_000_000,
    match_tokens: Annotated[int, typer.Option(help="tokens to match features on, from other documents")] = 200_000,
    expansion: Annotated[
        int | None, typer.Option(help="features of an autoencoder, as a multiple of the node's width; 8 by default")
    ] = None,
    nodes: Annotated[str, typer.Option(help="the family of nodes: resid (after every block), mlp ...")] = "resid",
    min_count: Annotated[int, typer.Option(help="features that fire on fewer tokens are left out")] = 10,
    neurons: Annotated[bool, typer.Option(help="also match neurons, as a baseline")] = True,
    post_silu: Annotated[
        str | None, typer.Option(help="what are the neurons of a Mamba: scan (its input, after SiLU; the default) or gate")
    ] = None,
    scored: Annotated[int, typer.Option(help="how many matched features to show and score")] = 300,
    causal: Annotated[
        str | None, typer.Option(help="a task: also patch matched features on it, and compare their effects")
    ] = None,
    examples: Annotated[int | None, typer.Option(help="prompts of that task, 64 by default")] = None,
    task_option: Annotated[
        list[str] | None, typer.Option(help="an option of that task as name=value, such as distance=8; repeatable")
    ] = None,
    scorer: ScorerName = None,
    url: Url = None,
    key: Key = None,
    per_minute: PerMinute = None,
    setting: Setting = None,
    price: Price = None,
    yes: Yes = False,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", help="a setting of the training as name=value, such as l1=3")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of the autoencoders and their data, and of the prompts")] = 0,
    fresh: Annotated[bool, typer.Option(help="run again in a new folder")] = False,
    dtype: Dtype = "float32",
    device: Device = "cpu",
    style: FigureStyle = "screen",
) -> None:
    """Train autoencoders on two models, match their features, and compare with neurons and with other seeds.

    The paper's sections 4 and 5: figures 3, 5, 8, 9, 10 and 11, tables, a report, and a feature dashboard. Run the same
    command to resume. Without --scorer, scores are a proxy computed from activations. Under torchrun, processes share the work.
    With --causal TASK, matched features are also patched on a task's prompts: do those that fire alike do the same?
    """
    from ..studies.causal.of_experiment import causal_of
    from ..studies.experiment.run import experiment

    posed = _posed(causal, task_option, examples, seed)
    asked = asking(scorer, url, key, per_minute, setting, price, yes, dtype=dtype, device=device)
    if scorer is None:
        del asked["agree"]  # nothing is asked

    flags: dict[str, Any] = {"nodes": nodes, "min_count": min_count, "neurons": neurons, "seed": seed}
    settings = read.merged(
        option, tokens=tokens, match_tokens=match_tokens, **flags, **read.given(expansion=expansion, post_silu=post_silu)
    )
    with read.together():
        loaded = [read.load(name, dtype, device) for name in (*models, *(also or ()))]
        variant = read.load(seed_variant, dtype, device) if seed_variant is not None else None
        result = experiment(
            loaded,
            seed_variant=variant,
            texts=texts,
            out=out,
            scored=scored,
            fresh=fresh,
            command=read.typed(),
            dtype=dtype,
            device=device,
            say=read.say,
            **asked,
            **settings,
        )
        print(result.text())
        print(f"\nreport: {(Path(result.record['folder']) / 'universality.html').resolve()}")
        if posed is not None:
            folder = result.record["folder"]
            effects = causal_of(folder, loaded, posed, seed_variant=variant, seed=seed, fresh=fresh, say=read.say)
            print(f"\n{effects.text()}\n\nreport: {(Path(effects.record['folder']) / 'causal.html').resolve()}")


def _posed(causal: str | None, options: list[str] | None, examples: int | None, seed: int) -> Any:
    """The task of --causal, or None. Raises CircuitryError for options that have no effect without it."""
    for flag, value in (("--task-option", options), ("--examples", examples)):
        if causal is None and value is not None:
            raise no_effect(flag, ..., "no feature is patched", f"name a task with --causal, or leave {flag} out")
    return None if causal is None else read.task(causal, options, examples, seed, usual=64)


@app.command()
def replicate(
    models: Annotated[
        tuple[str, str] | None, typer.Option(help="a Transformer and a Mamba, in place of the paper's models")
    ] = None,
    seed_variant: Annotated[str | None, typer.Option(help="the first model with another seed (skyline 1)")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="tables (Tables 1 to 4) or features (section 4.4); by default both; repeatable")
    ] = None,
    out: Out = Path("runs"),
    examples: Annotated[int, typer.Option(help="prompts of each cell of Tables 1 to 4")] = 128,
    texts: Texts = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help="a setting of 'circuitry universality' as name=value, such as tokens=1000000; repeatable"
        ),
    ] = None,
    device: Device = "cpu",
    style: FigureStyle = "screen",
) -> None:
    """Measure the numbers that the paper publishes, and print pass or differs for each, under rules that are stated beforehand.

    By default on the paper's models, where they can be downloaded. Run the same command to resume.
    """
    from ..studies.replication.run import PARTS
    from ..studies.replication.run import replicate as run

    chosen: dict[str, Any] = {"only": only or PARTS, "examples": examples, "device": device}
    settings = read.merged(option, **chosen, **read.given(texts=texts))
    result = run(models, seed_variant=seed_variant, out=out, say=read.say, **settings)
    print(result.text())
    print(f"written: {(out / 'replication.csv').resolve()}")
