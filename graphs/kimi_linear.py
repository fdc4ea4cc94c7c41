"""Kimi Linear: most layers have a linear state with the delta rule (Kimi delta attention), the others latent attention.

States and the nodes around them are as in ``graphs/qwen3_next.py``, with two differences: every channel of a key has a decay of its
own, so ``decay[0,1]`` is a vector, and the gate of the output is a sigmoid. Every head has its own queries and keys. Heads are as in
``graphs/llama.py``; all keys and values of a layer are computed from one narrow vector for each token, which lies inside the edges to
``head.k`` and ``head.v``. The experts of a token are chosen inside ``mlp`` by ``router``, so a patch before it may change the choice.
"""

from circuitry.architecture import attention, delta_mixer, layered, mlp

LAYER = "model.layers.{layer}"
KINDS = {"linear_attention": "delta mlp", "full_attention": "attention mlp"}

ARCHITECTURE = layered(
    name="kimi_linear",
    model_types=("kimi_linear",),
    citations=("Kimi Team 2025, Kimi Linear: An Expressive, Efficient Attention Architecture, arXiv:2510.26692",),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "state_head": config.linear_num_heads,
        "lag": config.linear_conv_kernel_dim,
    },
    blocks={
        "delta": delta_mixer(LAYER + ".self_attn", by_channel=True),
        "attention": attention(LAYER + ".self_attn"),
        "mlp": mlp(LAYER + ".mlp"),
    },
    layout=lambda config: tuple(KINDS[kind] for kind in config.layer_types),
    pattern=(*["delta mlp"] * 3, "attention mlp"),
    embed="model.embed_tokens",
    layers=LAYER,
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 27, "head": 32, "state_head": 32, "lag": 4},
)
