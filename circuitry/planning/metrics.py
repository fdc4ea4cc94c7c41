"""Metrics on the answer's logits. An entry has all that tables and executors must know about its metric.

Metrics work with whatever tensors an executor passes, so this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from ..blame import check_takes
from ..errors import CircuitryError, suggest
from ..html.shown import Shown

if TYPE_CHECKING:
    from markupsafe import Markup

Function: TypeAlias = Callable[[Any, Any, Any, Any], Any]
"""(logits [row, vocab], base logits [row, vocab], answer [row], foil [row]) -> [row]."""
Reads = Literal["answer", "answer and foil", "all"]


@dataclass(frozen=True)
class Metric(Shown):
    """What is measured; the effect of a patch is the metric on the patched run less that on the base run.

    ``function``: (logits [row, vocab], base logits [row, vocab], answer [row], foil [row]) -> [row]. ``unit``: by default the
    change of ``name``. ``signed``: whether an effect can be negative. If it cannot, a mean above zero is not evidence, so it is
    not tested. ``needs_gap``: whether clean and corrupted prompts must differ in it, or else there is nothing to explain.
    ``reads``: the tokens whose logits it uses. If these are not all, an executor may pass the logits of these tokens only, and
    ``answer`` and ``foil`` are then columns of these. Raises CircuitryError for an empty name, an unknown ``reads`` or a function of other arguments.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    >>> spread = ct.Metric("spread", lambda logits, base, answer, foil: logits.std(-1), unit="standard deviation of the logits")
    >>> ct.patch(model, task, "h[2] @ B+1 -> logits", metric=spread, lint=False).unit
    'standard deviation of the logits'
    """

    name: str
    function: Function
    unit: str = ""
    signed: bool = True
    needs_gap: bool = True
    reads: Reads = "all"

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_metric

        return of_metric(self)

    def __post_init__(self) -> None:
        if not self.name:
            raise CircuitryError("a metric needs a name, which tables show; got ''")
        if self.reads not in get_args(Reads):
            raise CircuitryError(f"a metric reads {' or '.join(map(repr, get_args(Reads)))}; got reads={self.reads!r}")
        check_takes(f"metric {self.name!r}", self.function, ("logits", "base", "answer", "foil"))
        if not self.unit:
            object.__setattr__(self, "unit", f"change of {self.name}")


def _pick(values: Any, tokens: Any) -> Any:
    return values.gather(-1, tokens[:, None])[:, 0]


def _kl(logits: Any, base: Any, answer: Any, foil: Any) -> Any:
    p = base.log_softmax(-1)
    return (p.exp() * (p - logits.log_softmax(-1))).sum(-1)


METRICS: dict[str, Metric] = {
    entry.name: entry
    for entry in (
        Metric(
            "logit",
            lambda logits, base, answer, foil: _pick(logits, answer),
            unit="change of the answer's logit",
            reads="answer",
        ),
        Metric(
            "foil_logit",
            lambda logits, base, answer, foil: _pick(logits, foil),
            unit="change of the foil's logit",
            reads="answer and foil",
        ),
        Metric(
            "logit_difference",
            lambda logits, base, answer, foil: _pick(logits, answer) - _pick(logits, foil),
            unit="change of logit(answer) - logit(foil)",
            reads="answer and foil",
        ),
        Metric(
            "probability",
            lambda logits, base, answer, foil: _pick(logits.softmax(-1), answer),
            unit="change of the answer's probability",
        ),
        Metric(
            "log_probability",
            lambda logits, base, answer, foil: _pick(logits.log_softmax(-1), answer),
            unit="change of the answer's log probability, nats",
        ),
        Metric("kl", _kl, unit="KL divergence from the base run, nats", signed=False, needs_gap=False),
    )
}
"""By name: what ``metric=`` takes as text."""


def metric(what: Metric | str | Callable[[Any, Any, Any], Any]) -> Metric:
    """A metric by name, a Metric as it is, or one made from a function (logits [row, vocab], answer [row], foil [row]) -> [row].

    Raises CircuitryError for an unknown name, and a function that takes other arguments.

    >>> metric("kl").unit
    'KL divergence from the base run, nats'
    """
    if isinstance(what, Metric):
        return what
    if callable(what):
        function, name = what, getattr(what, "__name__", "metric")
        check_takes(f"metric {name!r}", function, ("logits", "answer", "foil"))
        return Metric(name, lambda logits, base, answer, foil: function(logits, answer, foil))
    if not isinstance(what, str) or what not in METRICS:
        raise CircuitryError(f"no metric {what!r}; {suggest(str(what), METRICS)}")
    return METRICS[what]
