"""Falcon-H1: every layer has attention heads and Mamba-2 states side by side, on the same stream; an MLP follows.

Heads are as in ``graphs/llama.py``, states and the nodes around them as in ``graphs/mamba2.py``: ``head[1,0]`` is an attention head,
``ssm_state[1,0]`` the state of a Mamba-2 head of the same layer. The model multiplies most values by constants. These lie on the edges:
``embed``, ``attn`` and ``mixer_out`` are the values before they are multiplied, ``head[l,h].k`` and ``mlp`` the values after it.
"""

from circuitry.architecture import attention, duality, layered, mlp

LAYER = "model.layers.{layer}"

ARCHITECTURE = layered(
    name="falcon_h1",
    model_types=("falcon_h1",),
    citations=("Zuo et al. 2025, Falcon-H1: A Family of Hybrid-Head Language Models, arXiv:2507.22448",),
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
    layout=lambda config: ("mamba+attention mlp",) * config.num_hidden_layers,
    pattern=("mamba+attention mlp",),
    embed="model.embed_tokens",
    layers=LAYER,
    middle="pre_ff_layernorm",
    final_norm="model.final_layernorm",
    example={"layer": 36, "head": 8, "state_head": 24, "lag": 4},
)
