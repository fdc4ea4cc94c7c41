"""Attention and an MLP whose output goes into a mixer of the same layer, as in Zamba: neither adds to the stream itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..paths.values import Node
from .families import Sizes
from .layered import Block
from .rules import Edge
from .transformer import attention_block, attention_edges, mlp_block


def shared(module: str, mixer: Block, attention: str = "self_attn", mlp: str = "feed_forward") -> Block:
    """A block of attention and then an MLP in ``module`` (a template over the layer), before a ``mixer``.

    The heads read the stream and the embedding side by side, the mixer reads the stream and what the MLP gives.

    >>> from circuitry.architecture.duality import duality
    >>> block = shared("model.layers.{layer}.shared_transformer", duality("model.layers.{layer}.mamba_decoder.mamba"))
    >>> [family.name for family in block.families if family.feeds], [family.name for family in block.families if family.adds]
    (['attn', 'mlp'], ['mixer_out'])
    """

    def edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
        output = Node("mlp", (layer,))
        for read in (before, Node("embed")):
            yield from attention_edges(layer, sizes["head"], output, read)
        for read in (before, output):
            yield from mixer.edges(layer, sizes, read, after)

    parts = (*attention_block(f"{module}.{attention}"), mlp_block(f"{module}.{mlp}"))
    families = (replace(part, adds=False, feeds=part.adds) for part in parts)
    return Block((*families, *mixer.families), edges, {"attn": "attention", **mixer.instrumentation})
