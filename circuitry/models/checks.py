"""Two checks of every model when it is loaded: the logits node is what the model returns, and no token sees a later one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..architecture.families import Place
from ..errors import ModelError
from .attention import most_positions
from .spread import input_device
from .stock import SAFETY, rounded

_MORE, _WINDOW = 16, 8
"""Tokens beyond the scan's chunk, and the widest window during the check: checking one of 4,096 tokens would take minutes."""


@torch.no_grad()
def check_logits(hf: Any, place: Place) -> None:
    """Refuse a place of the logits whose output the model does not return: some scale or cap it after their output layer.

    Raises ModelError. A place that is the model itself is right by construction.

    >>> import circuitry as ct
    >>> check_logits(ct.load("bundled:mamba").hf, Place("lm_head"))
    """
    if not place.module:
        return
    seen: list[Any] = []
    handle = hf.get_submodule(place.module).register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        logits = hf(torch.arange(4, device=input_device(hf))[None] % hf.config.vocab_size, use_cache=False).logits
    finally:
        handle.remove()
    if len(seen) != 1 or not torch.equal(seen[0].to(logits.dtype), logits):
        raise ModelError(
            f"the logits of this architecture file are the output of {place.module}, which is not what the model returns "
            '(it may scale, cap or cut them after that); use circuitry.architecture.LOGITS for the family, or Place("")'
        )


@torch.no_grad()
def check_causality(hf: Any, layers: int, chunk: int) -> None:
    """Refuse a model in which a token changes the logits before it. Released versions of transformers had this fault.

    The check runs one batch of four rows, a few tokens longer than ``chunk``, the number of tokens that a scan takes at a time: a
    random prompt; the same with one token of the first chunk changed; with one of the second changed; and the same with every
    embedding off by one rounding, which shows how far rounding alone moves logits in this model. A sliding window is narrowed to
    8 tokens during the check, so that the prompt is longer than the window of every model. Raises ModelError.

    >>> import circuitry as ct
    >>> check_causality(ct.load("bundled:mamba").hf, layers=4, chunk=16)
    """
    length = min(chunk + _MORE, most_positions(hf.config) or chunk + _MORE)
    if length < 2:
        return  # nothing comes before the only token
    ids, changed = _prompts(length, hf.config.vocab_size)
    # In float64 too: the norms and softmax of stock models are float32 at most.
    eps = max(torch.finfo(hf.dtype).eps, torch.finfo(torch.float32).eps)
    with _narrow(hf.config), rounded(hf.get_input_embeddings(), 3, eps):
        logits = hf(ids.to(input_device(hf)), use_cache=False).logits.double().cpu()
    if logits.isnan().any():
        narrow = hf.dtype.itemsize < torch.float32.itemsize
        hint = "load it in another dtype, such as float32" if narrow else "some of its weights may not be numbers"
        raise ModelError(f"the model's logits are not numbers in {hf.dtype}; {hint}")
    noise = max(_moved(logits, 3, length), eps * logits[logits.isfinite()].abs().max().item())
    for row, at in enumerate(changed, start=1):
        moved = _moved(logits, row, at)
        if moved > SAFETY * layers**0.5 * noise:
            raise ModelError(
                f"this model is not causal: changing token {at} of {length} moves the logits before it by {moved:.2g}, and rounding "
                f"moves them by {noise:.2g}. A patch would change what came before it; try another version of transformers"
            )


def _prompts(length: int, vocabulary: int) -> tuple[Tensor, tuple[int, int]]:
    """A random prompt four times [row, pos], with one token changed in the second and in the third, and these two positions."""
    prompt = torch.randint(vocabulary, (length,), generator=torch.Generator().manual_seed(0))
    changed = max(1, length // 2 - _MORE // 4), max(1, length - _MORE // 4)
    ids = prompt.repeat(4, 1)
    for row, at in enumerate(changed, start=1):
        ids[row, at] = (ids[row, at] + 1) % vocabulary
    return ids, changed


def _moved(logits: Tensor, row: int, end: int) -> float:
    """The largest difference between a row and the first row at the positions before ``end``."""
    unchanged, changed = logits[0, :end], logits[row, :end]
    # Where both are -inf, their difference is not a number.
    return torch.where(unchanged == changed, 0.0, unchanged - changed).abs().max().item() if end else 0.0


@contextmanager
def _narrow(config: Any) -> Iterator[None]:
    """Narrow a sliding window to a few tokens."""
    size = getattr(config, "sliding_window", None)
    if not size or size <= _WINDOW:
        yield
        return
    config.sliding_window = _WINDOW
    try:
        yield
    finally:
        config.sliding_window = size
