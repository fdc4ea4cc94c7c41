"""Checkpoints of RWKV-7 as its author publishes them (Peng et al. 2025; https://github.com/BlinkDL/RWKV-LM, RWKV-v7)."""

from __future__ import annotations

import re
from typing import Any

import torch

from ..errors import ModelError

# The author's code makes these for every layer, and does not use those of layer 0.
_UNUSED = re.compile(r"blocks\.0\.att\.v[012]")
_OF_RANKS = {"decay_rank": "0.att.w1", "rate_rank": "0.att.a1", "value_rank": "1.att.v1", "gate_rank": "0.att.g1"}


def is_rwkv7(weights: dict[str, torch.Tensor]) -> bool:
    """Whether weights are those of an RWKV-7, which no earlier version shares names with.

    >>> is_rwkv7({"blocks.0.att.r_k": torch.ones(2, 64)})
    True
    """
    return "blocks.0.att.r_k" in weights


def config(weights: dict[str, torch.Tensor], name: str) -> Any:
    """The config of a checkpoint, from its shapes. Raises ModelError if a weight that shows a size is missing, or does not fit."""
    from .rwkv7_model import Rwkv7Config

    layers = 1 + max(int(match[1]) for key in weights if (match := re.match(r"blocks\.(\d+)\.", key)))
    ranks = {size: _shape(weights, f"blocks.{key}", name)[1] for size, key in _OF_RANKS.items() if int(key[0]) < layers}
    vocab, width = _shape(weights, "emb.weight", name)
    heads, head_dim = _shape(weights, "blocks.0.att.r_k", name)
    if heads * head_dim != width:
        raise ModelError(
            f"the heads of {name} do not make up its width {width}: blocks.0.att.r_k has the shape ({heads}, {head_dim})"
        )
    return Rwkv7Config(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=_shape(weights, "blocks.0.ffn.key.weight", name)[0],
        num_hidden_layers=layers,
        head_dim=head_dim,
        **ranks,
    )


def _shape(weights: dict[str, torch.Tensor], key: str, name: str) -> tuple[int, int]:
    if key not in weights or weights[key].ndim != 2:
        raise ModelError(f"expected an RWKV-7 in {name}, but it has no matrix {key}")
    rows, columns = weights[key].shape
    return rows, columns


def kept(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that the model uses.

    >>> list(kept({"blocks.0.att.v0": torch.ones(1), "blocks.1.att.v0": torch.ones(1)}))
    ['blocks.1.att.v0']
    """
    return {key: value for key, value in weights.items() if not _UNUSED.fullmatch(key)}
