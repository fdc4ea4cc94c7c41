"""The gated delta rule with the stock models' operations in their order, for the same bits. Slower, and only for keys that erase themselves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .delta_rule import Written

_CHUNK = 64


def stock_rule(written: Written, query: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """What the tokens read [batch, pos, head, d_value], and the state after them; ``erase`` must be ``key``.

    >>> ones = torch.ones(1, 3, 1, 1)
    >>> stock_rule(Written(ones, ones, ones, 0 * ones, 0 * ones), ones, torch.zeros(1, 1, 1, 1))[0].flatten().tolist()
    [1.0, 2.0, 3.0]
    """
    length = query.shape[1]
    q, k, v, probe, decay = map(_chunked, (query, written.key, written.value, written.probe, written.decay))
    y, h = (_by_head if decay.shape[-1] == 1 else _by_channel)(q, k, v, probe, decay, h)
    return y.flatten(2, 3)[:, :, :length].transpose(1, 2).contiguous(), h


def _chunked(value: Tensor) -> Tensor:
    """[batch, head, chunk, pos, ...], the last chunk filled up with tokens that change nothing."""
    value = value.transpose(1, 2).contiguous()
    return F.pad(value, (0, 0, 0, -value.shape[2] % _CHUNK)).unflatten(2, (-1, _CHUNK))  # type: ignore[no-untyped-call,no-any-return]


def _later(like: Tensor, diagonal: int) -> Tensor:
    return torch.ones(_CHUNK, _CHUNK, dtype=torch.bool, device=like.device).triu(diagonal)


def _by_head(query: Tensor, key: Tensor, value: Tensor, probe: Tensor, decay: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """transformers' ``torch_chunk_gated_delta_rule``."""
    total = decay[..., 0].cumsum(3)
    remains = (total[..., :, None] - total[..., None, :]).masked_fill(_later(query, 1), -torch.inf).exp()
    system, scores = (probe @ key.mT) * remains, (query @ key.mT) * remains
    written = torch.linalg.solve_triangular(system, value, upper=False, unitriangular=True)
    erased = torch.linalg.solve_triangular(system, probe * total.exp()[..., None], upper=False, unitriangular=True)
    query, key = query * total.exp()[..., None], key * (total[..., -1:] - total).exp()[..., None]
    shrunk, y = total[..., -1].exp()[..., None, None], torch.zeros_like(written)
    for i in range(y.shape[2]):
        new = written[:, :, i] - erased[:, :, i] @ h
        y[:, :, i] = query[:, :, i] @ h + scores[:, :, i] @ new
        h = h * shrunk[:, :, i] + key[:, :, i].mT @ new
    return y, h


def _by_channel(query: Tensor, key: Tensor, value: Tensor, probe: Tensor, decay: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """transformers' ``chunk_kimi_delta_attention``."""
    total = decay.cumsum(-2)
    remains = (total.unsqueeze(-2) - total.unsqueeze(-3)).masked_fill(_later(query, 1)[..., None], -torch.inf).exp()
    inverse = -(probe.unsqueeze(-2) * key.unsqueeze(-3) * remains).sum(-1).masked_fill(_later(query, 0), 0)
    for i in range(1, _CHUNK):
        row, before = inverse[..., i, :i].clone(), inverse[..., :i, :i].clone()
        inverse[..., i, :i] = row + (row[..., None] * before).sum(-2)
    inverse = inverse + torch.eye(_CHUNK, dtype=inverse.dtype, device=inverse.device)
    written, erased = inverse @ value, inverse @ (probe * total.exp())
    y = torch.zeros_like(written)
    for i in range(y.shape[2]):
        q, k, g = query[:, :, i], key[:, :, i], total[:, :, i]
        scores = (q.unsqueeze(-2) * k.unsqueeze(-3) * remains[:, :, i]).sum(-1).masked_fill(_later(query, 1), 0)
        new = written[:, :, i] - erased[:, :, i] @ h
        y[:, :, i] = (q * g.exp()) @ h + scores @ new
        h = h * g[:, :, -1].exp()[..., None] + (k * (g[:, :, -1:] - g).exp()).mT @ new
    return y, h
