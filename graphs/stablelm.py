"""StableLM: attention, then a gated MLP; both read the same norm of the same stream where the config says parallel."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="stablelm",
    model_types=("stablelm",),
    citations=("Bellagente et al. 2024, Stable LM 2 1.6B Technical Report, arXiv:2402.17834",),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "parallel": int(config.use_parallel_residual),
    },
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 24, "head": 32, "parallel": 0},
)
