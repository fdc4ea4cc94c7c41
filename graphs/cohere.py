"""Command R and its successors: attention and MLP read the same norm of the same residual stream (parallel).

From Cohere2 on, most layers see only the last tokens (a sliding window). Logits are multiplied by ``logit_scale``.
"""

from circuitry.architecture import sliding, transformer

ARCHITECTURE = transformer(
    name="cohere",
    model_types=("cohere", "cohere2", "cohere2_moe"),
    citations=("Cohere 2024, Command R", "Cohere 2025, Command A, arXiv:2504.00698"),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 1},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    final_norm="model.norm",
    example={"layer": 40, "head": 64, "parallel": 1},
    windows=lambda config: {} if config.model_type == "cohere" else sliding(config),
)
