"""Whether instrumented logits are those of the stock model: the same bits, or, in float64, as close as the stock model's rounding allows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import ModelError

SAFETY = 4
"""The largest movement that counts as rounding, in multiples of the measured one times the root of the number of layers."""
_LEAST = 1e-5
"""In float64, what a difference may be of the largest logit if one rounding moves the logits by less."""


@torch.no_grad()
def check_stock(model: Any, stock: Tensor, ours: Tensor, ids: Tensor, layers: int, name: str, allowed: float = 0.0) -> None:
    """Refuse hook points with which a model computes something else than the stock model did on the same tokens.

    ``stock`` and ``ours``: logits [row, pos, vocab]. In float32 and below they may differ by ``allowed``. A stock model in float64 still
    computes some parts in float32 (a softmax, a norm, a scan), and its hook points do not. How much such rounding moves the logits
    depends on the weights and grows with depth, so it is measured: every embedding is moved by one rounding of float32.

    Raises ModelError, which gives the difference and the bound.

    >>> import circuitry as ct
    >>> hf, ids = ct.load("bundled:mamba").hf, torch.arange(4)[None]
    >>> check_stock(hf, torch.zeros(1, 4, 9), torch.ones(1, 4, 9), ids, layers=4, name="Mamba")
    Traceback (most recent call last):
    circuitry.errors.ModelError: Mamba: instrumented logits differ from the stock model's by 1, and in torch.float32 none may differ; ...
    """
    error, bound = (stock - ours).abs().max().item(), f"in {model.dtype} none may differ"
    if model.dtype == torch.float64:
        largest = stock.abs().max().item()
        # Most models are far below this, and need no further pass.
        allowed = _LEAST * largest
        if error > allowed:
            allowed = max(allowed, SAFETY * layers**0.5 * _rounding(model, ids))
        bound = f"rounding explains {allowed:.2g} (the largest logit is {largest:.2g})"
    elif allowed:
        bound = f"rounding explains {allowed:.2g}"
    if error > allowed:  # logits that are not numbers are found later, with another message (``checks``)
        from transformers import __version__

        raise ModelError(
            f"{name}: instrumented logits differ from the stock model's by {error:.2g}, and {bound}; the hook points do not compute what "
            f"this model computes (transformers {__version__})"
        )


def _rounding(model: Any, ids: Tensor) -> float:
    """How far the logits move if every embedding moves by one rounding of float32."""
    logits = model(
        ids, use_cache=False
    ).logits  # by the same way as those below, which need not be that of the logits that are checked
    with rounded(model.get_input_embeddings(), 0, torch.finfo(torch.float32).eps):
        return float((model(ids, use_cache=False).logits - logits).abs().max())


@contextmanager
def rounded(embedding: Any, row: int, eps: float) -> Iterator[None]:
    """Move the embeddings of one row by one rounding each, up or down.

    >>> layer = torch.nn.Embedding(3, 2)
    >>> with rounded(layer, 0, 0.5):
    ...     moved = layer(torch.arange(3)[None])
    >>> sorted({round(float(x), 4) for x in (moved / layer.weight).detach().unique()})
    [0.5, 1.5]
    """

    def hook(_: Any, __: Any, out: Tensor) -> Tensor:
        signs = torch.randint(2, out[row].shape, generator=torch.Generator().manual_seed(1)).to(out) * 2 - 1
        out = out.clone()
        out[row] = out[row] * (1 + eps * signs)
        return out

    handle = embedding.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
