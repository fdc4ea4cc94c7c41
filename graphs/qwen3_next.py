"""Qwen3-Next and the text models of Qwen3.5: most layers have a linear state with the gated delta rule, the others gated attention; every layer has an MLP.

Names are those of ``graphs/mamba2.py`` where a node plays the same part. conv_in is what the convolution reads (queries, keys and
values side by side), ssm_in the same after convolution and SiLU. A token shrinks each head's state S by its decay, erases what it
finds at its key, and writes its value there:

    S <- exp(decay) S,    S <- S - beta key (key^T S) + beta key value^T,    ssm_out = S^T query

The key and beta each have two readers, so each has two ports: ``ssm_in[0].key`` and ``beta[0,1].write`` are the key and beta that
write, ``ssm_in[0].erase`` and ``beta[0,1].erase`` those that erase. ``query`` and ``value`` are the other readers of ssm_in. The node
without a port is all of them. ``decay`` is the logarithm of the factor, 0 at most. beta and decay come from the stream, not from ssm_in.
beta, decay, state and ssm_out have one node for each value head: ``ssm_state[3,1]``; value heads may share queries and keys. Norms of
queries and keys lie inside the edges to the state and from it, and the gated norm inside the edges to mixer_out.

Given what is written, a state is linear in the state before it. So a state is frozen by freezing what writes it (value, and both
readers of key and beta) and its decay. That gives the same trajectory and stores no tensor the size of all states. Queries and gate
stay live.

Heads are as in ``graphs/llama.py``. ``attn_gate`` is a head's gate before the sigmoid; it multiplies the head's output. The experts
of a token are chosen inside ``mlp`` by ``router``, so a patch before it may change the choice.
"""

from circuitry.architecture import delta_mixer, gated_attention, layered, mlp

LAYER = "model.layers.{layer}"
KINDS = {"linear_attention": "delta mlp", "full_attention": "attention mlp"}

ARCHITECTURE = layered(
    name="qwen3_next",
    model_types=("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"),
    citations=(
        "Yang et al. 2024, Gated Delta Networks: Improving Mamba2 with Delta Rule, arXiv:2412.06464",
        "Qiu et al. 2025, Gated Attention for Large Language Models, arXiv:2505.06708",
    ),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "state_head": config.linear_num_value_heads,
        "lag": config.linear_conv_kernel_dim,
    },
    blocks={
        "delta": delta_mixer(LAYER + ".linear_attn"),
        "attention": gated_attention(LAYER + ".self_attn"),
        "mlp": mlp(LAYER + ".mlp"),
    },
    layout=lambda config: tuple(KINDS[kind] for kind in config.layer_types),
    pattern=(*["delta mlp"] * 3, "attention mlp"),
    embed="model.embed_tokens",
    layers=LAYER,
    middle="post_attention_layernorm",
    final_norm="model.norm",
    example={"layer": 48, "head": 16, "state_head": 32, "lag": 4},
)
