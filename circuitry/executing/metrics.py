"""A metric on logits, checked: what a user's own function returns is looked at before it becomes an effect."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import CircuitryError
from ..planning import Metric


def evaluate(metric: Metric, logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    """A metric on logits [row, token], one number a row. Raises CircuitryError where a user's function is wrong.

    >>> from circuitry.planning import METRICS
    >>> zeros, token = torch.zeros(2, 3), torch.tensor([0, 1])
    >>> evaluate(METRICS["probability"], zeros, zeros, token, token)
    tensor([0.3333, 0.3333])
    """
    value = metric.function(logits, base, answer, foil)
    if not isinstance(value, Tensor) or value.shape != answer.shape:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise CircuitryError(f"the metric returned {shape}; it should return one number a row, shape {tuple(answer.shape)}")
    if value.dtype == torch.bool:
        raise CircuitryError("the metric returned truth values, which have no difference; make numbers of them with .double()")
    if value.is_complex():
        raise CircuitryError("the metric returned complex numbers")
    return value
