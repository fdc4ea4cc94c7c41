"""A metric on logits: the values of a user's function are checked before they become effects."""

from __future__ import annotations

import torch
from torch import Tensor

from ..blame import blamed
from ..errors import CircuitryError
from ..planning.metrics import Metric


def evaluate(metric: Metric, logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    """A metric on logits [row, token], one number per row. Raises CircuitryError if a user's function is wrong.

    >>> from circuitry.planning import METRICS
    >>> zeros, token = torch.zeros(2, 3), torch.tensor([0, 1])
    >>> evaluate(METRICS["probability"], zeros, zeros, token, token)
    tensor([0.3333, 0.3333])
    """
    with blamed(f"while metric {metric.name!r} was computed"):
        value = metric.function(logits, base, answer, foil)
    if not isinstance(value, Tensor) or value.shape != answer.shape:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise CircuitryError(
            f"the metric {metric.name!r} returned {shape}; it should return one number a row, shape {tuple(answer.shape)}"
        )
    if value.dtype == torch.bool:
        raise CircuitryError(
            f"the metric {metric.name!r} returned truth values, which have no difference; make numbers of them with .double()"
        )
    if value.is_complex():
        raise CircuitryError(f"the metric {metric.name!r} returned complex numbers")
    return value


def check_reads(metric: Metric, device: torch.device | str = "cpu") -> None:
    """Refuse a metric that reads other logits than it declares, by trying it on made-up ones: an executor may pass no others.

    Raises CircuitryError with the shapes that the metric got and what it did.

    >>> check_reads(Metric("token 3", lambda logits, base, answer, foil: logits[:, 3], reads="answer"))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: metric 'token 3' says reads='answer', so it must return the same for all logits [row, vocabulary] and for those of answer and foil alone [row, 2], which are then tokens 0 and 1; for [2, 2] it fails: index 3 is out of bounds for dimension 1 with size 2. Leave reads out, and it always gets all logits
    """
    if metric.reads == "all":
        return
    answer, foil = torch.tensor([[3, 5], [1, 6]], device=device)
    alone, (first, second) = torch.stack([answer, foil], 1), torch.tensor([[0, 0], [1, 1]], device=device)
    logits, base = (wave(torch.arange(14.0, device=device)).reshape(2, 7) for wave in (torch.sin, torch.cos))
    few = _tried(metric, logits.gather(1, alone), base.gather(1, alone), first, second)
    every = _tried(metric, logits, base, answer, foil)
    if not torch.allclose(few.double(), every.double(), atol=1e-5):
        raise _misread(metric, "it returns other numbers")


def _tried(metric: Metric, logits: Tensor, base: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    try:
        return evaluate(metric, logits, base, answer, foil)
    except (IndexError, RuntimeError, ValueError) as error:
        raise _misread(metric, f"for {list(logits.shape)} it fails: {error.__cause__ or error}") from error


def _misread(metric: Metric, problem: str) -> CircuitryError:
    return CircuitryError(
        f"metric {metric.name!r} says reads={metric.reads!r}, so it must return the same for all logits [row, vocabulary] and for those "
        f"of answer and foil alone [row, 2], which are then tokens 0 and 1; {problem}. Leave reads out, and it always gets all logits"
    )
