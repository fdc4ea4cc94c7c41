"""Layers with a linear state and the gated delta rule: a token shrinks the state, erases what it finds at its key, and writes there.

``graphs/qwen3_next.py`` says what each node is.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..paths.values import Node
from .families import Family, Place, Sizes
from .layered import Block
from .rules import NEXT, SAME, Edge, lag

_PORTS = ("query", "key", "erase", "value")
_HELD = ("value", "key", "erase", "step", "rate", "decay")


def delta_mixer(module: str, *, by_channel: bool = False) -> Block:
    """Layers with the gated delta rule in ``module`` (a template over the layer).

    ``sizes["lag"]`` is the width of the convolution, ``sizes["state_head"]`` the number of states. ``by_channel``: every channel of
    a key has a decay of its own.

    >>> delta_mixer("model.layers.{layer}.linear_attn").instrumentation
    {'mixer_out': 'linear_state'}
    """
    return Block(_families(module, "batch pos d_key" if by_channel else "batch pos"), _edges, {"mixer_out": "linear_state"})


def _edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
    x, c, gate, out = (Node(name, (layer,)) for name in ("conv_in", "ssm_in", "gate", "mixer_out"))
    yield from ((before, x, SAME), (before, gate, SAME))
    for k in range(sizes["lag"]):
        yield from ((x, Node("conv_tap", (layer, k)), lag(k)), (Node("conv_tap", (layer, k)), c, SAME))
    yield from ((c, Node("ssm_in", (layer,), port), SAME) for port in _PORTS)
    for head in range(sizes["state_head"]):
        yield from _head_edges(layer, head, before)
        yield Node("ssm_out", (layer, head)), out, SAME
    yield from ((gate, out, SAME), (out, after, SAME))


def _head_edges(layer: int, head: int, before: Node) -> Iterator[Edge]:
    beta, decay, h, s = (Node(name, (layer, head)) for name in ("beta", "decay", "ssm_state", "ssm_out"))
    yield from ((before, beta, SAME), (before, decay, SAME), (decay, h, SAME))
    for port in ("write", "erase"):
        yield from ((beta, Node("beta", beta.indices, port), SAME), (Node("beta", beta.indices, port), h, SAME))
    yield from ((Node("ssm_in", (layer,), port), h, SAME) for port in ("key", "erase", "value"))
    read, carry = Node("ssm_state", h.indices, "read"), Node("ssm_state", h.indices, "carry")
    yield from ((h, read, SAME), (h, carry, SAME), (carry, h, NEXT))
    yield from ((read, s, SAME), (Node("ssm_in", (layer,), "query"), s, SAME))


def _families(module: str, decay: str) -> tuple[Family, ...]:
    points, head = f"{module}.circuitry.", ("layer", "state_head")
    beta = {port: Place(f"{points}beta_{port}", unit=2) for port in ("write", "erase")}
    state = {port: Place(f"{points}state_{port}", position=None, unit=1) for port in ("read", "carry")}
    return (
        Family(
            "conv_in", ("layer",), "batch pos d_conv", "input of the convolution: q, k and v side by side",
            Place(points + "conv_in"), role="conv_input",
        ),
        Family(
            "conv_tap", ("layer", "lag"), "batch pos d_conv",
            "q, k and v of the token `lag` positions back, as one position's convolution sees them",
            Place(points + "conv_tap.{lag}"), role="conv_edge",
        ),
        Family(
            "ssm_in", ("layer",), "batch pos d_conv",
            "q, k and v after convolution and SiLU; its readers see q (query), v (value) or k (key, erase) of it",
            Place(points + "ssm_in"), {port: Place(points + port) for port in _PORTS}, role="write_input", freezable=("", *_PORTS),
        ),
        Family(
            "beta", head, "batch pos", "how much of the value one head writes, and of what it finds at its key erases",
            Place(points + "beta", unit=2), beta, role="step", freezable=("", *beta),
        ),
        Family(
            "decay", head, decay, "logarithm of the factor by which one head's state shrinks before it is written to",
            Place(points + "decay", unit=2), role="decay",
        ),
        Family(
            "ssm_state", head, "batch pos d_key d_value", "state of one head after a token has been written, h",
            Place(points + "state", position=None, unit=1), state, role="state",
            frozen_through=tuple(Place(f"{points}write_{part}", unit=2) for part in _HELD),
        ),
        Family("gate", ("layer",), "batch pos d_inner", "gate after its activation, g", Place(points + "gate"), role="gate"),
        Family(
            "ssm_out", head, "batch pos d_value", "what one head reads from its state, before norm and gate",
            Place(points + "ssm_out", unit=2), role="read_out",
        ),
        Family("mixer_out", ("layer",), "batch pos d_model", "output of the block", Place(module), role="mixer", adds=True),
    )  # fmt: skip
