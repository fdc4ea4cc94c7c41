"""The command over features: ``features``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CircuitryError, no_effect
from . import options as read
from .options import Device, Dtype

if TYPE_CHECKING:
    from ..features.dashboard.score import Estimate

app = typer.Typer()
Acts = Annotated[Path, typer.Argument(help="a folder of feature activations, one folder inside it for each layer")]
TOKENIZER = "whose tokenizer shows the text: a model as for other commands; by default the one that the activations name"


@app.command()
def features(
    first: Acts,
    second: Acts,
    matches: Annotated[Path, typer.Option(help="the matches of their features, as 'circuitry mppc' writes them")],
    corpus: Annotated[Path, typer.Option(help="the corpus that the activations are of, a safetensors file")],
    out: Annotated[Path, typer.Option(help="folder for the page and everything else")] = Path("features"),
    limit: Annotated[int, typer.Option(help="matches shown, and features judged")] = 300,
    judge: Annotated[str | None, typer.Option(help="also score features: proxy, local:MODEL or endpoint:MODEL")] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help='matches with a seed variant, for figure 5: "model seed=FOLDER"; repeatable')
    ] = None,
    url: Annotated[str | None, typer.Option(help="of an OpenAI-compatible endpoint; OpenAI's without")] = None,
    key: Annotated[str | None, typer.Option(help="environment variable with the API key; OPENAI_API_KEY for OpenAI")] = None,
    per_minute: Annotated[float | None, typer.Option(help="requests a minute at most, 60 by default")] = None,
    setting: Annotated[
        list[str] | None, typer.Option(help="of a request, instead of temperature and max_tokens: name=value; repeatable")
    ] = None,
    price: Annotated[str | None, typer.Option(help="of a million tokens read and written, such as 2.5,10")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask before an endpoint is used")] = False,
    tokenizer: Annotated[str | None, typer.Option(help=TOKENIZER)] = None,
    dtype: Dtype = "float32",
    device: Device = "cpu",
) -> None:
    """A page to look at matched features of two models, and with a judge their complexity and monosemanticity.

    Answers of a judge are kept in the folder: the same command again goes on where it was stopped and asks nothing twice.
    """
    from ..features.activations.corpus import Corpus
    from ..features.dashboard.judge import judge as make_judge
    from ..features.dashboard.study import study
    from ..features.matching import Matches, feature_acts

    def agree(told: Estimate) -> None:
        print(told.text(), flush=True)
        if told.questions and remote and not yes:
            typer.confirm("ask them?", abort=True)

    remote = judge is not None and judge.startswith("endpoint:")
    for flag, value in (("--url", url), ("--key", key), ("--per-minute", per_minute), ("--setting", setting), ("--yes", yes)):
        if value not in (None, False) and not remote:
            raise no_effect(flag, ..., "no endpoint is asked", f"use --judge endpoint:MODEL, or leave {flag} out")
    endpoint: dict[str, Any] = {
        "url": url,
        "key": key,
        "per_minute": 60 if per_minute is None else per_minute,
        "settings": read.values(setting) or None,
    }
    local = {"dtype": dtype, "device": device} if judge is not None and judge.startswith("local:") else {}
    chosen = make_judge(judge, **(endpoint if remote else local)) if judge is not None else None
    told = {name: Matches.load(Path(file)) for name, file in read.pairs(variant)}
    text, sides = Corpus.load(corpus), (feature_acts(first), feature_acts(second))
    words = _tokenizer(tokenizer or sides[0][0].index.get("model"), text.tokenizer)
    how: dict[str, Any] = {"judge": chosen, "variants": told, "limit": limit, "price": _price(price), "agree": agree}
    found = study(Matches.load(matches), *sides, text, words, out, progress=True, **how)
    print(found.text())


def _price(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        reading, writing = (float(part) for part in text.split(","))
    except ValueError:
        raise CircuitryError(f"{text!r} is no pair of prices; 2.5,10 would do: of a million tokens read, and written") from None
    return reading, writing


def _tokenizer(name: str | None, digest: str) -> Any:
    """The tokenizer of a model. Raises CircuitryError where the corpus has the tokens of another."""
    from ..features.activations.corpus import tokenizer_digest

    if name is None:
        raise CircuitryError("the activations do not say which model they are of; --tokenizer MODEL would do")
    found = read.load(name).tokenizer
    if found is not None and digest and tokenizer_digest(found) != digest:
        raise CircuitryError(
            f"the corpus does not have the tokens of {name}; --tokenizer with the model it was made for would do"
        )
    return found
