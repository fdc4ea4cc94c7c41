"""What an autoencoder makes of values, written out: f = activation(x W_enc + b_enc), x̂ = f W_dec + b_dec."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def features(sae: Any, x: Tensor) -> Tensor:
    """The features [..., F] of values [..., D].

    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> sae, x = SAE(SAEConfig(2, 6, "topk", 2)), torch.rand(5, 2)
    >>> bool(torch.allclose(features(sae, x), sae.encode(x)))
    True
    """
    x = x.to(sae.W_enc.dtype)
    before: Tensor = (x - sae.b_dec if sae.config.centred else x) @ sae.W_enc + sae.b_enc
    positive: Tensor = before * (before > 0)
    if sae.config.kind == "topk":
        kept = torch.zeros_like(before)
        for row, values in zip(kept.view(-1, before.shape[-1]), before.view(-1, before.shape[-1]), strict=True):
            row[values.argsort(descending=True)[: sae.config.k]] = 1
        return positive * kept
    if sae.config.kind == "jumprelu":
        above: Tensor = before > sae.threshold
        return positive * above
    if sae.config.kind == "relu":
        return positive
    raise NotImplementedError(f"the reference does not have the {sae.config.kind} autoencoder")


def error(sae: Any, x: Tensor) -> Tensor:
    """What is left of values [..., D].

    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> tuple(error(SAE(SAEConfig(2, 6)), torch.rand(5, 2)).shape)
    (5, 2)
    """
    left: Tensor = x.to(sae.W_dec.dtype) - features(sae, x) @ sae.W_dec - sae.b_dec
    return left
