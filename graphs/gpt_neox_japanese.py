"""GPT-NeoX Japanese: GPT-NeoX with attention, then the MLP. The last layer adds a bias to the stream beside ``attn``."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="gpt_neox_japanese",
    model_types=("gpt_neox_japanese",),
    citations=("Shinya Otani et al. 2022, ABEJA GPT-NeoX Japanese",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="gpt_neox_japanese.embed_in",
    layers="gpt_neox_japanese.layers.{layer}",
    attention="attention",
    middle="post_attention_layernorm",
    final_norm="gpt_neox_japanese.final_layer_norm",
    example={"layer": 32, "head": 32, "parallel": 0},
)
