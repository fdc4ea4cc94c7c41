"""What is checked of every model when it is loaded, on a short prompt: that its logits are those it returns."""

from __future__ import annotations

from typing import Any

import torch

from ..architecture import Place
from ..errors import ModelError


@torch.no_grad()
def check_logits(hf: Any, place: Place) -> None:
    """Refuse a place of the logits that is not what the model returns, which some scale or cap after their output layer.

    Raises ModelError. The place that is the model itself is right by construction.

    >>> import circuitry as ct
    >>> check_logits(ct.load("bundled:mamba").hf, Place("lm_head"))
    """
    if not place.module:
        return
    seen: list[Any] = []
    handle = hf.get_submodule(place.module).register_forward_hook(lambda _, __, out: seen.append(out))
    try:
        logits = hf(torch.arange(4, device=hf.device)[None] % hf.config.vocab_size, use_cache=False).logits
    finally:
        handle.remove()
    if len(seen) != 1 or not torch.equal(seen[0].to(logits.dtype), logits):
        raise ModelError(
            f"the logits of this architecture file are the output of {place.module}, which is not what the model returns "
            '(it may scale, cap or cut them after that); use circuitry.architecture.LOGITS for the family, or Place("")'
        )
