"""Mamba-2 (SSD): Mamba's block with a convolution over x, B and C together, and one state for each head.

Names are those of ``graphs/mamba.py``: conv_in is what the convolution reads (x, B and C side by side), ssm_in the same after
convolution and SiLU, ssm_state is h, gate is g, ssm_out is s = C h + D x. Each reader of ssm_in sees its slice: the value written
(``value``, x), the write and read-out matrices (``B``, ``C``) and the skip connection (``skip``, x again); the node without a
port is all four. The step size ``delta`` comes from the stream through the block's input projection, not from ssm_in, so patching
ssm_in does not change it. delta, the state and ssm_out have one node for each head: ``ssm_state[3,1]``; ``ssm_state[3]`` is all
heads of layer 3. The heads of a group share B and C.

A state is frozen by freezing what writes it (value, delta and B of its head). That gives the same trajectory, bit for bit, and
stores no tensor the size of all states. C, skip and gate stay live. After the gate, an RMS norm over the heads of a group mixes
them, but only by its scale. It is inside the edge from ssm_out to mixer_out, like the product with the gate.
"""

from circuitry.architecture import LOGITS, SAME, Architecture, Node, duality, stream

LAYER = "backbone.layers.{layer}"
MIXER = duality(LAYER + ".mixer", heads="head")


def edges(sizes):
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        before, after = Node("resid", (layer,)), Node("resid", (layer + 1,))
        yield before, after, SAME
        yield from MIXER.edges(layer, sizes, before, after)
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME


ARCHITECTURE = Architecture(
    name="mamba2",
    model_types=("mamba2",),
    citations=("Dao & Gu 2024, Transformers are SSMs (Mamba-2), arXiv:2405.21060",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "lag": config.conv_kernel, "head": config.num_heads},
    edges=edges,
    instrumentation=MIXER.instrumentation,
    layers=LAYER,
    example={"layer": 24, "lag": 4, "head": 24},
    aliases={"x": "conv_in", "c": "ssm_in", "h": "ssm_state", "g": "gate", "s": "ssm_out", "o": "mixer_out"},
    families=(*stream("backbone.embeddings", LAYER, "backbone.norm_f"), *MIXER.families, LOGITS),
)
