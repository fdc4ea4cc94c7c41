"""Attention from its definition: which tokens a layer sees by the model's config, and one head after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ....errors import GuardError

See = Callable[..., Tensor]


def attend(
    module: Any,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None,
    sinks: Tensor | None,
    see: See,
) -> Tensor:
    """The output of every head [batch, query, head, d_head] from q, k, v [batch, head, pos, d_head]; every value on the way
    passes through ``see``.

    ``mask`` is the stock model's and is only compared with ours. ``sinks`` [head] are scores that a head adds to those of all tokens,
    for a key without a value. Raises GuardError if the masks differ.

    >>> from types import SimpleNamespace
    >>> layer, zeros = SimpleNamespace(layer_idx=0, config=SimpleNamespace(sliding_window=1)), torch.zeros(1, 1, 2, 1)
    >>> values = torch.tensor([[[[2.0], [4.0]]]])
    >>> attend(layer, zeros, zeros, values, torch.tensor([[0, -9.0], [-9.0, 0]])[None, None], *[None] * 3, lambda key, x: x).flatten()
    tensor([2., 4.])
    """
    layer, heads, shared = module.layer_idx, q.shape[1], q.shape[1] // k.shape[1]
    hidden = hidden_tokens(module.config, layer, q.shape[2]).to(q.device)
    _check(mask, hidden, module.config, layer)
    outs = []
    for head in range(heads):
        at = (layer, head)
        qh = see(("head", at, "q"), q[:, head])
        kh, vh = see(("head", at, "k"), k[:, head // shared]), see(("head", at, "v"), v[:, head // shared])
        scores = torch.einsum("bqd,bkd->bqk", qh, kh) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        pattern = see(
            ("head", at, "pattern"), _shares(scores.masked_fill(hidden, -torch.inf), None if sinks is None else sinks[head])
        )
        outs.append(see(("head", at, ""), torch.einsum("bqk,bkd->bqd", pattern, vh)))
    return torch.stack(outs, 2)


def _shares(scores: Tensor, sink: Tensor | None) -> Tensor:
    """exp(score) over the sum of all of them [batch, query, key]."""
    if sink is None:
        return scores.softmax(-1)
    top = torch.maximum(scores.max(-1, keepdim=True).values, sink)
    weights = torch.exp(scores - top)
    return weights / (weights.sum(-1, keepdim=True) + torch.exp(sink - top))


def window(config: Any, layer: int) -> int | None:
    """How many tokens a layer sees, itself included; None for all before it.

    A config says it for each layer (``layer_types``), or once for all of them.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(sliding_window=4, layer_types=["full_attention", "sliding_attention"])
    >>> window(config, 0), window(config, 1)
    (None, 4)
    """
    kinds, size = getattr(config, "layer_types", None), getattr(config, "sliding_window", None)
    return size if size and (kinds is None or kinds[layer] == "sliding_attention") else None


def hidden_tokens(config: Any, layer: int, length: int) -> Tensor:
    """[query, key]: whether a key is hidden from a query, since it comes later or lies outside the layer's window.

    >>> from types import SimpleNamespace
    >>> hidden_tokens(SimpleNamespace(sliding_window=2), 0, 3).int().tolist()
    [[0, 1, 1], [0, 0, 1], [1, 0, 0]]
    """
    query, key = torch.arange(length)[:, None], torch.arange(length)
    size = window(config, layer)
    return (key > query) | (query - key >= (length if size is None else size))


def _check(mask: Tensor | None, hidden: Tensor, config: Any, layer: int) -> None:
    stock = torch.ones_like(hidden).triu(1) if mask is None else mask < 0
    if not (stock == hidden).all():
        size = window(config, layer)
        described = "full attention" if size is None else f"a window of {size} tokens"
        raise GuardError(f"layer {layer}: the mask of the stock model is not that of {described}, which its config says")
