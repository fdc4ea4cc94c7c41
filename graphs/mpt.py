"""MPT: attention with a bias that grows with the distance of the key (ALiBi), then the MLP."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="mpt",
    model_types=("mpt",),
    citations=("MosaicML 2023, MPT-7B", "Press et al. 2021, ALiBi, arXiv:2108.12409"),
    sizes=lambda config: {"layer": config.n_layers, "head": config.n_heads, "parallel": 0},
    embed="transformer.wte",
    layers="transformer.blocks.{layer}",
    attention="attn",
    mlp="ffn",
    middle="norm_2",
    final_norm="transformer.norm_f",
    example={"layer": 32, "head": 32, "parallel": 0},
)
