"""BioGPT: attention, then the MLP; learned position embeddings join the stream after ``embed``. ``mlp`` is the output of ``fc2``."""

from circuitry.architecture import transformer

ARCHITECTURE = transformer(
    name="biogpt",
    model_types=("biogpt",),
    citations=("Luo et al. 2022, BioGPT, arXiv:2210.10341",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "parallel": 0},
    embed="biogpt.embed_tokens",
    layers="biogpt.layers.{layer}",
    attention="self_attn",
    mlp="fc2",
    middle="final_layer_norm",
    final_norm="biogpt.layer_norm",
    example={"layer": 24, "head": 16, "parallel": 0},
)
