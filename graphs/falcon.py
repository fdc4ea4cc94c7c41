"""Falcon: rotary embeddings, and one key/value head for all queries or for groups of them; attention and MLP read the same stream
unless the config says otherwise."""

from __future__ import annotations

from typing import Any

from circuitry.architecture import transformer
from circuitry.errors import ModelError


def sizes(config: Any) -> dict[str, int]:
    if config.alibi:
        raise ModelError(
            "falcon with alibi is refused: transformers' eager attention adds the bias twice and its sdpa attention once"
        )
    return {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": int(config.parallel_attn)}


ARCHITECTURE = transformer(
    name="falcon",
    model_types=("falcon",),
    citations=("Almazrouei et al. 2023, The Falcon Series of Open Language Models, arXiv:2311.16867",),
    sizes=sizes,
    embed="transformer.word_embeddings",
    layers="transformer.h.{layer}",
    attention="self_attention",
    middle="post_attention_layernorm",
    final_norm="transformer.ln_f",
    example={"layer": 32, "head": 71, "parallel": 1},
)
