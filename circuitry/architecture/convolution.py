"""LFM2's gated short convolution: a block whose tokens mix by a causal convolution alone, between two gates, without a state.

``graphs/lfm2.py`` says what each node is.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..paths.values import Node
from .families import Family, Place, Sizes
from .layered import Block
from .rules import SAME, Edge, lag


def short_conv(module: str) -> Block:
    """A gated short convolution in ``module`` (a template over the layer); ``sizes["lag"]`` is its width.

    >>> [family.name for family in short_conv("model.layers.{layer}.conv").families]
    ['conv_value', 'input_gate', 'conv_in', 'conv_tap', 'conv_out', 'gate', 'mixer_out']
    """
    points, wide = f"{module}.circuitry.", "batch pos d_model"
    families = (
        Family(
            "conv_value", ("layer",), wide, "what the input gate lets into the convolution", Place(points + "conv_value"),
            role="conv_value",
        ),
        Family("input_gate", ("layer",), wide, "what it is multiplied by, B", Place(points + "input_gate"), role="input_gate"),
        Family(
            "conv_in", ("layer",), wide, "input of the convolution, the product of both", Place(points + "conv_in"),
            role="conv_input",
        ),
        Family(
            "conv_tap", ("layer", "lag"), wide, "conv_in of the token `lag` positions back, as one position's convolution sees it",
            Place(points + "conv_tap.{lag}"), role="conv_edge",
        ),
        Family("conv_out", ("layer",), wide, "output of the convolution", Place(points + "conv_out"), role="read_out"),
        Family("gate", ("layer",), wide, "what the output is multiplied by, C", Place(points + "gate"), role="gate"),
        Family("mixer_out", ("layer",), wide, "output of the block", Place(module), role="mixer", adds=True),
    )  # fmt: skip
    return Block(families, _edges, {"mixer_out": "short_conv"})


def _edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
    names = ("conv_value", "input_gate", "conv_in", "conv_out", "gate", "mixer_out")
    value, opening, x, s, gate, out = (Node(name, (layer,)) for name in names)
    yield from ((before, value, SAME), (before, opening, SAME), (before, gate, SAME), (value, x, SAME), (opening, x, SAME))
    for k in range(sizes["lag"]):
        yield from ((x, Node("conv_tap", (layer, k)), lag(k)), (Node("conv_tap", (layer, k)), s, SAME))
    yield from ((s, out, SAME), (gate, out, SAME), (out, after, SAME))
