"""OPT: attention, then the MLP; learned position embeddings join the stream after ``embed``. ``mlp`` is the output of ``fc2``."""

from __future__ import annotations

from typing import Any

from circuitry.architecture import transformer
from circuitry.errors import ModelError


def sizes(config: Any) -> dict[str, int]:
    if not config.do_layer_norm_before:
        raise ModelError(
            "opt with do_layer_norm_before=False (opt-350m) is refused: a layer normalises the residual stream itself"
        )
    return {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0}


ARCHITECTURE = transformer(
    name="opt",
    model_types=("opt",),
    citations=("Zhang et al. 2022, OPT, arXiv:2205.01068",),
    sizes=sizes,
    embed="model.decoder.embed_tokens",
    layers="model.decoder.layers.{layer}",
    attention="self_attn",
    mlp="fc2",
    middle="final_layer_norm",
    final_norm="model.decoder.final_layer_norm",
    example={"layer": 12, "head": 12, "parallel": 0},
)
