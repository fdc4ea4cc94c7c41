"""Nemotron-H: every layer is one block, Mamba-2, attention, an MLP or a mixture of experts.

Heads are as in ``graphs/llama.py`` (without rotary embedding), states and the nodes around them as in ``graphs/mamba2.py``. ``mlp`` is an
MLP or a mixture of experts, whose choice is made inside it. A layer has no stream in its middle.
"""

from circuitry.architecture import attention, duality, layered, mlp

LAYER = "model.layers.{layer}"
KINDS = {"linear_attention": "mamba", "full_attention": "attention", "mlp": "mlp", "moe": "mlp"}
EIGHT_B = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"
"""The layers of the model with 8 billion parameters, as its config writes them."""

ARCHITECTURE = layered(
    name="nemotron_h",
    model_types=("nemotron_h",),
    citations=("NVIDIA 2025, Nemotron-H: A Family of Accurate and Efficient Hybrid Mamba-Transformer Models, arXiv:2504.03624",),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "state_head": config.mamba_num_heads,
        "lag": config.conv_kernel,
    },
    blocks={
        "attention": attention(LAYER + ".mixer"),
        "mamba": duality(LAYER + ".mixer"),
        "mlp": mlp(LAYER + ".mixer"),
    },
    layout=lambda config: tuple(KINDS[kind] for kind in config.layers_block_type),
    pattern=tuple({"M": "mamba", "*": "attention", "-": "mlp"}[kind] for kind in EIGHT_B),
    embed="model.embeddings",
    layers=LAYER,
    final_norm="model.norm_f",
    example={"layer": 52, "head": 32, "state_head": 128, "lag": 4},
)
