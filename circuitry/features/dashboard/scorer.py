"""The interface of scorers, and the choice of one by its name."""

from __future__ import annotations

from typing import Any, Protocol

from ...errors import CircuitryError, expected
from .question import Question


class Scorer(Protocol):
    """Anything with a name that scores questions.

    ``proxy`` means that no reader, human or model, read the text: the scores are computed from activations. A scorer may also have
    a ``key``, which separates its stored answers from those with other settings.
    """

    @property
    def name(self) -> str:
        """Who gives the scores, for tables and figures."""
        ...

    @property
    def proxy(self) -> bool:
        """Whether the scores are only a stand-in for those of a reader."""
        ...

    def score(self, question: Question) -> int | str | None:
        """A whole number, a text that contains one, or None for a refusal."""
        ...


KINDS = ("proxy", "local:MODEL", "endpoint:MODEL")
"""Names of scorers: offline from activations, a model on this machine, a model behind an OpenAI-compatible endpoint."""


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
