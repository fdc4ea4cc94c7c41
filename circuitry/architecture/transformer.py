"""What GPT-NeoX, GPT-2 and Llama have in common: attention heads with q, k, v, pattern and z, and an MLP a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..paths import Node
from .families import CAUSAL, SAME, Architecture, Edge, Family, Place, Sizes

_TAP = "{layers}.{attention}.circuitry."


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
) -> Architecture:
    """An architecture of pre-norm attention and MLP layers.

    ``middle`` is the norm before the MLP: its input is the stream between attention and MLP where these run one after
    the other (``sizes["parallel"] == 0``).

    >>> from circuitry.architecture import definition
    >>> definition("gpt_neox").taps
    {'attn': 'attention'}
    """
    tap = _TAP.format(layers=layers, attention=attention)
    heads = {port: Place(tap + port, position=2, unit=1) for port in ("q", "k", "v", "pattern")}
    families = (
        Family("embed", (), "batch pos d_model", "token embedding", Place(embed), role="embed"),
        Family(
            "resid", ("layer",), "batch pos d_model", "residual stream before a layer; the last index is after all layers",
            Place(layers, "input", end=final_norm), role="resid",
        ),
        Family(
            "resid_mid", ("layer",), "batch pos d_model", "residual stream between attention and MLP",
            Place(f"{layers}.{middle}", "input"), role="resid",
        ),
        Family(
            "head", ("layer", "head"), "batch pos d_head", "output of one attention head before the output projection (z)",
            Place(tap + "z", position=1, unit=2), heads, role="head", freezable=("", *heads), value_port="z",
        ),
        Family(
            "attn", ("layer",), "batch pos d_model", "output of the attention block, all heads together",
            Place(f"{layers}.{attention}"), role="mixer", adds=True,
        ),
        Family("mlp", ("layer",), "batch pos d_model", "output of the MLP", Place(f"{layers}.mlp"), role="mlp", adds=True),
        Family("logits", (), "batch pos vocab", "next-token logits", Place("lm_head"), role="logits", freezable=()),
    )  # fmt: skip
    return Architecture(name, model_types, citations, families, sizes, _edges, {"attn": "attention"}, layers, example)


def _edges(sizes: Sizes) -> Iterator[Edge]:
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        before, after = Node("resid", (layer,)), Node("resid", (layer + 1,))
        attn, mlp = Node("attn", (layer,)), Node("mlp", (layer,))
        middle = before if sizes["parallel"] else Node("resid_mid", (layer,))
        for head in range(sizes["head"]):
            yield from _head_edges(Node("head", (layer, head)), before, attn)
        if not sizes["parallel"]:
            yield from ((before, middle, SAME), (attn, middle, SAME))
        else:
            yield attn, after, SAME
        yield from ((middle, mlp, SAME), (middle, after, SAME), (mlp, after, SAME))
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME


def _head_edges(head: Node, stream: Node, attn: Node) -> Iterator[Edge]:
    """A key or value at p is read by queries at p and later; a query only moves the pattern of its own row."""
    q, k, v, pattern = (Node("head", head.indices, port) for port in ("q", "k", "v", "pattern"))
    yield from ((stream, q, SAME), (stream, k, SAME), (stream, v, SAME))
    yield from ((q, pattern, SAME), (k, pattern, CAUSAL), (pattern, head, SAME), (v, head, CAUSAL), (head, attn, SAME))
