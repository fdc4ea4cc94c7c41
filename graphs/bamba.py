"""Bamba: some layers are attention, the others are Mamba-2; every layer has an MLP.

Heads are as in ``graphs/llama.py``, states and the nodes around them as in ``graphs/mamba2.py``. ``head[1,0]`` is an attention head,
``ssm_state[0,0]`` the state of a Mamba-2 head; a layer has one kind of them.
"""

from circuitry.architecture import attention, duality, layered, mlp

LAYER = "model.layers.{layer}"
KINDS = {"linear_attention": "mamba", "full_attention": "attention"}

ARCHITECTURE = layered(
    name="bamba",
    model_types=("bamba",),
    citations=("IBM, Princeton, CMU and UIUC 2024, Bamba: Inference-Efficient Hybrid Mamba2 Model",),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "state_head": config.mamba_n_heads,
        "lag": config.mamba_d_conv,
    },
    blocks={
        "attention": attention(LAYER + ".self_attn"),
        "mamba": duality(LAYER + ".mamba"),
        "mlp": mlp(LAYER + ".feed_forward"),
    },
    layout=lambda config: tuple(f"{KINDS[kind]} mlp" for kind in config.layers_block_type),
    pattern=tuple("attention mlp" if layer in (9, 18, 27) else "mamba mlp" for layer in range(32)),
    embed="model.embed_tokens",
    layers=LAYER,
    middle="pre_ff_layernorm",
    final_norm="model.final_layernorm",
    example={"layer": 32, "head": 32, "state_head": 128, "lag": 4},
)
