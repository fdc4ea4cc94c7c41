"""The command for the feature dashboard: ``features``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CircuitryError, no_effect
from . import options as read
from .options import Device, Dtype, FigureStyle
from .scorers import Key, PerMinute, Price, ScorerName, Setting, Url, Yes, asking

if TYPE_CHECKING:
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
    out: Annotated[Path, read.out_folder("folder for the dashboard and its data")] = Path("features"),
    limit: Annotated[int, typer.Option(help="how many matches to show, and features to score")] = 300,
    scorer: ScorerName = None,
    variant: Annotated[
        list[str] | None, typer.Option(help='matches with a seed variant, for figure 5: "model seed=FOLDER"; repeatable')
    ] = None,
    url: Url = None,
    key: Key = None,
    per_minute: PerMinute = None,
    setting: Setting = None,
    price: Price = None,
    yes: Yes = False,
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
    style: FigureStyle = "screen",
) -> None:
    """Write a feature dashboard for matched features of two models; --scorer also scores their complexity and monosemanticity.

    The folder keeps the scorer's answers. Run the same command to resume: no question is asked twice. With --saes the page has
    the tokens that features promote. --text prints and writes what the features of --saes do on a text; it needs no activations.
    """
    from ..features.activations.corpus import Corpus
    from ..features.dashboard.source import source_of
    from ..features.dashboard.study import study
    from ..features.matching.matches import Matches
    from ..features.matching.store import feature_acts

    _check_text(text, feature, saes, model)
    if first is None and text is not None:
        _check_alone(matches=matches, corpus=corpus, scorer=scorer, variant=variant, price=price, tokenizer=tokenizer)
    sources = _sources(saes or [], model or [], dtype, device)
    if text is not None:
        _show_text(sources, text, feature or [], out)
        if first is None:
            return
    if first is None or second is None or matches is None or corpus is None:
        raise CircuitryError("give two folders of activations with --matches and --corpus; or --text with --saes")

    asked = asking(scorer, url, key, per_minute, setting, price, yes, dtype=dtype, device=device)
    matches_by_variant = {name: Matches.load(Path(file)) for name, file in read.pairs(variant)}
    words, sides = Corpus.load(corpus), (feature_acts(first), feature_acts(second))
    decoder = _tokenizer(tokenizer or sides[0][0].index.get("model"), words.tokenizer)
    of_sides = tuple(source_of(side, sources) for side in sides)
    if sources and of_sides == (None, None) and text is None:
        raise CircuitryError("none of the autoencoders of --saes wrote these activations; give those that did")
    settings: dict[str, Any] = {"variants": matches_by_variant, "limit": limit, "sources": of_sides, **asked}
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


def _check_alone(**given: object) -> None:
    """Refuse flags of the dashboard if no activations are given."""
    for name, value in given.items():
        if value:
            raise no_effect(f"--{name}", ..., "only a text is read", f"give two folders of activations, or leave --{name} out")


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
