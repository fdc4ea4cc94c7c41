"""Architectures whose layers differ: each layer is a row of blocks, by the model's layout, so heads and states share one graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ..errors import CircuitryError, suggest
from ..paths.values import Node
from .families import Architecture, Family, Place, Sizes
from .rules import SAME, Edge
from .state_space import ALIASES, mixer_block, mixer_edges
from .stream import LOGITS, stream
from .transformer import attention_block, attention_edges, mlp_block, mlp_inner_edges

BlockEdges: TypeAlias = Callable[[int, Sizes, Node, Node], Iterator[Edge]]
"""From a layer, the sizes, the stream that a block reads and the stream it adds to, to the block's edges."""


@dataclass(frozen=True)
class Block:
    """One kind of block that adds to the stream: its node families, its edges, and the instrumentation of its families."""

    families: tuple[Family, ...]
    edges: BlockEdges
    instrumentation: Mapping[str, str] = field(default_factory=dict)


def attention(module: str, after: str = "") -> Block:
    """Attention heads in ``module`` (a template over the layer); ``after`` is a norm of its output, if there is one.

    >>> attention("model.layers.{layer}.self_attn").instrumentation
    {'attn': 'attention'}
    """

    def edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
        return attention_edges(layer, sizes["head"], after, before)

    return Block(attention_block(module, after), edges, {"attn": "attention"})


def gated_attention(module: str) -> Block:
    """Attention heads in ``module``, each with a gate on its output.

    >>> [family.name for family in gated_attention("model.layers.{layer}.self_attn").families]
    ['attn_gate', 'head', 'attn']
    """
    place = Place(f"{module}.q_proj.circuitry.gate", unit=2)
    gate = Family(
        "attn_gate", ("layer", "head"), "batch pos d_head", "gate of a head before the sigmoid", place, role="attn_gate"
    )

    def edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
        for head in range(sizes["head"]):
            node = Node("attn_gate", (layer, head))
            yield from ((before, node, SAME), (node, Node("attn", (layer,)), SAME))
        yield from attention_edges(layer, sizes["head"], after, before)

    return Block((gate, *attention_block(module)), edges, {"attn": "gated_attention"})


def mlp(module: str, name: str = "mlp", after: str = "") -> Block:
    """An MLP or a mixture of experts in ``module``; ``name`` is that of its nodes, if a layer has both, and ``after`` a norm of its
    output, if there is one.

    >>> [family.name for family in mlp("model.layers.{layer}.mlp").families]
    ['mlp']
    """

    def edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
        return mlp_inner_edges(layer, before, after, name)

    return Block((replace(mlp_block(module, after), name=name),), edges)


def selective_mixer(module: str) -> Block:
    """A Mamba mixer (S6) in ``module``; ``sizes["lag"]`` is the width of its convolution.

    >>> selective_mixer("model.layers.{layer}.mamba").instrumentation
    {'mixer_out': 'mamba'}
    """

    def edges(layer: int, sizes: Sizes, before: Node, after: Node) -> Iterator[Edge]:
        return mixer_edges(layer, sizes["lag"], after, before)

    return Block(mixer_block(module), edges, {"mixer_out": "mamba"})


def layered(
    *,
    name: str,
    model_types: tuple[str, ...],
    citations: tuple[str, ...],
    sizes: Callable[[Any], dict[str, int]],
    blocks: Mapping[str, Block],
    layout: Callable[[Any], tuple[str, ...]],
    pattern: tuple[str, ...],
    embed: str,
    layers: str,
    final_norm: str,
    example: dict[str, int],
    middle: str = "",
    windows: Callable[[Any], Mapping[int, int]] = lambda config: {},
    parts: Mapping[str, Mapping[str, str]] | None = None,
) -> Architecture:
    """An architecture whose layers are built of ``blocks``.

    ``layout`` says for a config what each layer is: the names of its blocks in order, such as ``"mamba mlp"``; blocks that read
    the same stream are joined by a plus, ``"mamba+attention mlp"``. A layer has at most two steps, and ``middle`` is the norm
    before the second, or that block itself. ``parts``: for each kind of layer, names of modules that templates such as
    ``"model.layers.{layer}.{after}"`` may have, where these differ from kind to kind. ``pattern`` is the layout without a model, repeated as often as there are layers.

    >>> from circuitry.architecture import definition
    >>> sorted(definition("jamba").instrumentation)
    ['attn', 'mixer_out']
    """
    by_name = {family.name: family for block in blocks.values() for family in block.families}
    # Mixers first: instrumented, they run where stock ones cannot, and the check of attention runs the whole model.
    kinds = dict(sorted({family: kind for block in blocks.values() for family, kind in block.instrumentation.items()}.items(),
                        key=lambda pair: pair[0] == "attn"))  # fmt: skip

    def edges(sizes: Sizes, layout: Sequence[str]) -> Iterator[Edge]:
        yield Node("embed"), Node("resid", (0,)), SAME
        for layer, described in enumerate(layout):
            yield from _layer(layer, described, sizes, blocks)
        yield Node("resid", (sizes["layer"],)), Node("logits"), SAME

    families = (*stream(embed, layers, final_norm, middle), *by_name.values(), LOGITS)
    return Architecture(
        name,
        model_types,
        citations,
        families,
        sizes,
        edges,
        kinds,
        layers,
        example,
        {short: name for short, name in ALIASES.items() if name in by_name},
        windows,
        layout,
        pattern,
        parts or {},
    )


def _layer(layer: int, described: str, sizes: Sizes, blocks: Mapping[str, Block]) -> Iterator[Edge]:
    before, last, steps = Node("resid", (layer,)), Node("resid", (layer + 1,)), described.split()
    if not 1 <= len(steps) <= 2:
        raise CircuitryError(f"layer {layer}: expected one or two steps, such as 'mamba mlp', got {described!r}")
    for number, step in enumerate(steps, start=1):
        after = last if number == len(steps) else Node("resid_mid", (layer,))
        yield before, after, SAME
        for block in step.split("+"):
            if block not in blocks:
                raise CircuitryError(f"layer {layer}: expected a kind of block, got {block!r}; {suggest(block, blocks)}")
            yield from blocks[block].edges(layer, sizes, before, after)
        before = after
