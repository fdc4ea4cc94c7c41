"""The command over features: ``features``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CircuitryError, expected, no_effect
from . import options as read
from .options import Device, Dtype

if TYPE_CHECKING:
    from ..features.dashboard.score import Estimate

app = typer.Typer()
Acts = Annotated[Path, typer.Argument(help="a folder of feature activations, with a subfolder for each layer")]
TOKENIZER = "the model whose tokenizer decodes the text; by default the one that the activations name"


@app.command()
def features(
    first: Acts,
    second: Acts,
    matches: Annotated[Path, typer.Option(help="the matches of their features, as 'circuitry mppc' writes them")],
    corpus: Annotated[Path, typer.Option(help="the corpus of the activations, a safetensors file")],
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
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """Write a feature dashboard for matched features of two models; --scorer also scores their complexity and monosemanticity.

    The folder keeps the scorer's answers. Run the same command to resume: no question is asked twice.
    """
    from ..features.activations.corpus import Corpus
    from ..features.dashboard.scorer import scorer as make_scorer
    from ..features.dashboard.study import study
    from ..features.matching.matches import Matches
    from ..features.matching.store import feature_acts

    def agree(told: Estimate) -> None:
        print(told.text(), flush=True)
        if told.questions and remote and not yes:
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
    told = {name: Matches.load(Path(file)) for name, file in read.pairs(variant)}
    text, sides = Corpus.load(corpus), (feature_acts(first), feature_acts(second))
    words = _tokenizer(tokenizer or sides[0][0].index.get("model"), text.tokenizer)
    how: dict[str, Any] = {"scorer": chosen, "variants": told, "limit": limit, "price": _price(price), "agree": agree}
    found = study(Matches.load(matches), *sides, text, words, out, progress=True, **how)
    print(found.text())


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
    found = read.load(name).tokenizer
    if found is not None and digest and tokenizer_digest(found) != digest:
        raise CircuitryError(
            f"the corpus was not made with the tokenizer of {name}; give the model that it was made for with --tokenizer"
        )
    return found
