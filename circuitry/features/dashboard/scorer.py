"""What gives a feature a score: one small interface, and the scorers that ship."""

from __future__ import annotations

from typing import Any, Protocol

from ...errors import CircuitryError, expected
from .question import Question


class Scorer(Protocol):
    """Anything with a name that scores questions.

    ``proxy`` says that no reader, human or model, looked at the text: the scores are computed from activations. A scorer may have a
    ``key`` besides, which tells its answers from those of the same scorer with other settings.
    """

    @property
    def name(self) -> str:
        """Who gives the scores, as tables and figures say it."""
        ...

    @property
    def proxy(self) -> bool:
        """Whether the scores only stand in for a scorer's."""
        ...

    def score(self, question: Question) -> int | str | None:
        """A whole number, a text that holds one, or None for a refusal."""
        ...


KINDS = ("proxy", "local:MODEL", "endpoint:MODEL")
"""How scorers are named: offline from activations, a model on this machine, a model behind an OpenAI-compatible endpoint."""


def scorer(name: str, **options: Any) -> Scorer:
    """A scorer by its name: one of ``KINDS``. Options are those of ``LocalScorer`` and ``EndpointScorer``.

    Raises CircuitryError for another name.

    >>> scorer("proxy").proxy
    True
    """
    kind, _, model = name.partition(":")
    if kind == "proxy" and not model:
        from .proxy import ProxyScorer

        return ProxyScorer()
    if kind == "local" and model:
        from .local import LocalScorer

        return LocalScorer(model, **options)
    if kind == "endpoint" and model:
        from .endpoint import EndpointScorer

        return EndpointScorer(model, **options)
    raise CircuitryError(expected(f"a scorer ({', '.join(KINDS)})", name))
