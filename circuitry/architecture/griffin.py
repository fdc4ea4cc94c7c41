"""Griffin's recurrent block: a gated block whose tokens mix by a convolution and by a state with one number for each channel.

``graphs/recurrent_gemma.py`` says what each node is.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..paths.values import Node
from .families import Family, Place, Sizes
from .layered import Block
from .rules import NEXT, SAME, Edge, lag

_GATES = ("input_gate", "recurrent_gate")


def rg_lru(module: str) -> Block:
    """A recurrent block in ``module`` (a template over the layer); ``sizes["lag"]`` is the width of its convolution.

    >>> [family.name for family in rg_lru("model.layers.{layer}.temporal_block").families][2:6]
    ['ssm_in', 'input_gate', 'recurrent_gate', 'ssm_state']
    """
    points, wide, ports = f"{module}.circuitry.", "batch pos d_inner", ("value", *_GATES)
    state = {port: Place(f"{points}state_{port}", position=None) for port in ("read", "carry")}
    families = (
        Family("conv_in", ("layer",), wide, "input of the convolution, x", Place(points + "conv_in"), role="conv_input"),
        Family(
            "conv_tap", ("layer", "lag"), wide, "x of the token `lag` positions back, as one position's convolution sees it",
            Place(points + "conv_tap.{lag}"), role="conv_edge",
        ),
        Family(
            "ssm_in", ("layer",), wide, "output of the convolution, c", Place(points + "ssm_in"),
            {port: Place(f"{points}to_{port}") for port in ports}, role="write_input", freezable=("", *ports),
        ),
        Family(
            "input_gate", ("layer",), wide, "how much of c is written to the state, i, after the sigmoid",
            Place(points + "input_gate"), role="step",
        ),
        Family(
            "recurrent_gate", ("layer",), wide, "how fast the state decays and is written, r, after the sigmoid",
            Place(points + "recurrent_gate"), role="step",
        ),
        Family(
            "ssm_state", ("layer",), "batch pos d_inner", "state after a token has been written, h",
            Place(points + "state", position=None), state, role="state",
            frozen_through=tuple(Place(f"{points}write_{part}") for part in ("value", "decay")),
        ),
        Family("gate", ("layer",), wide, "gate after its activation, g", Place(points + "gate"), role="gate"),
        Family("ssm_out", ("layer",), wide, "the state as it is read out", Place(points + "ssm_out"), role="read_out"),
        Family("mixer_out", ("layer",), "batch pos d_model", "output of the block", Place(module), role="mixer", adds=True),
    )  # fmt: skip
    return Block(families, _edges, {"mixer_out": "rg_lru"})


def _edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
    x, c, h, gate, s, out = (Node(name, (layer,)) for name in ("conv_in", "ssm_in", "ssm_state", "gate", "ssm_out", "mixer_out"))
    yield from ((before, x, SAME), (before, gate, SAME))
    for k in range(sizes["lag"]):
        yield from ((x, Node("conv_tap", (layer, k)), lag(k)), (Node("conv_tap", (layer, k)), c, SAME))
    value = Node("ssm_in", (layer,), "value")
    yield from ((c, value, SAME), (value, h, SAME))
    for name in _GATES:
        seen, opening = Node("ssm_in", (layer,), name), Node(name, (layer,))
        yield from ((c, seen, SAME), (seen, opening, SAME), (opening, h, SAME))
    read, carry = Node("ssm_state", (layer,), "read"), Node("ssm_state", (layer,), "carry")
    yield from ((h, read, SAME), (h, carry, SAME), (carry, h, NEXT), (read, s, SAME))
    yield from ((s, out, SAME), (gate, out, SAME), (out, after, SAME))
