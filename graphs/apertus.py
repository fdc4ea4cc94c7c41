"""Apertus: built like Llama, with norms on queries and keys and other names of the norms."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="apertus",
    model_types=("apertus",),
    citations=("Apertus Team 2025, Apertus, arXiv:2509.14233",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="feedforward_layernorm",
    final_norm="model.norm",
    example={"layer": 32, "head": 32, "parallel": 0},
)
