"""The token shift of RWKV: every consumer sees a token and the one before it, mixed by weights of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..paths.values import Node
from .families import Family, Place
from .rules import SAME, Edge, Rule, lag


def shift(
    layer: int, width: int, stream: Node, names: tuple[str, str], consumers: Mapping[str, tuple[Node, Rule]]
) -> Iterator[Edge]:
    """The edges from the stream to its norm and on to each consumer, one tap for each of ``width`` tokens.

    ``names`` are those of the norm's node and of the taps; ``consumers`` are by the port through which they see a tap.

    >>> len(list(shift(0, 2, Node("resid", (0,)), ("mlp_in", "mlp_tap"), {"key": (Node("mlp_hidden", (0,)), SAME)})))
    7
    """
    source, tap = names
    x = Node(source, (layer,))
    yield stream, x, SAME
    for k in range(width):
        seen = Node(tap, (layer, k))
        yield x, seen, lag(k)
        for port, (consumer, rule) in consumers.items():
            yield from ((seen, Node(tap, (layer, k), port), SAME), (Node(tap, (layer, k), port), consumer, rule))


def taps(name: str, source: str, points: str, ports: tuple[str, ...], role: str) -> Family:
    """The taps of a shift, with a port for each consumer. ``points`` are where the hook points of the block are.

    >>> taps("mlp_tap", "mlp_in", "blocks.{layer}.ffn.circuitry.", ("key",), "mlp_edge").ports["key"].module
    'blocks.{layer}.ffn.circuitry.tap_key.{lag}'
    """
    places = {port: Place(f"{points}tap_{port}.{{lag}}") for port in ports}
    meaning = f"{source} of the token `lag` positions back, as this token sees it"
    return Family(
        name, ("layer", "lag"), "batch pos d_model", meaning, Place(f"{points}tap.{{lag}}"), places, role, freezable=("", *ports)
    )
