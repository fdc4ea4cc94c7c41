"""DeepSeek-V2, DeepSeek-V3 and others with latent attention: the keys and values of all heads are expanded from one short vector of a token.

A node ``head[l,h].k`` or ``head[l,h].v`` is the key or value of one head after the expansion, and a key and a value may differ in width.
The short vector itself, the latent, is not a node. The MLP of later layers is a mixture of experts, chosen inside ``mlp`` by ``router``.
MiniCPM3 scales the embedding and the output of each block; ``embed``, ``attn`` and ``mlp`` are the values before this scaling.
"""

from __future__ import annotations

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="deepseek",
    model_types=("deepseek_v2", "deepseek_v3", "glm4_moe_lite", "minicpm3"),
    citations=(
        "DeepSeek-AI 2024, DeepSeek-V2, arXiv:2405.04434",
        "DeepSeek-AI 2024, DeepSeek-V3 Technical Report, arXiv:2412.19437",
    ),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 27, "head": 16, "parallel": 0},
)
