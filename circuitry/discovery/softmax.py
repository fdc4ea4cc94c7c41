"""Gradients of attention patterns that do not vanish where attention is nearly 0 or 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..models.attention import Score, Softmax
from ..models.model import Model
from .rows import Rows, legendre

_POINTS = legendre(16)


def mean_derivative(grad: Tensor, start: Tensor, change: Tensor) -> Tensor:
    """The gradient of scores whose pattern has the gradient ``grad`` [..., key], averaged from ``start`` to ``start + change``.

    Times ``change`` and summed over the keys, it is ``grad`` times the exact change of the pattern.

    >>> steep = torch.tensor([0.0, -40.0])
    >>> gradient = mean_derivative(torch.tensor([0.0, 1.0]), torch.zeros(2), steep)
    >>> bool(torch.isclose((gradient * steep).sum(), torch.tensor(-0.5)))
    True
    """
    total = torch.zeros_like(grad)
    for point in _POINTS:
        pattern = torch.softmax(start + point.share * change, -1)
        total += point.weight * pattern * (grad - (grad * pattern).sum(-1, keepdim=True))
    # Sixteen points miss part of a step that is steep. What is missing is known, since the derivative times the change of the
    # scores must be the change of the pattern, and it is added along that change.
    gap = torch.softmax(start + change, -1) - torch.softmax(start, -1)
    missing = (grad * gap - total * change).sum(-1, keepdim=True)
    size = change.square().sum(-1, keepdim=True)
    return total + missing * torch.where(size > 1e-8, change / size.clamp(min=1e-8), 0)


class _Averaged(torch.autograd.Function):
    """The softmax of scores [point * example, ...]. Its derivative is averaged along the straight line between two scores [example, ...]."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, start: Tensor, change: Tensor) -> Tensor:
        ctx.save_for_backward(start, change)
        return torch.softmax(scores, -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        start, change = ctx.saved_tensors
        grad = grads[0].unflatten(0, (-1, len(start)))  # type: ignore[no-untyped-call]
        return mean_derivative(grad, start, change).flatten(0, 1), None, None


_averaged: Callable[[Tensor, Tensor, Tensor], Tensor] = _Averaged.apply


def averaged(rows: Rows) -> Softmax:
    """A softmax for ``AttentionTap.softmax``: the derivative of the rows between is averaged from the clean to the corrupted scores.

    >>> rows = Rows(1, legendre(1))
    >>> scores = torch.tensor([[0.0, 0.0], [0.0, -40.0], [0.0, 0.0]], requires_grad=True)
    >>> averaged(rows)(scores, scores, lambda q, k: q)[2, 1].backward()
    >>> bool(torch.isclose(scores.grad[2, 1] * -40, torch.tensor(-0.5)))
    True
    """

    def softmax(q: Tensor, k: Tensor, score: Score) -> Tensor:
        scores = widened(score(q, k))
        start, stop = rows.clean(scores).detach(), rows.corrupted(scores).detach()
        ends = torch.softmax(scores[: 2 * rows.examples], -1)
        return torch.cat([ends, _averaged(rows.between(scores), start, change_of(start, stop))]).to(q.dtype)

    return softmax


def widened(scores: Tensor) -> Tensor:
    """Scores in the precision in which a softmax is computed.

    >>> widened(torch.zeros(1, dtype=torch.float16)).dtype
    torch.float32
    """
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def change_of(start: Tensor, stop: Tensor) -> Tensor:
    """By how much scores change; those of masked keys do not move.

    >>> change_of(torch.tensor([1.0, torch.finfo().min]), torch.tensor([3.0, 0.0])).tolist()
    [2.0, 0.0]
    """
    return torch.where(start > torch.finfo(start.dtype).min / 2, stop - start, 0)


@contextmanager
def using(model: Model, softmax: Softmax | None) -> Iterator[None]:
    """Within this context attention makes its patterns with ``softmax``; None changes nothing.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> with using(model, averaged(Rows(1, legendre(1)))):
    ...     model.hf.gpt_neox.layers[0].attention.circuitry.softmax.__name__
    'softmax'
    """
    points = [
        module for module in model.hf.modules() if softmax is not None and hasattr(module, "softmax") and hasattr(module, "calls")
    ]
    former = [module.softmax for module in points]
    for module in points:
        module.softmax = softmax
    try:
        yield
    finally:
        for module, function in zip(points, former, strict=True):
            module.softmax = function
