"""The options of commands that ask an autointerp scorer, and the scorer that they choose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CircuitryError, expected, no_effect
from . import options as read

if TYPE_CHECKING:
    from ..features.dashboard.score import Estimate

ScorerName = Annotated[
    str | None, typer.Option("--scorer", help="autointerp scorer that scores features: proxy, local:MODEL or endpoint:MODEL")
]
Url = Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible endpoint; by default OpenAI's")]
Key = Annotated[str | None, typer.Option(help="environment variable that holds the API key; OPENAI_API_KEY for OpenAI")]
PerMinute = Annotated[float | None, typer.Option(help="most requests per minute, 60 by default")]
Setting = Annotated[
    list[str] | None,
    typer.Option(help="a setting of each request as name=value, instead of temperature and max_tokens; repeatable"),
]
Price = Annotated[str | None, typer.Option(help="prices of a million tokens, read and written, such as 2.5,10")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask before an endpoint is used")]


def asking(
    scorer: str | None,
    url: str | None,
    key: str | None,
    per_minute: float | None,
    setting: list[str] | None,
    price: str | None,
    yes: bool,
    **local: str,
) -> dict[str, Any]:
    """The arguments ``scorer``, ``price`` and ``agree`` of the function that asks; ``local`` are the options of a local scorer.

    Raises CircuitryError for flags that have no effect on the scorer, and for one that does not exist.

    >>> asking("proxy", None, None, None, None, None, False)["scorer"].name
    'proxy from activations'
    """
    remote = scorer is not None and scorer.startswith("endpoint:")
    for flag, value in (("--url", url), ("--key", key), ("--per-minute", per_minute), ("--setting", setting), ("--yes", yes)):
        if value not in (None, False) and not remote:
            raise no_effect(flag, ..., "no endpoint is asked", f"use --scorer endpoint:MODEL, or leave {flag} out")

    def agree(estimate: Estimate) -> None:
        print(estimate.text(), flush=True)
        if estimate.questions and remote and not yes:
            typer.confirm("ask them?", abort=True)

    endpoint = {"url": url, "key": key, "per_minute": 60 if per_minute is None else per_minute}
    settings = {**endpoint, "settings": read.values(setting) or None} if remote else {}
    return {"scorer": _scorer(scorer, settings, local), "price": prices(price), "agree": agree}


def _scorer(name: str | None, settings: dict[str, Any], local: dict[str, str]) -> Any:
    if name is None:
        return None
    from ..features.dashboard.scorer import scorer

    return scorer(name, **(local if name.startswith("local:") else settings))


def prices(text: str | None) -> tuple[float, float] | None:
    """Two prices of a million tokens, read and written. Raises CircuitryError for another text.

    >>> prices("2.5,10")
    (2.5, 10.0)
    """
    if text is None:
        return None
    try:
        reading, writing = (float(part) for part in text.split(","))
    except ValueError:
        what = "two prices of a million tokens, read and written"
        raise CircuitryError(expected(what, text, "try 2.5,10")) from None
    return reading, writing
