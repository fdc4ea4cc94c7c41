"""Granite 3 MoE: built like Granite (``graphs/llama.py``); the MLP is a mixture of experts, chosen inside ``mlp`` by ``router``."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="granitemoe",
    model_types=("granitemoe",),
    citations=("Granite Team 2024, Granite 3.0 Language Models",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    mlp="block_sparse_moe",
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 24, "head": 16, "parallel": 0},
)
