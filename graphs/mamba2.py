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

from circuitry.architecture import LOGITS, NEXT, SAME, Architecture, Family, Node, Place, lag

LAYER = "backbone.layers.{layer}"
TAP = LAYER + ".mixer.circuitry."


def edges(sizes):
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        yield from _mixer(layer, sizes["lag"])
        for head in range(sizes["head"]):
            yield from _head(layer, head)
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME


def _mixer(layer, width):
    """The parts that all heads share."""
    stream, x, c, gate, out, after = (
        Node("resid", (layer,)),
        Node("conv_in", (layer,)),
        Node("ssm_in", (layer,)),
        Node("gate", (layer,)),
        Node("mixer_out", (layer,)),
        Node("resid", (layer + 1,)),
    )
    yield from ((stream, x, SAME), (stream, gate, SAME), (stream, after, SAME))
    for k in range(width):
        yield from ((x, Node("conv_tap", (layer, k)), lag(k)), (Node("conv_tap", (layer, k)), c, SAME))
    yield from ((c, Node("ssm_in", (layer,), port), SAME) for port in ("value", "B", "C", "skip"))
    yield from ((gate, out, SAME), (out, after, SAME))


def _head(layer, head):
    """One head's step size, state and output."""
    delta, h, s = (Node(name, (layer, head)) for name in ("delta", "ssm_state", "ssm_out"))
    value, B, C, skip = (Node("ssm_in", (layer,), port) for port in ("value", "B", "C", "skip"))
    read, carry = Node("ssm_state", (layer, head), "read"), Node("ssm_state", (layer, head), "carry")
    yield from ((Node("resid", (layer,)), delta, SAME), (delta, h, SAME), (value, h, SAME), (B, h, SAME))
    yield from ((h, read, SAME), (h, carry, SAME), (carry, h, NEXT))
    yield from ((read, s, SAME), (C, s, SAME), (skip, s, SAME), (s, Node("mixer_out", (layer,)), SAME))


ARCHITECTURE = Architecture(
    name="mamba2",
    model_types=("mamba2",),
    citations=("Dao & Gu 2024, Transformers are SSMs (Mamba-2), arXiv:2405.21060",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "lag": config.conv_kernel, "head": config.num_heads},
    edges=edges,
    instrumentation={"mixer_out": "mamba2"},
    layers=LAYER,
    example={"layer": 24, "lag": 4, "head": 24},
    aliases={"x": "conv_in", "c": "ssm_in", "h": "ssm_state", "g": "gate", "s": "ssm_out", "o": "mixer_out"},
    families=(
        Family("embed", (), "batch pos d_model", "token embedding", Place("backbone.embeddings"), role="embed"),
        Family(
            "resid",
            ("layer",),
            "batch pos d_model",
            "residual stream before a layer; the last index is after all layers",
            Place(LAYER, "input", end="backbone.norm_f"),
            role="resid",
        ),
        Family(
            "conv_in",
            ("layer",),
            "batch pos d_conv",
            "input of the convolution: x, B and C side by side",
            Place(TAP + "conv_in"),
            role="conv_input",
        ),
        Family(
            "conv_tap",
            ("layer", "lag"),
            "batch pos d_conv",
            "x, B and C of the token `lag` positions back, as one position's convolution sees them",
            Place(TAP + "conv_tap.{lag}"),
            role="conv_edge",
        ),
        Family(
            "ssm_in",
            ("layer",),
            "batch pos d_conv",
            "input of the scan: x, B and C after convolution and SiLU; its readers see x (value, skip), B or C of it",
            Place(TAP + "ssm_in"),
            {port: Place(TAP + port) for port in ("value", "B", "C", "skip")},
            role="write_input",
            freezable=("", "value", "B", "C", "skip"),
        ),
        Family(
            "delta",
            ("layer", "head"),
            "batch pos",
            "step size of one head, after softplus and clamp",
            Place(TAP + "delta", unit=2),
            role="step",
        ),
        Family(
            "ssm_state",
            ("layer", "head"),
            "batch pos d_head d_state",
            "state of one head after a token has been written, h",
            Place(TAP + "state", position=None, unit=1),
            {port: Place(f"{TAP}state_{port}", position=None, unit=1) for port in ("read", "carry")},
            role="state",
            frozen_through=tuple(Place(f"{TAP}write_{part}", unit=2) for part in ("value", "delta", "B")),
        ),
        Family("gate", ("layer",), "batch pos d_inner", "gate after SiLU, g", Place(TAP + "gate"), role="gate"),
        Family(
            "ssm_out",
            ("layer", "head"),
            "batch pos d_head",
            "output of one head of the scan, C h + D x",
            Place(TAP + "ssm_out", unit=2),
            role="read_out",
        ),
        Family(
            "mixer_out", ("layer",), "batch pos d_model", "output of the block", Place(LAYER + ".mixer"), role="mixer", adds=True
        ),
        LOGITS,
    ),
)
