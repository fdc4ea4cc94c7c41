"""Persimmon: attention with norms on queries and keys, then an MLP of squared ReLUs."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="persimmon",
    model_types=("persimmon",),
    citations=("Elsen et al. 2023, Persimmon-8B",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="post_attention_layernorm",
    final_norm="model.final_layernorm",
    example={"layer": 36, "head": 64, "parallel": 0},
)
