"""OLMo Hybrid: most layers have a linear state with the gated delta rule, the others attention with norms after its blocks.

States and the nodes around them are as in ``graphs/qwen3_next.py``; beta goes up to 2, so what a token finds at its key may be turned
round and not only erased. In these layers the norms come before the blocks. Attention layers are as in ``graphs/olmo2.py``: there
``attn`` and ``mlp`` are what is added to the stream after a norm, and a head's effect on the stream depends on the other heads.
"""

from circuitry.architecture import attention, delta_mixer, layered, mlp

LAYER = "model.layers.{layer}"
KINDS = {"linear_attention": "delta mlp", "full_attention": "attention mlp"}

ARCHITECTURE = layered(
    name="olmo_hybrid",
    model_types=("olmo_hybrid",),
    citations=(
        "Yang et al. 2024, Gated Delta Networks: Improving Mamba2 with Delta Rule, arXiv:2412.06464",
        "Grazzi et al. 2024, Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues, arXiv:2411.12537",
    ),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "state_head": config.linear_num_value_heads,
        "lag": config.linear_conv_kernel_dim,
    },
    blocks={
        "delta": delta_mixer(LAYER + ".linear_attn"),
        "attention": attention(LAYER + ".self_attn", LAYER + ".post_attention_layernorm"),
        "mlp": mlp(LAYER + ".mlp", LAYER + ".{after}"),
    },
    layout=lambda config: tuple(KINDS[kind] for kind in config.layer_types),
    pattern=(*["delta mlp"] * 3, "attention mlp"),
    parts={
        "delta mlp": {"middle": "post_attention_layernorm", "after": "mlp"},
        "attention mlp": {"middle": "mlp", "after": "post_feedforward_layernorm"},
    },
    embed="model.embed_tokens",
    layers=LAYER,
    middle="{middle}",
    final_norm="model.norm",
    example={"layer": 32, "head": 30, "state_head": 30, "lag": 4},
)
