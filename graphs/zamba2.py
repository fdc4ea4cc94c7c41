"""Zamba2: Mamba-2 layers; before some of them, attention and an MLP whose weights several layers share.

States and the nodes around them are as in ``graphs/mamba2.py``, heads as in ``graphs/llama.py``. The heads of a layer read the stream
and the token embedding side by side, so ``embed`` has edges to all heads. They add nothing to the stream: ``attn`` goes into ``mlp``, and
``mlp`` through a linear map into what the layer's mixer reads, so all that a head does to the stream is in ``mixer_out``. Weights that are
shared are not shared nodes: ``head[6,0]`` and ``head[12,0]`` are patched apart.
"""

from circuitry.architecture import duality, layered, shared

LAYER = "model.layers.{layer}"
MIXER = duality(LAYER + "{within}.mamba")

ARCHITECTURE = layered(
    name="zamba2",
    model_types=("zamba2",),
    citations=("Glorioso et al. 2024, The Zamba2 Suite, arXiv:2411.15242",),
    sizes=lambda config: {
        "layer": config.num_hidden_layers,
        "head": config.num_attention_heads,
        "state_head": config.n_mamba_heads,
        "lag": config.mamba_d_conv,
    },
    blocks={"mamba": MIXER, "shared": shared(LAYER + ".shared_transformer", MIXER)},
    layout=lambda config: tuple("shared" if kind == "hybrid" else "mamba" for kind in config.layers_block_type),
    parts={"mamba": {"within": ""}, "shared": {"within": ".mamba_decoder"}},
    pattern=(*["mamba"] * 5, "shared"),
    embed="model.embed_tokens",
    layers=LAYER,
    final_norm="model.final_layernorm",
    example={"layer": 54, "head": 32, "state_head": 80, "lag": 4},
)
