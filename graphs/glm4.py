"""GLM-4-0414 and Kolibri 1: norms before and after attention and MLP. In Kolibri 1 the MLP is a mixture of experts, and some layers
have a sliding window.

``attn`` and ``mlp`` are what is added to the stream, so they come after the second norm, and heads come before it. A head's effect
on the stream depends on the other heads, since that norm divides by the size of their sum.
"""

from __future__ import annotations

from circuitry.architecture import sliding, transformer

ARCHITECTURE = transformer(
    name="glm4",
    model_types=("glm4", "kolibri1"),
    citations=("Team GLM 2024, ChatGLM: from GLM-130B to GLM-4 All Tools, arXiv:2406.12793",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 40, "head": 32, "parallel": 0},
    windows=sliding,
    after_attention="post_self_attn_layernorm",
    after_mlp="post_mlp_layernorm",
)
