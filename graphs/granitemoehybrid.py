"""Granite 4: some layers are attention, the others are Mamba-2; every layer has an MLP, and in some models experts beside it.

Heads are as in ``graphs/llama.py``, states and the nodes around them as in ``graphs/mamba2.py``. ``mlp`` is the MLP that all tokens share,
``experts`` the mixture of experts; both read the same stream. As in Granite, ``embed``, ``attn``, ``mixer_out``, ``mlp`` and ``experts``
are the values before they are scaled and added to the stream.
"""

from circuitry.architecture import attention, duality, layered, mlp

LAYER = "model.layers.{layer}"


def layout(config):
    kinds = {"linear_attention": "mamba", "full_attention": "attention"}
    second = "experts+mlp" if config.num_local_experts else "mlp"
    return tuple(f"{kinds[kind]} {second}" for kind in config.layers_block_type)


ARCHITECTURE = layered(
    name="granitemoehybrid",
    model_types=("granitemoehybrid",),
    citations=("IBM 2025, Granite 4.0 Language Models",),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "state_head": config.mamba_n_heads,
        "lag": config.mamba_d_conv,
    },
    blocks={
        "attention": attention(LAYER + ".self_attn"),
        "mamba": duality(LAYER + ".mamba"),
        "experts": mlp(LAYER + ".block_sparse_moe", name="experts"),
        "mlp": mlp(LAYER + ".shared_mlp"),
    },
    layout=layout,
    pattern=(*["mamba experts+mlp"] * 5, "attention experts+mlp", *["mamba experts+mlp"] * 4),
    embed="model.embed_tokens",
    layers=LAYER,
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 40, "head": 12, "state_head": 48, "lag": 4},
)
