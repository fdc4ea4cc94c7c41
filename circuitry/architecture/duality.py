"""Mamba-2 and the Mamba-2 layers of hybrids: one convolution over x, B and C, and a selective state for each head.

``graphs/mamba2.py`` says what each node is.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..paths.values import Node
from .families import Family, Place, Sizes
from .layered import Block
from .rules import NEXT, SAME, Edge, lag

READERS = ("value", "B", "C", "skip")


def duality(module: str, heads: str = "state_head") -> Block:
    """A Mamba-2 mixer in ``module`` (a template over the layer); ``sizes["lag"]`` is the width of its convolution, and
    ``sizes[heads]`` the number of its states.

    >>> duality("model.layers.{layer}.mamba").instrumentation
    {'mixer_out': 'mamba2'}
    """

    def edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
        yield from _shared(layer, sizes["lag"], before, after)
        for head in range(sizes[heads]):
            yield from _head(layer, head, before)

    return Block((*_shared_families(module), *_head_families(module), _output(module)), edges, {"mixer_out": "mamba2"})


def _shared(layer: int, width: int, before: Node, after: Node) -> Iterator[Edge]:
    """The parts that all heads share."""
    x, c, gate, out = (Node(name, (layer,)) for name in ("conv_in", "ssm_in", "gate", "mixer_out"))
    yield from ((before, x, SAME), (before, gate, SAME))
    for k in range(width):
        yield from ((x, Node("conv_tap", (layer, k)), lag(k)), (Node("conv_tap", (layer, k)), c, SAME))
    yield from ((c, Node("ssm_in", (layer,), port), SAME) for port in READERS)
    yield from ((gate, out, SAME), (out, after, SAME))


def _head(layer: int, head: int, before: Node) -> Iterator[Edge]:
    """One head's step size, state and output."""
    delta, h, s = (Node(name, (layer, head)) for name in ("delta", "ssm_state", "ssm_out"))
    value, B, C, skip = (Node("ssm_in", (layer,), port) for port in READERS)
    read, carry = Node("ssm_state", (layer, head), "read"), Node("ssm_state", (layer, head), "carry")
    yield from ((before, delta, SAME), (delta, h, SAME), (value, h, SAME), (B, h, SAME))
    yield from ((h, read, SAME), (h, carry, SAME), (carry, h, NEXT))
    yield from ((read, s, SAME), (C, s, SAME), (skip, s, SAME), (s, Node("mixer_out", (layer,)), SAME))


def _shared_families(module: str) -> tuple[Family, ...]:
    points, wide = f"{module}.circuitry.", "batch pos d_conv"
    return (
        Family(
            "conv_in", ("layer",), wide, "input of the convolution: x, B and C side by side", Place(points + "conv_in"),
            role="conv_input",
        ),
        Family(
            "conv_tap", ("layer", "lag"), wide,
            "x, B and C of the token `lag` positions back, as one position's convolution sees them",
            Place(points + "conv_tap.{lag}"), role="conv_edge",
        ),
        Family(
            "ssm_in", ("layer",), wide,
            "input of the scan: x, B and C after convolution and SiLU; its readers see x (value, skip), B or C of it",
            Place(points + "ssm_in"), {port: Place(points + port) for port in READERS}, role="write_input",
            freezable=("", *READERS),
        ),
    )  # fmt: skip


def _head_families(module: str) -> tuple[Family, ...]:
    points = f"{module}.circuitry."
    state = {port: Place(f"{points}state_{port}", position=None, unit=1) for port in ("read", "carry")}
    return (
        Family(
            "delta", ("layer", "head"), "batch pos", "step size of one head, after softplus and clamp",
            Place(points + "delta", unit=2), role="step",
        ),
        Family(
            "ssm_state", ("layer", "head"), "batch pos d_head d_state",
            "state of one head after a token has been written, h", Place(points + "state", position=None, unit=1), state,
            role="state", frozen_through=tuple(Place(f"{points}write_{part}", unit=2) for part in ("value", "delta", "B")),
        ),
        Family("gate", ("layer",), "batch pos d_inner", "gate after SiLU, g", Place(points + "gate"), role="gate"),
        Family(
            "ssm_out", ("layer", "head"), "batch pos d_head", "output of one head of the scan, C h + D x",
            Place(points + "ssm_out", unit=2), role="read_out",
        ),
    )  # fmt: skip


def _output(module: str) -> Family:
    return Family(
        "mixer_out", ("layer",), "batch pos d_model", "output of the block", Place(module), role="mixer", adds=True
    )  # fmt: skip
