"""What of the answer's logits is compared: the effect of a patch is the metric on the patched run less that on the base run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..errors import CircuitryError, suggest
from ..results.units import KL

Metric: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(logits [row, vocab], base logits [row, vocab], answer [row], foil [row]) -> [row]."""


def _pick(values: Tensor, tokens: Tensor) -> Tensor:
    return values.gather(-1, tokens[:, None])[:, 0]


def _logit(logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    return _pick(logits, answer)


def _foil_logit(logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    return _pick(logits, foil)


def _logit_difference(logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    return _pick(logits, answer) - _pick(logits, foil)


def _probability(logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    return _pick(logits.softmax(-1), answer)


def _log_probability(logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    return _pick(logits.log_softmax(-1), answer)


def _kl(logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    p = base.log_softmax(-1)
    return (p.exp() * (p - logits.log_softmax(-1))).sum(-1)


METRICS: dict[str, tuple[Metric, str]] = {
    "logit": (_logit, "change of the answer's logit"),
    "foil_logit": (_foil_logit, "change of the foil's logit"),
    "logit_difference": (_logit_difference, "change of logit(answer) - logit(foil)"),
    "probability": (_probability, "change of the answer's probability"),
    "log_probability": (_log_probability, "change of the answer's log probability, nats"),
    "kl": (_kl, KL),
}


def metric(what: str | Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[Metric, str]:
    """A metric by name, or a function of your own (logits [row, vocab], answer [row], foil [row]) -> [row].

    Returns the metric and its unit. Raises CircuitryError for an unknown name.

    >>> metric("kl")[1]
    'KL divergence from the base run, nats'
    """
    if callable(what):
        own = what
        return (lambda logits, base, answer, foil: own(logits, answer, foil)), f"change of {getattr(what, '__name__', 'metric')}"
    if not isinstance(what, str) or what not in METRICS:
        raise CircuitryError(f"no metric {what!r}; {suggest(str(what), METRICS)}")
    return METRICS[what]


def evaluate(one: Metric, logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    """A metric on [row, vocab] logits, checked for its shape. Raises CircuitryError where a user's function is wrong.

    >>> zeros, token = torch.zeros(2, 3), torch.tensor([0, 1])
    >>> evaluate(METRICS["probability"][0], zeros, zeros, token, token)
    tensor([0.3333, 0.3333])
    """
    value = one(logits, base, answer, foil)
    if not isinstance(value, Tensor) or value.shape != answer.shape:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise CircuitryError(f"the metric returned {shape}; it should return one number a row, shape {tuple(answer.shape)}")
    if value.dtype == torch.bool or value.is_complex():
        kind = (
            "truth values, which have no difference; make numbers of them with .double()"
            if value.dtype == torch.bool
            else "complex numbers"
        )
        raise CircuitryError(f"the metric returned {kind}")
    return value
