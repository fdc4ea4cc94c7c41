"""OLMo 2 and models built like it: a norm after attention and after the MLP, and none before them.

``attn`` and ``mlp`` are what is added to the stream, so they come after the norm, and heads come before it. A head's effect on the
stream depends on the other heads, since the norm divides by the size of their sum. ``resid_mid`` is what the MLP itself is given. In
OLMo 3 and EXAONE 4, some layers have a sliding window. FlexOlmo chooses the experts of a token inside ``mlp``.
"""

from __future__ import annotations

from circuitry.architecture import sliding, transformer

ARCHITECTURE = transformer(
    name="olmo2",
    model_types=("olmo2", "olmo3", "flex_olmo", "exaone4"),
    citations=(
        "Team OLMo 2025, 2 OLMo 2 Furious, arXiv:2501.00656",
        "Shi et al. 2025, FlexOlmo, arXiv:2507.07024",
        "LG AI Research 2025, EXAONE 4.0, arXiv:2507.11407",
    ),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="mlp",
    final_norm="model.norm",
    example={"layer": 16, "head": 16, "parallel": 0},
    windows=sliding,
    after_attention="post_attention_layernorm",
    after_mlp="post_feedforward_layernorm",
)
