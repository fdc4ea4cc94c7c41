"""RWKV-4: time mixing, which mixes tokens by a shift of one token and by a decaying weighted mean, then channel mixing with a shift.

A node with the same function as one in Mamba has the same letter: shift_in is x, wkv_in is c (from which keys, values and
receptances are computed), wkv_state is h, gate is g (the receptance), wkv_out is s, mixer_out is o. ``shift_tap[l,k] @ t`` is
what the token at t sees of the token k positions before it (k = 0 is itself), for all consumers together. Its ports are what one
consumer sees, since each consumer mixes the two tokens by its own weights. mlp_tap is the same in channel mixing.

``wkv_state @ t`` is the state after token t has been written: numerator, denominator and running maximum of every channel,
[d_attn, 3]. The weighted mean is numerator / denominator, and both are scaled by exp(-maximum). Only the three together have a
meaning, so they are always patched together. With ``intervention="zero"`` a state is as if nothing had been written: numerator
and denominator are 0, and the next read-out is the token's own value. ``"mean"`` takes the mean of each of the three numbers, so
the scale of a prompt decides its weight. The result is a possible state, but its read-out is not the mean of the prompts'
read-outs.

Two edges leave the state: port ``read``, which the *next* token's read-out sees, and port ``carry``, from which the next state is
computed. A token does not read what it writes: it sees its own key and value through the bonus ``time_first``, the edges from
wkv_in.key and wkv_in.value to wkv_out. A state at the last token therefore has no effect on that token's logits. A state is
frozen by freezing the keys and values that the recurrence sees, which gives the same trajectory, bit for bit. The bonus and the
gate stay live.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from circuitry.architecture import LOGITS, NEXT, SAME, Architecture, Edge, Family, Node, Place, part, shift, taps

LAYER = "rwkv.blocks.{layer}"
TIME, CHANNEL = LAYER + ".attention.circuitry.", LAYER + ".feed_forward.circuitry."
MIXED = ("key", "value", "receptance")


def edges(sizes: Mapping[str, int]) -> Iterator[Edge]:
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        names = ("resid", "mixer_out", "resid_mid", "mlp")
        before, out, middle, mlp = (Node(name, (layer,)) for name in names)
        after = Node("resid", (layer + 1,))
        yield from time_mixing(layer, sizes["lag"])
        yield from ((before, middle, SAME), (out, middle, SAME))
        yield from channel_mixing(layer, sizes["lag"])
        yield from ((middle, after, SAME), (mlp, after, SAME))
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME


def time_mixing(layer: int, width: int) -> Iterator[Edge]:
    stream, c, h, gate, s, out = (
        Node(name, (layer,)) for name in ("resid", "wkv_in", "wkv_state", "gate", "wkv_out", "mixer_out")
    )
    yield from shift(layer, width, stream, ("shift_in", "shift_tap"), {port: (c, part(port)) for port in MIXED})
    key, value, receptance = (Node("wkv_in", (layer,), port) for port in MIXED)
    yield from ((c, key, part("key")), (c, value, part("value")), (c, receptance, part("receptance")))
    yield from ((key, h, SAME), (value, h, SAME), (key, s, SAME), (value, s, SAME))
    read, carry = Node("wkv_state", (layer,), "read"), Node("wkv_state", (layer,), "carry")
    yield from ((h, read, SAME), (h, carry, SAME), (carry, h, NEXT), (read, s, NEXT))
    yield from ((receptance, gate, SAME), (s, out, SAME), (gate, out, SAME))


def channel_mixing(layer: int, width: int) -> Iterator[Edge]:
    hidden, gate, mlp = (Node(name, (layer,)) for name in ("mlp_hidden", "mlp_gate", "mlp"))
    consumers = {"key": (hidden, SAME), "receptance": (gate, SAME)}
    yield from shift(layer, width, Node("resid_mid", (layer,)), ("mlp_in", "mlp_tap"), consumers)
    yield from ((hidden, mlp, SAME), (gate, mlp, SAME))


FAMILIES = (
    Family("embed", (), "batch pos d_model", "token embedding", Place("rwkv.embeddings"), role="embed"),
    Family(
        "resid", ("layer",), "batch pos d_model",
        "residual stream before a layer (layer 0 norms it first); the last index is after all layers",
        Place(LAYER, "input", end="rwkv.ln_out"), role="resid",
    ),
    Family(
        "resid_mid", ("layer",), "batch pos d_model", "residual stream between time mixing and channel mixing",
        Place(LAYER + ".ln2", "input"), role="resid",
    ),
    Family(
        "shift_in", ("layer",), "batch pos d_model", "input of the token shift, x", Place(TIME + "shift_in"), role="conv_input",
    ),
    taps("shift_tap", "x", TIME, MIXED, "conv_edge"),
    Family(
        "wkv_in", ("layer",), "batch pos 3*d_model",
        "this token and the one before it, mixed for each consumer, c: the inputs of key, value and receptance side by side",
        Place(TIME + "wkv_in"), {port: Place(TIME + port) for port in MIXED}, role="write_input", freezable=("", *MIXED),
    ),
    Family(
        "wkv_state", ("layer",), "batch pos d_attn 3",
        "numerator, denominator and running maximum after a token has been written, h; zero is a state to which nothing was "
        "written, the mean is taken of each of the three numbers",
        Place(TIME + "state", position=None),
        {"read": Place(TIME + "state_read", position=None), "carry": Place(TIME + "state_carry", position=None)},
        role="state", frozen_through=(Place(TIME + "write_key"), Place(TIME + "write_value")),
    ),
    Family("gate", ("layer",), "batch pos d_attn", "receptance after the sigmoid, g", Place(TIME + "gate"), role="gate"),
    Family(
        "wkv_out", ("layer",), "batch pos d_attn", "weighted mean of the values, this token's own among them, s",
        Place(TIME + "wkv_out"), role="read_out",
    ),
    Family(
        "mixer_out", ("layer",), "batch pos d_model", "output of time mixing", Place(LAYER + ".attention"), role="mixer", adds=True,
    ),
    Family("mlp_in", ("layer",), "batch pos d_model", "input of channel mixing", Place(CHANNEL + "mlp_in"), role="mlp_input"),
    taps("mlp_tap", "mlp_in", CHANNEL, ("key", "receptance"), "mlp_edge"),
    Family("mlp_hidden", ("layer",), "batch pos d_ff", "squared ReLU of the key", Place(CHANNEL + "hidden"), role="mlp_hidden"),
    Family("mlp_gate", ("layer",), "batch pos d_model", "receptance of channel mixing", Place(CHANNEL + "gate"), role="mlp_gate"),
    Family(
        "mlp", ("layer",), "batch pos d_model", "output of channel mixing", Place(LAYER + ".feed_forward"), role="mlp", adds=True,
    ),
    LOGITS,
)  # fmt: skip

ARCHITECTURE = Architecture(
    name="rwkv",
    model_types=("rwkv",),
    citations=("Peng et al. 2023, RWKV: Reinventing RNNs for the Transformer Era, arXiv:2305.13048",),
    sizes=lambda config: {"layer": config.num_hidden_layers, "lag": 2},
    edges=edges,
    instrumentation={"mixer_out": "rwkv"},
    layers=LAYER,
    families=FAMILIES,
    example={"layer": 12, "lag": 2},
    aliases={"x": "shift_in", "c": "wkv_in", "h": "wkv_state", "g": "gate", "s": "wkv_out", "o": "mixer_out"},
)
