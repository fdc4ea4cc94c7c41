"""The neurons of a model and their values.

Neurons are the input of an MLP's last projection. No node of a Transformer's graph has them: ``mlp`` is what the block adds to the
stream, and ``executing.activations.read`` reads nodes only. So a forward hook reads the projection's input. If the graph has
them (RWKV's ``mlp_hidden``), or the model has no MLP (Mamba), they are read like any node.

The paper matches "Mamba post-SiLU activations" (section 4.3.1). Mamba has two SiLUs and the paper does not say which it means: that
before the scan, whose output is ``ssm_in``, or that of the gate. Here ``scan`` and ``gate`` name them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ...errors import CircuitryError, expected
from ...executing.activations import read
from ...models.model import Model
from ...paths.values import Node

ROLES = ("mlp_hidden", "mlp")
"""Roles of families that have neurons; the first one in the graph is used."""
POST_SILU = {"scan": "write_input", "gate": "gate"}
"""In a model without an MLP, the readings of "post-SiLU activations", with the roles of their families."""


def neuron_nodes(model: Model, post_silu: str = "scan") -> list[Node]:
    """The nodes that name a model's neurons, one for each layer.

    ``post_silu``: which activations of a Mamba these are, "scan" (the input of the scan) or "gate"; without effect on a model with
    an MLP. Raises CircuitryError for another text, and a model without neurons.

    >>> import circuitry as ct
    >>> [[str(neuron_nodes(ct.load(name))[0])] for name in ("bundled:gpt_neox", "bundled:mamba")]
    [['mlp[0]'], ['ssm_in[0]']]
    >>> str(neuron_nodes(ct.load("bundled:mamba"), "gate")[0])
    'gate[0]'
    """
    if post_silu not in POST_SILU:
        raise CircuitryError(expected(f"post_silu to be {' or '.join(POST_SILU)}", post_silu))
    for role in (*ROLES, POST_SILU[post_silu]):
        if families := model.graph.by_role(role):
            return model.graph.nodes(families[0].name)
    raise CircuitryError(f"{model.name} has no MLP and no gated block, so its neurons must be named: nodes such as 'resid[0]'")


def read_neurons(model: Model, nodes: Iterable[Node], ids: NDArray[np.int64]) -> dict[Node, Tensor]:
    """Values [row, position, width] of nodes; for an ``mlp`` node, those of its neurons.

    Raises CircuitryError for an MLP without a single last projection, such as one of experts.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> {str(node): tuple(value.shape) for node, value in read_neurons(model, neuron_nodes(model)[:1], np.zeros((2, 7), int)).items()}
    {'mlp[0]': (2, 7, 512)}
    """
    chosen = list(nodes)
    inside = [node for node in chosen if model.graph.family(node.family).role == "mlp" and node.port is None]
    plain = [node for node in chosen if node not in inside]
    values = {node: value.flatten(2) for node, value in read(model, plain, ids).items()} if plain else {}
    if inside:
        values |= _hidden(model, {node: projection(model, node) for node in inside}, ids)
    return {node: values[node] for node in chosen}


def projection(model: Model, node: Node) -> nn.Module:
    """The last projection of an MLP: of the projections to the stream's width, the one with the widest input.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:gpt_neox")
    >>> projection(model, model.graph.node("mlp[1]"))
    Linear(in_features=512, out_features=128, bias=True)
    """
    width = model.hf.config.hidden_size
    block: nn.Module = model.hf.get_submodule(model.graph.block(node))
    sizes = [(_size(module), module) for module in block.modules()]
    fitting = [(size[0], module) for size, module in sizes if size is not None and size[1] == width]
    if not fitting:
        raise CircuitryError(
            f"{node} of {model.name} has no projection to {width} numbers (experts have none for every token), so name other nodes"
        )
    widest: nn.Module = max(fitting, key=lambda pair: pair[0])[1]
    return widest


def _size(module: nn.Module) -> tuple[int, int] | None:
    """Input and output widths of a projection; None for any other module."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return (int(module.nx), int(module.nf)) if isinstance(module, Conv1D) else None


@torch.no_grad()
def _hidden(model: Model, projections: Mapping[Node, nn.Module], ids: NDArray[np.int64]) -> dict[Node, Tensor]:
    values: dict[Node, Tensor] = {}

    def keep(node: Node) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values[node] = inputs[0].detach()

        return hook

    hooks = [module.register_forward_pre_hook(keep(node)) for node, module in projections.items()]
    try:
        model.hf(torch.from_numpy(np.ascontiguousarray(ids, np.int64)).to(model.device), use_cache=False, logits_to_keep=1)
    finally:
        for hook in hooks:
            hook.remove()
    for node in projections:
        if node not in values or values[node].shape[:2] != ids.shape:  # routed tokens arrive as a flat list
            raise CircuitryError(
                f"{node} of {model.name} sends tokens to experts, so it has no neurons for every token; name other nodes"
            )
    return values
