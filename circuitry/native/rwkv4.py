"""Checkpoints of RWKV-4 as its author publishes them (Peng et al. 2023; https://github.com/BlinkDL/RWKV-LM, RWKV-v4)."""

from __future__ import annotations

import re
from typing import Any

import torch

from ..errors import ModelError

_PARTS = (
    (r"^emb\.", "embeddings."),
    (r"^(blocks\.\d+)\.ln0\.", r"\1.pre_ln."),
    (r"^(blocks\.\d+)\.att\.", r"\1.attention."),
    (r"^(blocks\.\d+)\.ffn\.", r"\1.feed_forward."),
    (r"\.time_mix_k$", ".time_mix_key"),
    (r"\.time_mix_v$", ".time_mix_value"),
    (r"\.time_mix_r$", ".time_mix_receptance"),
)
# Weights of time mixing that only RWKV-5, -5.2 and -6 have.
_LATER = re.compile(r"^blocks\.\d+\.att\.(ln_x\.weight|gate\.weight|time_faaaa|time_maa_\w+)$")


def config(weights: dict[str, torch.Tensor], name: str) -> Any:
    """The RwkvConfig of a checkpoint, from its shapes. Raises ModelError for a later RWKV, and for any other model."""
    from transformers import RwkvConfig

    if later := next(filter(_LATER.match, weights), None):
        raise ModelError(f"expected an RWKV-4 or an RWKV-7 in {name}, got another version (it has {later})")
    blocks = [int(match[1]) for key in weights if (match := re.match(r"blocks\.(\d+)\.", key))]
    if max(blocks, default=0) == 0:
        # When transformers initialises the model, it divides by the number of blocks minus one.
        raise ModelError(f"expected an RWKV-4 with at least two blocks in {name}")
    vocab, width = _shape(weights, "emb.weight", name)
    return RwkvConfig(
        vocab_size=vocab,
        hidden_size=width,
        num_hidden_layers=1 + max(blocks),
        attention_hidden_size=_shape(weights, "blocks.0.att.key.weight", name)[0],
        intermediate_size=_shape(weights, "blocks.0.ffn.key.weight", name)[0],
        # With another value, the first forward pass in eval mode divides weights in place, for float16.
        rescale_every=0,
        tie_word_embeddings=False,
    )


def _shape(weights: dict[str, torch.Tensor], key: str, name: str) -> tuple[int, int]:
    if key not in weights or weights[key].ndim != 2:
        raise ModelError(f"expected an RWKV-4 in {name}, but it has no matrix {key}")
    rows, columns = weights[key].shape
    return rows, columns


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights by transformers' names, each time_mix with the shape (1, 1, width)."""
    return {_renamed(key): value.reshape(1, 1, -1) if ".time_mix_" in key else value for key, value in weights.items()}


def _renamed(key: str) -> str:
    if key == "head.weight":
        return key
    for old, new in _PARTS:
        key = re.sub(old, new, key)
    return f"rwkv.{key}"
