"""Phi-1 and Phi-2: attention and MLP read the same norm of the same residual stream (parallel)."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="phi",
    model_types=("phi",),
    citations=("Gunasekar et al. 2023, Textbooks Are All You Need, arXiv:2306.11644",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 1},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    final_norm="model.final_layernorm",
    example={"layer": 32, "head": 32, "parallel": 1},
)
