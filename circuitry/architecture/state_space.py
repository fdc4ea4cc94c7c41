"""Mamba, FalconMamba and the Mamba layers of hybrids: a gated block whose tokens mix by a causal convolution and a selective state.

``graphs/mamba.py`` says what each node is.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..paths.values import Node
from .families import Architecture, Family, Place, Sizes
from .rules import NEXT, SAME, Edge, lag
from .stream import LOGITS, stream

_LAYER = "backbone.layers.{layer}"
ALIASES = {"x": "conv_in", "c": "ssm_in", "h": "ssm_state", "g": "gate", "s": "ssm_out", "o": "mixer_out"}
"""The paper's short names."""
CONSUMERS = ("value", "delta", "B", "C", "skip")


def selective(*, name: str, model_types: tuple[str, ...], citations: tuple[str, ...], example: dict[str, int]) -> Architecture:
    """An architecture of selective state-space layers (S6) with transformers' names for their modules.

    >>> from circuitry.architecture import definition
    >>> definition("mamba").instrumentation
    {'mixer_out': 'mamba'}
    """
    return Architecture(
        name=name,
        model_types=model_types,
        citations=citations,
        sizes=lambda config: {"layer": config.num_hidden_layers, "lag": config.conv_kernel},
        edges=_edges,
        instrumentation={"mixer_out": "mamba"},
        layers=_LAYER,
        example=example,
        aliases=ALIASES,
        families=(*stream("backbone.embeddings", _LAYER, "backbone.norm_f"), *mixer_block(_LAYER + ".mixer"), LOGITS),
    )


def _edges(sizes: Sizes) -> Iterator[Edge]:
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        before, after = Node("resid", (layer,)), Node("resid", (layer + 1,))
        yield from mixer_edges(layer, sizes["lag"], after)
        yield before, after, SAME
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME


def mixer_edges(layer: int, width: int, after: Node, before: Node | None = None) -> Iterator[Edge]:
    """A gated block on the stream ``before`` it, by default that before the layer; ``width`` is its convolution's, ``after`` the
    stream it adds to.

    >>> len(list(mixer_edges(0, 4, Node("resid", (1,)))))
    27
    """
    before = before or Node("resid", (layer,))
    x, c, h = (Node(name, (layer,)) for name in ("conv_in", "ssm_in", "ssm_state"))
    gate, s, out = (Node(name, (layer,)) for name in ("gate", "ssm_out", "mixer_out"))
    yield from ((before, x, SAME), (before, gate, SAME))
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


def mixer_block(module: str) -> tuple[Family, ...]:
    """The families of a Mamba mixer that has its hook points, in the order in which they are computed.

    >>> [family.name for family in mixer_block("model.layers.{layer}.mamba")][-3:]
    ['gate', 'ssm_out', 'mixer_out']
    """
    points = f"{module}.circuitry."
    wide = "batch pos d_inner"
    state = {port: Place(f"{points}state_{port}", position=None) for port in ("read", "carry")}
    return (
        Family("conv_in", ("layer",), wide, "input of the convolution, x", Place(points + "conv_in"), role="conv_input"),
        Family(
            "conv_tap", ("layer", "lag"), wide, "x of the token `lag` positions back, as one position's convolution sees it",
            Place(points + "conv_tap.{lag}"), role="conv_edge",
        ),
        Family(
            "ssm_in", ("layer",), wide, "input of the selective scan, c = SiLU(conv(x))", Place(points + "ssm_in"),
            {port: Place(points + port) for port in CONSUMERS}, role="write_input", freezable=("", *CONSUMERS),
        ),
        Family(
            "ssm_state", ("layer",), "batch pos d_inner d_state", "state after a token has been written, h",
            Place(points + "state", position=None), state, role="state",
            frozen_through=tuple(Place(f"{points}write_{part}") for part in ("value", "delta", "B")),
        ),
        Family("gate", ("layer",), wide, "gate after SiLU, g", Place(points + "gate"), role="gate"),
        Family("ssm_out", ("layer",), wide, "output of the scan, C h + D c", Place(points + "ssm_out"), role="read_out"),
        Family("mixer_out", ("layer",), "batch pos d_model", "output of the block", Place(module), role="mixer", adds=True),
    )  # fmt: skip
