"""BLOOM: attention with a bias that grows with the distance of the key (ALiBi), then the MLP; the embedding is normed first.

``embed`` is the value before that norm, so the stream begins with the normed embedding.
"""

from __future__ import annotations

from typing import Any

from circuitry.architecture import transformer
from circuitry.errors import ModelError


def sizes(config: Any) -> dict[str, int]:
    if config.apply_residual_connection_post_layernorm:
        raise ModelError(
            "bloom with apply_residual_connection_post_layernorm is refused: a layer normalises the residual stream itself"
        )
    return {"layer": config.n_layer, "head": config.n_head, "parallel": 0}


ARCHITECTURE = transformer(
    name="bloom",
    model_types=("bloom",),
    citations=("BigScience Workshop 2022, BLOOM, arXiv:2211.05100", "Press et al. 2021, ALiBi, arXiv:2108.12409"),
    sizes=sizes,
    embed="transformer.word_embeddings",
    layers="transformer.h.{layer}",
    attention="self_attention",
    middle="post_attention_layernorm",
    final_norm="transformer.ln_f",
    example={"layer": 24, "head": 16, "parallel": 0},
)
