"""VaultGemma: built like Gemma 2, but nothing is normed after attention and MLP; some layers see only the last tokens."""

from circuitry.architecture import sliding, transformer

ARCHITECTURE = transformer(
    name="vaultgemma",
    model_types=("vaultgemma",),
    citations=("Sinha et al. 2025, VaultGemma, arXiv:2510.15001",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="pre_feedforward_layernorm",
    final_norm="model.norm",
    example={"layer": 26, "head": 4, "parallel": 0},
    windows=sliding,
)
