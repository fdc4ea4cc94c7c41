"""The softmax of attention with exact effects of one query or one key as its gradient: the corrections of AtP*."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..models.attention import Score
from .rows import Rows
from .softmax import change_of, mean_derivative, widened


def key_derivative(grad: Tensor, scores: Tensor, change: Tensor) -> Tensor:
    """A gradient of scores [..., key] that, times ``change``, gives for every key the effect if its score alone changes.

    ``grad`` is the gradient of the pattern. Where nothing changes it is the usual gradient.

    >>> change = torch.tensor([0.0, 40.0])
    >>> (key_derivative(torch.tensor([0.0, 1.0]), torch.zeros(2), change) * change).tolist()
    [-0.0, 0.5]
    """
    # A key's share is the sigmoid of its score less that of all others together, so a rise by d changes it by
    # sigmoid(high) sigmoid(-low) (1 - exp(-|d|)), and the others keep their proportions. The best key needs a sum without
    # itself: where its share is rounded to 1, what the others have cannot be had by subtraction.
    pattern = torch.softmax(scores, -1)
    best = torch.zeros_like(pattern, dtype=torch.bool).scatter_(-1, scores.argmax(-1, keepdim=True), True)
    without = scores.masked_fill(best, torch.finfo(scores.dtype).min)
    rest = torch.where(best, 0, pattern)
    others = torch.where(
        best, torch.logsumexp(without, -1, keepdim=True), torch.logsumexp(scores, -1, keepdim=True) + torch.log1p(-rest)
    )
    mean = torch.where(
        best,
        (torch.softmax(without, -1) * grad).sum(-1, keepdim=True),
        ((pattern * grad).sum(-1, keepdim=True) - rest * grad) / (1 - rest),
    )
    start, size = scores - others, change.abs()
    slope = torch.where(size > 0, -torch.expm1(-size) / size.clamp(min=torch.finfo(size.dtype).tiny), 1)
    low, high = torch.minimum(start, start + change), torch.maximum(start, start + change)
    return torch.sigmoid(high) * torch.sigmoid(-low) * slope * (grad - mean)


class _Secant(torch.autograd.Function):
    """The softmax of scores [point * example, ...], given twice: as they depend on queries, and as they depend on keys.

    Its gradient is exact while ``mode`` says so, else the usual one.
    """

    @staticmethod
    def forward(
        ctx: Any, by_query: Tensor, by_key: Tensor, start: Tensor, query_change: Tensor, key_change: Tensor, mode: Secant
    ) -> Tensor:
        ctx.mode = mode
        pattern = torch.softmax(by_query, -1)
        ctx.save_for_backward(start, query_change, key_change, pattern)
        return pattern

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        start, query_change, key_change, pattern = ctx.saved_tensors
        if not ctx.mode.exact:
            usual = pattern * (grads[0] - (grads[0] * pattern).sum(-1, keepdim=True))
            return usual, usual, None, None, None, None
        grad = grads[0].unflatten(0, (-1, len(start)))  # type: ignore[no-untyped-call]
        by_query = mean_derivative(grad, start, query_change)
        by_key = key_derivative(grad, start.expand_as(grad), key_change.expand_as(grad))
        return by_query.flatten(0, 1), by_key.flatten(0, 1), None, None, None, None


_secant: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Secant], Tensor] = _Secant.apply


class Secant:
    """A softmax for ``AttentionTap.softmax``. While ``exact`` is set, the gradient of a query or a key in the rows between, times its change
    from clean to corrupted, is its exact effect on the pattern if all else is clean. It must be linear in both scores, as all are without a cap.

    >>> from circuitry.discovery.rows import Point
    >>> rows, q = Rows(1, (Point(0.0, 1.0),)), torch.tensor([[[1.0]], [[9.0]], [[1.0]]], requires_grad=True)
    >>> k = torch.tensor([[[0.0], [1.0]]]).expand(3, 2, 1)
    >>> Secant(rows, exact=True)(q, k, lambda q, k: q @ k.mT)[2, 0, 1].backward()
    >>> bool(torch.isclose(q.grad[2] * 8, torch.sigmoid(torch.tensor(9.0)) - torch.sigmoid(torch.tensor(1.0))))
    True
    """

    def __init__(self, rows: Rows, *, exact: bool = False) -> None:
        self.rows, self.exact = rows, exact

    def __call__(self, q: Tensor, k: Tensor, score: Score) -> Tensor:
        rows = self.rows
        by_query, by_key = (widened(score(*pair)) for pair in ((q, k.detach()), (q.detach(), k)))
        start = rows.clean(by_query).detach()
        # Scores of all rows at once, since a mask may differ between them; only the first rows of these are of use.
        with torch.no_grad():
            queries, keys = rows.clean(widened(score(_swapped(q, rows), k))), rows.clean(widened(score(q, _swapped(k, rows))))
        ends = torch.softmax(by_query[: 2 * rows.examples], -1)
        changes = change_of(start, queries), change_of(start, keys)
        between = _secant(rows.between(by_query), rows.between(by_key), start, *changes, self)
        return torch.cat([ends, between]).to(q.dtype)


def _swapped(value: Tensor, rows: Rows) -> Tensor:
    """The corrupted runs' value in the place of the clean ones'."""
    return torch.cat([rows.corrupted(value), value[rows.examples :]])
