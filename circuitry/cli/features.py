"""The command for the feature dashboard: ``features``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CircuitryError, expected, no_effect
from . import options as read
from .options import Device, Dtype

if TYPE_CHECKING:
    from ..features.dashboard.score import Estimate
    from ..features.dashboard.source import Source

app = typer.Typer()
Acts = Annotated[Path | None, typer.Argument(help="a folder of feature activations, with a subfolder for each layer")]
TOKENIZER = "the model whose tokenizer decodes the text; by default the one that the activations name"


@app.command()
def features(
    first: Acts = None,
    second: Acts = None,
    matches: Annotated[Path | None, typer.Option(help="the matches of their features, as 'circuitry mppc' writes them")] = None,
    corpus: Annotated[Path | None, typer.Option(help="the corpus of the activations, a safetensors file")] = None,
    out: Annotated[Path, typer.Option(help="folder for the dashboard and its data")] = Path("features"),
    limit: Annotated[int, typer.Option(help="how many matches to show, and features to score")] = 300,
    scorer: Annotated[
        str | None, typer.Option(help="autointerp scorer that also scores features: proxy, local:MODEL or endpoint:MODEL")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help='matches with a seed variant, for figure 5: "model seed=FOLDER"; repeatable')
    ] = None,
    url: Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible endpoint; by default OpenAI's")] = None,
    key: Annotated[
        str | None, typer.Option(help="environment variable that holds the API key; OPENAI_API_KEY for OpenAI")
    ] = None,
    per_minute: Annotated[float | None, typer.Option(help="most requests per minute, 60 by default")] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(help="a setting of each request as name=value, instead of temperature and max_tokens; repeatable"),
    ] = None,
    price: Annotated[str | None, typer.Option(help="prices of a million tokens, read and written, such as 2.5,10")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before an endpoint is used")] = False,
    tokenizer: Annotated[str | None, typer.Option(help=TOKENIZER)] = None,
    saes: Annotated[
        list[Path] | None,
        typer.Option(help="a folder of autoencoders, for --text and for the tokens that features promote; repeatable"),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="the model of each --saes, if its files do not name it")] = None,
    text: Annotated[str | None, typer.Option(help="a custom text: the features of --saes that fire most on it")] = None,
    feature: Annotated[
        list[str] | None, typer.Option(help="with --text, also this feature, such as resid[2].latent[17]; repeatable")
    ] = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Write a feature dashboard for matched features of two models; --scorer also scores their complexity and monosemanticity.

    The folder keeps the scorer's answers. Run the same command to resume: no question is asked twice. With --saes the page has
    the tokens that features promote. --text prints and writes what the features of --saes do on a text; it needs no activations.
    """
    from ..features.activations.corpus import Corpus
    from ..features.dashboard.scorer import scorer as make_scorer
    from ..features.dashboard.source import source_of
    from ..features.dashboard.study import study
    from ..features.matching.matches import Matches
    from ..features.matching.store import feature_acts

    _check_text(text, feature, saes, model)
    sources = _sources(saes or [], model or [], dtype, device)
    if text is not None:
        _show_text(sources, text, feature or [], out)
        if first is None:
            return
    if first is None or second is None or matches is None or corpus is None:
        raise CircuitryError("give two folders of activations with --matches and --corpus; or --text with --saes")

    def agree(estimate: Estimate) -> None:
        print(estimate.text(), flush=True)
        if estimate.questions and remote and not yes:
            typer.confirm("ask them?", abort=True)

    remote = scorer is not None and scorer.startswith("endpoint:")
    for flag, value in (("--url", url), ("--key", key), ("--per-minute", per_minute), ("--setting", setting), ("--yes", yes)):
        if value not in (None, False) and not remote:
            raise no_effect(flag, ..., "no endpoint is asked", f"use --scorer endpoint:MODEL, or leave {flag} out")
    endpoint: dict[str, Any] = {
        "url": url,
        "key": key,
        "per_minute": 60 if per_minute is None else per_minute,
        "settings": read.values(setting) or None,
    }
    local = {"dtype": dtype, "device": device} if scorer is not None and scorer.startswith("local:") else {}
    chosen = make_scorer(scorer, **(endpoint if remote else local)) if scorer is not None else None
    matches_by_variant = {name: Matches.load(Path(file)) for name, file in read.pairs(variant)}
    words, sides = Corpus.load(corpus), (feature_acts(first), feature_acts(second))
    decoder = _tokenizer(tokenizer or sides[0][0].index.get("model"), words.tokenizer)
    of_sides = tuple(source_of(side, sources) for side in sides)
    if sources and of_sides == (None, None) and text is None:
        raise CircuitryError("none of the autoencoders of --saes wrote these activations; give those that did")
    settings: dict[str, Any] = {
        "scorer": chosen,
        "variants": matches_by_variant,
        "limit": limit,
        "price": _price(price),
        "agree": agree,
        "sources": of_sides,
    }
    result = study(Matches.load(matches), *sides, words, decoder, out, progress=True, **settings)
    print(result.text())


def _check_text(text: str | None, feature: list[str] | None, saes: list[Path] | None, model: list[str] | None) -> None:
    """Refuse flags that have no effect, and a text without autoencoders."""
    if feature and text is None:
        raise no_effect("--feature", ..., "no text is read", "give --text, or leave --feature out")
    if text is not None and not saes:
        raise CircuitryError("--text needs autoencoders; give their folder with --saes")
    if model and len(model) != len(saes or []):
        raise CircuitryError(f"--model names the model of each --saes, in order: expected {len(saes or [])}, got {len(model)}")


def _sources(folders: list[Path], names: list[str], dtype: str, device: str) -> list[Source]:
    """The autoencoders of folders, each with its model."""
    from ..features.dashboard.source import Source

    sources = []
    for number, folder in enumerate(folders):
        saes = read.saes(folder)
        loaded = read.model_of(folder, saes, names[number] if names else None, dtype, device)
        sources.append(Source(loaded, saes))
    return sources


def _show_text(sources: list[Source], text: str, features: list[str], out: Path) -> None:
    """Print what features do on a text, and write text.html."""
    from ..features.dashboard.custom_text import text_features, write_text_page

    found = [text_features(source, text, features=features) for source in sources]
    print("\n".join(one.text() for one in found))
    print(f"text: {write_text_page(found, out / 'text.html').resolve()}")


def _price(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        reading, writing = (float(part) for part in text.split(","))
    except ValueError:
        what = "two prices of a million tokens, read and written"
        raise CircuitryError(expected(what, text, "try 2.5,10")) from None
    return reading, writing


def _tokenizer(name: str | None, digest: str) -> Any:
    """The tokenizer of a model. Raises CircuitryError if the corpus was made with another one."""
    from ..features.activations.corpus import tokenizer_digest

    if name is None:
        raise CircuitryError("the activations do not name their model; give it with --tokenizer MODEL")
    tokenizer = read.load(name).tokenizer
    if tokenizer is not None and digest and tokenizer_digest(tokenizer) != digest:
        raise CircuitryError(
            f"the corpus was not made with the tokenizer of {name}; give the model that it was made for with --tokenizer"
        )
    return tokenizer
