"""Hybrids: each layer has attention or a Mamba mixer, then an MLP, so that heads and states are nodes of one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..paths.values import Node
from .families import Architecture, Sizes
from .rules import SAME, Edge
from .state_space import ALIASES, mixer_block, mixer_edges
from .stream import LOGITS, stream
from .transformer import attention_block, attention_edges, mlp_block, mlp_edges


def hybrid(
    *,
    name: str,
    model_types: tuple[str, ...],
    citations: tuple[str, ...],
    sizes: Callable[[Any], dict[str, int]],
    embed: str,
    layers: str,
    attention: str,
    mixer: str,
    mlp: str,
    middle: str,
    final_norm: str,
    example: dict[str, int],
) -> Architecture:
    """An architecture of pre-norm layers that have attention every so often, and a Mamba mixer elsewhere.

    Layers whose number has the remainder ``sizes["attn_offset"]`` by ``sizes["attn_period"]`` have the module ``attention``, the
    others ``mixer``; all have ``mlp`` after the norm ``middle``.

    >>> from circuitry.architecture import definition
    >>> sorted(definition("jamba").instrumentation)
    ['attn', 'mixer_out']
    """
    families = (
        *stream(embed, layers, final_norm, middle),
        *attention_block(f"{layers}.{attention}"),
        *mixer_block(f"{layers}.{mixer}"),
        mlp_block(f"{layers}.{mlp}"),
        LOGITS,
    )
    # The mixers first: instrumented, they run where stock Mamba cannot, and the check of attention runs the whole model.
    instrumentation = {"mixer_out": "mamba", "attn": "attention"}
    return Architecture(name, model_types, citations, families, sizes, _edges, instrumentation, layers, example, ALIASES)


def _edges(sizes: Sizes) -> Iterator[Edge]:
    yield Node("embed"), Node("resid", (0,)), SAME
    for layer in range(sizes["layer"]):
        before, middle = Node("resid", (layer,)), Node("resid_mid", (layer,))
        if layer % sizes["attn_period"] == sizes["attn_offset"]:
            yield from attention_edges(layer, sizes["head"], middle)
        else:
            yield from mixer_edges(layer, sizes["lag"], middle)
        yield before, middle, SAME
        yield from mlp_edges(layer, middle)
    yield Node("resid", (sizes["layer"],)), Node("logits"), SAME
