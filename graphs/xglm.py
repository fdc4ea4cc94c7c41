"""XGLM: attention, then the MLP; sinusoidal position embeddings join the stream after ``embed``. ``mlp`` is the output of ``fc2``."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="xglm",
    model_types=("xglm",),
    citations=("Lin et al. 2021, Few-shot Learning with Multilingual Language Models, arXiv:2112.10668",),
    sizes=lambda config: {"layer": config.num_layers, "head": config.attention_heads, "parallel": 0},
    embed="model.embed_tokens",
    layers="model.layers.{layer}",
    attention="self_attn",
    mlp="fc2",
    middle="final_layer_norm",
    final_norm="model.layer_norm",
    example={"layer": 24, "head": 16, "parallel": 0},
)
