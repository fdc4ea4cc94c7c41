"""What Mamba and FalconMamba have in common: a gated block whose tokens mix by a causal convolution and a selective state.

What each node is stands in ``graphs/mamba.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..paths import Node
from .families import NEXT, SAME, Architecture, Edge, Family, Place, Sizes, lag

_LAYER = "backbone.layers.{layer}"
_TAP = _LAYER + ".mixer.circuitry."
CONSUMERS = ("value", "delta", "B", "C", "skip")


def selective(*, name: str, model_types: tuple[str, ...], citations: tuple[str, ...], example: dict[str, int]) -> Architecture:
    """An architecture of selective state-space layers (S6) with transformers' names for their modules.

    >>> from circuitry.architecture import definition
    >>> definition("mamba").taps
    {'mixer_out': 'mamba'}
    """
    return Architecture(
        name=name,
        model_types=model_types,
        citations=citations,
        sizes=lambda config: {"layer": config.num_hidden_layers, "lag": config.conv_kernel},
        edges=_edges,
        taps={"mixer_out": "mamba"},
        layers=_LAYER,
        example=example,
        aliases={"x": "conv_in", "c": "ssm_in", "h": "ssm_state", "g": "gate", "s": "ssm_out", "o": "mixer_out"},
        families=_FAMILIES,
    )


def _edges(sizes: Sizes) -> Iterator[Edge]:
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        yield from _mixer(layer, sizes["lag"])
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME


def _mixer(layer: int, width: int) -> Iterator[Edge]:
    stream, x, c, h = (Node(name, (layer,)) for name in ("resid", "conv_in", "ssm_in", "ssm_state"))
    gate, s, out, after = (
        Node("gate", (layer,)),
        Node("ssm_out", (layer,)),
        Node("mixer_out", (layer,)),
        Node("resid", (layer + 1,)),
    )
    yield from ((stream, x, SAME), (stream, gate, SAME), (stream, after, SAME))
    for k in range(width):
        yield from ((x, Node("conv_tap", (layer, k)), lag(k)), (Node("conv_tap", (layer, k)), c, SAME))
    for port in CONSUMERS:
        yield c, Node("ssm_in", (layer,), port), SAME
    for port in ("value", "delta", "B"):
        yield Node("ssm_in", (layer,), port), h, SAME
    read, carry = Node("ssm_state", (layer,), "read"), Node("ssm_state", (layer,), "carry")
    yield from ((h, read, SAME), (h, carry, SAME), (carry, h, NEXT), (read, s, SAME))
    yield from ((Node("ssm_in", (layer,), "C"), s, SAME), (Node("ssm_in", (layer,), "skip"), s, SAME))
    yield from ((s, out, SAME), (gate, out, SAME), (out, after, SAME))


_FAMILIES = (
    Family("embed", (), "batch pos d_model", "token embedding", Place("backbone.embeddings"), role="embed"),
    Family(
        "resid",
        ("layer",),
        "batch pos d_model",
        "residual stream before a layer; the last index is after all layers",
        Place(_LAYER, "input", end="backbone.norm_f"),
        role="resid",
    ),
    Family("conv_in", ("layer",), "batch pos d_inner", "input of the convolution, x", Place(_TAP + "conv_in"), role="conv_input"),
    Family(
        "conv_tap",
        ("layer", "lag"),
        "batch pos d_inner",
        "x of the token `lag` positions back, as one position's convolution sees it",
        Place(_TAP + "conv_tap.{lag}"),
        role="conv_edge",
    ),
    Family(
        "ssm_in",
        ("layer",),
        "batch pos d_inner",
        "input of the selective scan, c = SiLU(conv(x))",
        Place(_TAP + "ssm_in"),
        {port: Place(_TAP + port) for port in CONSUMERS},
        role="write_input",
        freezable=("", *CONSUMERS),
    ),
    Family(
        "ssm_state",
        ("layer",),
        "batch pos d_inner d_state",
        "state after a token has been written, h",
        Place(_TAP + "state", position=None),
        {"read": Place(_TAP + "state_read", position=None), "carry": Place(_TAP + "state_carry", position=None)},
        role="state",
        held_by=(Place(_TAP + "write_value"), Place(_TAP + "write_delta"), Place(_TAP + "write_B")),
    ),
    Family("gate", ("layer",), "batch pos d_inner", "gate after SiLU, g", Place(_TAP + "gate"), role="gate"),
    Family("ssm_out", ("layer",), "batch pos d_inner", "output of the scan, C h + D c", Place(_TAP + "ssm_out"), role="read_out"),
    Family(
        "mixer_out", ("layer",), "batch pos d_model", "output of the block", Place(_LAYER + ".mixer"), role="mixer", adds=True
    ),
    Family("logits", (), "batch pos vocab", "next-token logits", Place("lm_head"), role="logits", freezable=()),
)
