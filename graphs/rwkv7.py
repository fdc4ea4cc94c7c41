"""RWKV-7: time mixing with a matrix of states for each head, whose values layer 0 shares with all other layers; then channel mixing.

Names are those of ``graphs/rwkv.py`` where a node plays the same part. shift_in is x, and ``shift_tap[l,k] @ t`` is what the token at t
sees of the token k positions before it. Six consumers mix the two tokens by their own weights; wkv_in, c, has the six mixes side by
side. What is computed of each mix is a node: receptance, decay, key, value and rate for each head, and gate. A token shrinks each
head's state S, channel by channel of the key, erases what it found before that at its erase key, and writes its value at its key:

    S_t = exp(decay) S_(t-1) - (rate e) (e^T S_(t-1)) + k value^T,    wkv_out = S_t^T receptance

Both keys come from the node ``key``: e is its multiple by a weight, of length 1, and k is key (1 + (rate - 1) k_a), with k_a the layer's
weights. So key and rate have two readers and two ports each: ``key[2,0].write`` and ``rate[2,0].write`` make what writes, ``.erase`` what
erases. ``decay`` is the logarithm of the factor, between -.61 and 0.

``first_value[l,h]`` is what layer l, from 1 on, sees of layer 0's ``value[0,h]``: ``value[l,h]`` is a mix of it and of the layer's own
value. This edge leads past the residual stream. ``value[0,h]`` is patched for all its readers, ``value[0,h].write`` only for state and
bonus of layer 0.

Unlike in RWKV-4, a token reads what it has just written. ``bonus[l,h]`` is its value once more, times a number made of receptance and
key. The norm of each head lies on the edge from wkv_out to mixer_out; the bonus is added after it. A state is frozen by freezing
what writes it and its decay, as the recurrence sees them: the bonus, the receptance and the gate stay live.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from circuitry.architecture import LOGITS, NEXT, SAME, Architecture, Edge, Family, Node, Place, part, shift, taps

LAYER = "blocks.{layer}"
TIME, CHANNEL = LAYER + ".att.circuitry.", LAYER + ".ffn.circuitry."
BY_HEAD = ("receptance", "decay", "key", "value", "rate")
MIXED = (*BY_HEAD, "gate")
READERS = {"key": ("write", "erase"), "rate": ("write", "erase"), "value": ("write",)}
HELD = ("value", "key", "probe", "erase", "decay")


def edges(sizes: Mapping[str, int]) -> Iterator[Edge]:
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        names = ("resid", "mixer_out", "resid_mid", "mlp_hidden", "mlp")
        before, out, middle, hidden, mlp = (Node(name, (layer,)) for name in names)
        after = Node("resid", (layer + 1,))
        consumers = {port: (Node("wkv_in", (layer,)), part(port)) for port in MIXED}
        yield from shift(layer, sizes["lag"], before, ("shift_in", "shift_tap"), consumers)
        yield from time_mixing(layer, sizes["state_head"])
        yield from ((before, middle, SAME), (out, middle, SAME))
        yield from shift(layer, sizes["lag"], middle, ("mlp_in", "mlp_tap"), {"key": (hidden, SAME)})
        yield from ((hidden, mlp, SAME), (middle, after, SAME), (mlp, after, SAME))
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME


def time_mixing(layer: int, heads: int) -> Iterator[Edge]:
    c, gate, out = (Node(name, (layer,)) for name in ("wkv_in", "gate", "mixer_out"))
    for port in MIXED:
        yield c, Node("wkv_in", (layer,), port), part(port)
    yield from ((Node("wkv_in", (layer,), "gate"), gate, SAME), (gate, out, SAME))
    for head in range(heads):
        for name in BY_HEAD:
            yield Node("wkv_in", (layer,), name), Node(name, (layer, head)), SAME
        yield from head_edges(layer, head)
        yield from ((Node(name, (layer, head)), out, SAME) for name in ("wkv_out", "bonus"))


def head_edges(layer: int, head: int) -> Iterator[Edge]:
    at = (layer, head)
    receptance, decay, value, h, s, bonus = (
        Node(name, at) for name in ("receptance", "decay", "value", "wkv_state", "wkv_out", "bonus")
    )
    for name, ports in READERS.items():
        yield from ((Node(name, at), Node(name, at, port), SAME) for port in ports)
        yield from ((Node(name, at, port), h, SAME) for port in ports)
        yield Node(name, at, "write"), bonus, SAME
    read, carry = Node("wkv_state", at, "read"), Node("wkv_state", at, "carry")
    yield from ((decay, h, SAME), (h, read, SAME), (h, carry, SAME), (carry, h, NEXT), (read, s, SAME))
    yield from ((receptance, s, SAME), (receptance, bonus, SAME))
    if layer > 0:
        earlier = Node("first_value", at)
        yield from ((Node("value", (0, head)), earlier, SAME), (earlier, value, SAME))


def by_head(name: str, meaning: str, role: str = "") -> Family:
    ports = {port: Place(f"{TIME}{name}_{port}", unit=2) for port in READERS.get(name, ())}
    place = Place(TIME + name, unit=2)
    return Family(name, ("layer", "state_head"), "batch pos d_head", meaning, place, ports, role=role, freezable=("", *ports))


FAMILIES = (
    Family("embed", (), "batch pos d_model", "token embedding", Place("emb"), role="embed"),
    Family(
        "resid", ("layer",), "batch pos d_model",
        "residual stream before a layer (layer 0 norms it first); the last index is after all layers",
        Place(LAYER, "input", end="ln_out"), role="resid",
    ),
    Family(
        "resid_mid", ("layer",), "batch pos d_model", "residual stream between time mixing and channel mixing",
        Place(LAYER + ".ln2", "input"), role="resid",
    ),
    Family("shift_in", ("layer",), "batch pos d_model", "input of the token shift, x", Place(TIME + "shift_in"), role="conv_input"),
    taps("shift_tap", "x", TIME, MIXED, "conv_edge"),
    Family(
        "wkv_in", ("layer",), "batch pos 6*d_model",
        "this token and the one before it, mixed for each consumer, c: the inputs of receptance, decay, key, value, rate and gate",
        Place(TIME + "wkv_in"), {port: Place(f"{TIME}in_{port}") for port in MIXED}, role="write_input", freezable=("", *MIXED),
    ),
    by_head("receptance", "what one head asks its state for"),
    by_head("decay", "logarithm of the factor by which each channel of the key of one head's state shrinks", "decay"),
    by_head("key", "key of one head, of which the key that writes and the key that erases are made"),
    by_head("first_value", "value of layer 0 as this layer sees it"),
    by_head("value", "value of one head, after layer 0's value has been mixed into it"),
    by_head("rate", "learning rate: how much one head erases of what it finds, and how much its key that writes is changed", "step"),
    Family(
        "wkv_state", ("layer", "state_head"), "batch pos d_key d_value", "state of one head after a token has been written, h",
        Place(TIME + "state", position=None, unit=1),
        {port: Place(f"{TIME}state_{port}", position=None, unit=1) for port in ("read", "carry")}, role="state",
        frozen_through=tuple(Place(f"{TIME}write_{name}", unit=2) for name in HELD),
    ),
    by_head("wkv_out", "what one head reads from its state, before the norm, s", "read_out"),
    by_head("bonus", "this token's value times the product of receptance and key"),
    Family("gate", ("layer",), "batch pos d_model", "gate, g", Place(TIME + "gate"), role="gate"),
    Family("mixer_out", ("layer",), "batch pos d_model", "output of time mixing", Place(LAYER + ".att"), role="mixer", adds=True),
    Family("mlp_in", ("layer",), "batch pos d_model", "input of channel mixing", Place(CHANNEL + "mlp_in"), role="mlp_input"),
    taps("mlp_tap", "mlp_in", CHANNEL, ("key",), "mlp_edge"),
    Family("mlp_hidden", ("layer",), "batch pos d_ff", "squared ReLU of the key", Place(CHANNEL + "hidden"), role="mlp_hidden"),
    Family("mlp", ("layer",), "batch pos d_model", "output of channel mixing", Place(LAYER + ".ffn"), role="mlp", adds=True),
    LOGITS,
)  # fmt: skip

ARCHITECTURE = Architecture(
    name="rwkv7",
    model_types=("rwkv7",),
    citations=("Peng et al. 2025, RWKV-7 \"Goose\" with Expressive Dynamic State Evolution, arXiv:2503.14456",),
    sizes=lambda config: {
        "layer": config.num_hidden_layers, "state_head": config.hidden_size // config.head_dim, "lag": 2,
    },
    edges=edges,
    instrumentation={"mixer_out": "rwkv7"},
    layers=LAYER,
    families=FAMILIES,
    example={"layer": 12, "state_head": 12, "lag": 2},
    aliases={"x": "shift_in", "c": "wkv_in", "h": "wkv_state", "g": "gate", "s": "wkv_out", "o": "mixer_out"},
)  # fmt: skip
