"""LFM2: most layers are gated short convolutions, the others attention; every layer has an MLP, which may be a mixture of experts.

The convolution has no state: a token sees only the last few tokens. conv_in, what it reads, is the product of conv_value and a gate
(input_gate, B); ``conv_tap[l,k] @ t`` is what the convolution at t sees of the token k positions before it; conv_out is its output,
and mixer_out what a second gate (gate, C) leaves of it, after the output projection. Neither gate has an activation function.
Heads are as in ``graphs/llama.py``.
"""

from circuitry.architecture import attention, layered, mlp, short_conv

LAYER = "model.layers.{layer}"
KINDS = {"conv": "conv mlp", "full_attention": "attention mlp"}

ARCHITECTURE = layered(
    name="lfm2",
    model_types=("lfm2", "lfm2_moe"),
    citations=("Liquid AI 2025, LFM2 Technical Report, arXiv:2511.23404",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "lag": config.conv_L_cache},
    blocks={
        "attention": attention(LAYER + ".self_attn"),
        "conv": short_conv(LAYER + ".conv"),
        "mlp": mlp(LAYER + ".feed_forward"),
    },
    layout=lambda config: tuple(KINDS[kind] for kind in config.layer_types),
    pattern=("conv mlp", "conv mlp", "attention mlp", "conv mlp"),
    embed="model.embed_tokens",
    layers=LAYER,
    middle="ffn_norm",
    final_norm="model.embedding_norm",
    example={"layer": 16, "head": 32, "lag": 3},
)
