"""RecurrentGemma (Griffin): recurrent blocks, and local attention in every third layer; every layer has an MLP.

Names are those of ``graphs/mamba.py``: conv_in is x, ssm_in is the output of the convolution, c (without an activation), ssm_state
is h, gate is g. A state has one number for each channel: h_t = a_t h_{t-1} + sqrt(1 - a_t^2) i_t c_t, with the decay
a_t = exp(-8 softplus(p) r_t), i_t the node input_gate and r_t the node recurrent_gate; at the first token a is 0. ssm_in has
three readers: the value written (``value``) and the two gates. The read-out is the state itself (ssm_out).
Attention sees the last tokens only. The embedding is scaled on its way to the stream; ``embed`` is the value before that.
"""

from circuitry.architecture import attention, layered, mlp, rg_lru

LAYER = "model.layers.{layer}"
KINDS = {"linear_attention": "recurrent mlp", "sliding_attention": "attention mlp"}

ARCHITECTURE = layered(
    name="recurrent_gemma",
    model_types=("recurrent_gemma",),
    citations=(
        "De et al. 2024, Griffin, arXiv:2402.19427",
        "Botev et al. 2024, RecurrentGemma, arXiv:2404.07839",
    ),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "lag": config.conv1d_width},
    blocks={
        "recurrent": rg_lru(LAYER + ".temporal_block"),
        "attention": attention(LAYER + ".temporal_block"),
        "mlp": mlp(LAYER + ".mlp_block"),
    },
    layout=lambda config: tuple(KINDS[kind] for kind in config.layers_block_type),
    pattern=("recurrent mlp", "recurrent mlp", "attention mlp"),
    embed="model.embed_tokens",
    layers=LAYER,
    middle="channel_pre_norm",
    final_norm="model.final_norm",
    example={"layer": 26, "head": 10, "lag": 4},
    windows=lambda config: {
        n: config.attention_window_size for n, kind in enumerate(config.layers_block_type) if kind == "sliding_attention"
    },
)
