"""What gives a feature a score: one small interface, and the judges that ship."""

from __future__ import annotations

from typing import Any, Protocol

from ...errors import CircuitryError, expected
from .question import Question


class Judge(Protocol):
    """Anything with a name that scores questions.

    ``proxy`` says that no reader, human or model, looked at the text: the scores are computed from activations. A judge may have a
    ``key`` besides, which tells its answers from those of the same judge with other settings.
    """

    @property
    def name(self) -> str:
        """Who judges, as tables and figures say it."""
        ...

    @property
    def proxy(self) -> bool:
        """Whether the scores only stand in for a judge's."""
        ...

    def score(self, question: Question) -> int | str | None:
        """A whole number, a text that holds one, or None for a refusal."""
        ...


KINDS = ("proxy", "local:MODEL", "endpoint:MODEL")
"""How judges are named: offline from activations, a model on this machine, a model behind an OpenAI-compatible endpoint."""


def judge(name: str, **options: Any) -> Judge:
    """A judge by its name: one of ``KINDS``. Options are those of ``LocalJudge`` and ``EndpointJudge``.

    Raises CircuitryError for another name.

    >>> judge("proxy").proxy
    True
    """
    kind, _, model = name.partition(":")
    if kind == "proxy" and not model:
        from .proxy import ProxyJudge

        return ProxyJudge()
    if kind == "local" and model:
        from .local import LocalJudge

        return LocalJudge(model, **options)
    if kind == "endpoint" and model:
        from .endpoint import EndpointJudge

        return EndpointJudge(model, **options)
    raise CircuitryError(expected(f"a judge ({', '.join(KINDS)})", name))
