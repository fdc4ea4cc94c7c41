"""Gemma 2 and the language models of Gemma 3: norms before and after attention and MLP, and a sliding window in some layers.

``attn`` and ``mlp`` are what is added to the stream, so they come after the second norm, and heads come before it. A head's effect
on the stream depends on the other heads, since that norm divides by the size of their sum. In Gemma 2 scores and logits have a cap.
"""

from __future__ import annotations

from circuitry.architecture import sliding, transformer

ARCHITECTURE = transformer(
    name="gemma2",
    model_types=("gemma2", "gemma3_text"),
    citations=(
        "Gemma Team 2024, Gemma 2, arXiv:2408.00118",
        "Gemma Team 2025, Gemma 3 Technical Report, arXiv:2503.19786",
    ),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="pre_feedforward_layernorm",
    final_norm="model.norm",
    example={"layer": 26, "head": 8, "parallel": 0},
    windows=sliding,
    after_attention="post_attention_layernorm",
    after_mlp="post_feedforward_layernorm",
)
