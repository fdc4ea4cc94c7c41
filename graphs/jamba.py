"""Jamba: some layers are attention, the others are Mamba; every layer has an MLP, which may be a mixture of experts.

Heads are as in ``graphs/llama.py`` (without rotary embedding). States and the nodes around them are as in ``graphs/mamba.py``,
with the norms on the step size, B and C inside the edges from ssm_in to its readers. The experts of a token are chosen inside
``mlp``, by ``router``, so a patch before it may change the choice. A layer has only one kind of these nodes: ``head[4,0]`` exists, and
``ssm_state[4]`` does not.
"""

from circuitry.architecture import attention, layered, mlp, selective_mixer

LAYER = "model.layers.{layer}"

ARCHITECTURE = layered(
    name="jamba",
    model_types=("jamba",),
    citations=("Lieber et al. 2024, Jamba: A Hybrid Transformer-Mamba Language Model, arXiv:2403.19887",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "head": config.num_attention_heads, "lag": config.mamba_d_conv},
    blocks={
        "attention": attention(LAYER + ".self_attn"),
        "mamba": selective_mixer(LAYER + ".mamba"),
        "mlp": mlp(LAYER + ".feed_forward"),
    },
    layout=lambda config: tuple(f"{kind} mlp" for kind in config.layers_block_type),
    pattern=(*["mamba mlp"] * 4, "attention mlp", *["mamba mlp"] * 3),
    embed="model.embed_tokens",
    layers=LAYER,
    middle="pre_ff_layernorm",
    final_norm="model.final_layernorm",
    example={"layer": 32, "head": 32, "lag": 4},
)
