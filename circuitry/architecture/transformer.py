"""What GPT-NeoX, GPT-2 and Llama have in common: attention heads with q, k, v, pattern and z, and an MLP a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..paths.values import Node
from .families import Architecture, Family, Place, Sizes
from .rules import CAUSAL, SAME, Edge
from .stream import LOGITS, stream

_MEANING = {
    ("attn", False): "output of the attention block, all heads together",
    ("attn", True): "output of the attention block after its norm, all heads together",
    ("mlp", False): "output of the MLP",
    ("mlp", True): "output of the MLP after its norm",
}


def transformer(
    *,
    name: str,
    model_types: tuple[str, ...],
    citations: tuple[str, ...],
    sizes: Callable[[Any], dict[str, int]],
    embed: str,
    layers: str,
    attention: str,
    middle: str,
    final_norm: str,
    example: dict[str, int],
    windows: Callable[[Any], Mapping[int, int]] = lambda config: {},
    after_attention: str = "",
    after_mlp: str = "",
) -> Architecture:
    """An architecture of attention and MLP layers.

    ``middle`` is the norm before the MLP, or the MLP itself if it has none: its input is the stream between attention and MLP where
    these run one after the other (``sizes["parallel"] == 0``). ``windows`` gives the width of every layer that has a sliding window.
    ``after_attention`` and ``after_mlp`` are norms of what these give before it is added to the stream, "" without any. ``attn`` and
    ``mlp`` are what is added, so they come after these norms; heads come before.

    >>> from circuitry.architecture import definition
    >>> definition("gpt_neox").instrumentation
    {'attn': 'attention'}
    """
    families = (
        *stream(embed, layers, final_norm, middle),
        *attention_block(f"{layers}.{attention}", after_attention and f"{layers}.{after_attention}"),
        mlp_block(f"{layers}.mlp", after_mlp and f"{layers}.{after_mlp}"),
        LOGITS,
    )
    instrumentation = {"attn": "attention"}
    return Architecture(name, model_types, citations, families, sizes, _edges, instrumentation, layers, example, windows=windows)


def sliding(config: Any) -> dict[int, int]:
    """The width of every layer that has a sliding window, for types whose config lists the kinds of layers.

    >>> from types import SimpleNamespace
    >>> sliding(SimpleNamespace(sliding_window=4, layer_types=["full_attention", "sliding_attention"]))
    {1: 4}
    """
    width, kinds = getattr(config, "sliding_window", None), getattr(config, "layer_types", None) or ()
    return {n: width for n, kind in enumerate(kinds) if width and kind == "sliding_attention"}


def attention_block(module: str, after: str = "") -> tuple[Family, Family]:
    """The families ``head`` and ``attn`` of an attention module that has its hook points; ``after`` is a norm of its output.

    >>> [family.name for family in attention_block("model.layers.{layer}.self_attn")]
    ['head', 'attn']
    """
    points = f"{module}.circuitry."
    ports = {port: Place(points + port, position=2, unit=1) for port in ("q", "k", "v", "pattern")}
    return (
        Family(
            "head", ("layer", "head"), "batch pos d_head", "output of one attention head before the output projection (z)",
            Place(points + "z", position=1, unit=2), ports, role="head", freezable=("", *ports), value_port="z",
        ),
        Family(
            "attn", ("layer",), "batch pos d_model", _MEANING["attn", bool(after)],
            Place(after or module), role="mixer", adds=True, block=module if after else "",
        ),
    )  # fmt: skip


def mlp_block(module: str, after: str = "") -> Family:
    """The family ``mlp``; ``after`` is a norm of its output.

    >>> mlp_block("model.layers.{layer}.mlp").adds
    True
    """
    meaning, block = _MEANING["mlp", bool(after)], module if after else ""
    return Family("mlp", ("layer",), "batch pos d_model", meaning, Place(after or module), role="mlp", adds=True, block=block)


def _edges(sizes: Sizes) -> Iterator[Edge]:
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        before, middle, after = Node("resid", (layer,)), Node("resid_mid", (layer,)), Node("resid", (layer + 1,))
        yield from attention_edges(layer, sizes["head"], after if sizes["parallel"] else middle)
        if not sizes["parallel"]:
            yield before, middle, SAME
        yield from mlp_edges(layer, before if sizes["parallel"] else middle)
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME


def attention_edges(layer: int, heads: int, after: Node, before: Node | None = None) -> Iterator[Edge]:
    """Attention on the stream ``before`` it, by default that before the layer; ``after`` is the stream it adds to.

    >>> len(list(attention_edges(0, 2, Node("resid_mid", (0,)))))
    17
    """
    before, attn = before or Node("resid", (layer,)), Node("attn", (layer,))
    for head in range(heads):
        yield from _head_edges(Node("head", (layer, head)), before, attn)
    yield attn, after, SAME


def mlp_edges(layer: int, before: Node) -> Iterator[Edge]:
    """The MLP on the stream ``before`` it; it adds to the stream after the layer.

    >>> len(list(mlp_edges(0, Node("resid_mid", (0,)))))
    3
    """
    after = Node("resid", (layer + 1,))
    yield before, after, SAME
    yield from mlp_inner_edges(layer, before, after)


def mlp_inner_edges(layer: int, before: Node, after: Node) -> Iterator[Edge]:
    """The MLP's own edges, from the stream before it to the stream it adds to.

    >>> len(list(mlp_inner_edges(0, Node("resid", (0,)), Node("resid", (1,)))))
    2
    """
    mlp = Node("mlp", (layer,))
    yield from ((before, mlp, SAME), (mlp, after, SAME))


def _head_edges(head: Node, stream: Node, attn: Node) -> Iterator[Edge]:
    """A key or value at p is read by queries at p and later; a query only moves the pattern of its own row."""
    q, k, v, pattern = (Node("head", head.indices, port) for port in ("q", "k", "v", "pattern"))
    yield from ((stream, q, SAME), (stream, k, SAME), (stream, v, SAME))
    yield from ((q, pattern, SAME), (k, pattern, CAUSAL), (pattern, head, SAME), (v, head, CAUSAL), (head, attn, SAME))
