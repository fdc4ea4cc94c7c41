"""GPT-NeoX and Pythia: attention and MLP read the same residual stream (parallel) unless the config says otherwise.

The hook points come after the rotary embedding: q and k are the vectors whose products are the scores.
"""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="gpt_neox",
    model_types=("gpt_neox",),
    citations=(
        "Black et al. 2022, GPT-NeoX-20B, arXiv:2204.06745",
        "Biderman et al. 2023, Pythia, arXiv:2304.01373",
    ),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "parallel": int(config.use_parallel_residual),
    },
    embed="gpt_neox.embed_in",
    layers="gpt_neox.layers.{layer}",
    attention="attention",
    middle="post_attention_layernorm",
    final_norm="gpt_neox.final_layer_norm",
    example={"layer": 12, "head": 12, "parallel": 1},
)
