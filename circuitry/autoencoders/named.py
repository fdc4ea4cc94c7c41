"""One SAE or several, by the nodes of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from torch import Tensor

from ..errors import CircuitryError, expected
from .sae import SAE

if TYPE_CHECKING:
    import torch

    from ..paths.values import Node


Given: TypeAlias = SAE | Mapping[Any, SAE] | Iterable[SAE]
"""One SAE; several by node (or its text), as ``train_sae`` returns them; or several that name their node in ``config.provenance``."""


class Nodes(Protocol):
    """What knows nodes by name: a graph, or stored activations."""

    def node(self, name: str | Node, /) -> Node:
        """The node of this name. Raises CircuitryError if there is none."""


def by_node(graph: Nodes, saes: Given, device: torch.device | str) -> dict[Node, SAE]:
    """SAEs by the nodes of a model's graph, on a device; transcoders by the node that they predict.

    Raises CircuitryError without any SAE, for an SAE that does not name its node, an unknown node, or two SAEs of one node.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> saes = by_node(ct.graph("mamba"), SAE(SAEConfig(128, 256, provenance={"node": "resid[2]"})), "cpu")
    >>> {str(node): sae for node, sae in saes.items()}
    {'resid[2]': SAE(resid[2] relu, 128 -> 256)}
    """
    if isinstance(saes, SAE):
        saes = [saes]
    pairs = list(saes.items()) if isinstance(saes, Mapping) else [(_node(sae), sae) for sae in saes]
    named: dict[Node, SAE] = {}
    for name, sae in pairs:
        if (node := graph.node(name)) in named:
            raise CircuitryError(f"two SAEs are given for {node}; give one of them at a time")
        if sae.config.target is not None and graph.node(sae.config.target) != node:
            raise CircuitryError(f"the transcoder given for {node} predicts {sae.config.target}; give it by that node")
        named[node] = sae.on(device)
    if not named:
        raise CircuitryError("no autoencoder is given; give one, or several by node")
    return named


def read_by(graph: Nodes, node: Node, sae: SAE) -> Node:
    """The node that the SAE of a node reads: another one if it is a transcoder.

    Raises CircuitryError for a transcoder that does not name it.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> graph, sae = ct.graph("mamba"), SAE(SAEConfig(4, 8))
    >>> str(read_by(graph, graph.node("resid[2]"), sae))
    'resid[2]'
    >>> str(read_by(graph, graph.node("mixer_out[2]"), sae.between("resid[2]", "mixer_out[2]")))
    'resid[2]'
    """
    if not sae.config.transcodes:
        return node
    if sae.config.target is None or (name := sae.config.provenance.get("node")) is None:
        raise CircuitryError("this transcoder does not say which nodes it is between; name them with sae.between(source, target)")
    return graph.node(str(name))


def check_width(node: Node, sae: SAE, x: Tensor) -> None:
    """Raise CircuitryError if activations [token, width] do not have the width that an SAE takes.

    >>> import torch
    >>> from circuitry.autoencoders import SAEConfig
    >>> from circuitry.paths import parse_node
    >>> check_width(parse_node("resid[0]"), SAE(SAEConfig(4, 8)), torch.ones(1, 5))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: resid[0] has 5 numbers at a token, its SAE takes 4
    """
    if x.shape[1] != sae.config.width:
        raise CircuitryError(f"{node} has {x.shape[1]} numbers at a token, its SAE takes {sae.config.width}")


def check_target(node: Node, sae: SAE, y: Tensor) -> None:
    """Raise CircuitryError if activations [token, width] do not have the width that an SAE predicts.

    >>> import torch
    >>> from circuitry.autoencoders import SAEConfig
    >>> from circuitry.paths import parse_node
    >>> check_target(parse_node("mlp[0]"), SAE(SAEConfig(4, 8, target="mlp[0]", target_width=6)), torch.ones(1, 5))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: mlp[0] has 5 numbers at a token, its transcoder predicts 6
    """
    if y.shape[1] != sae.config.predicted:
        raise CircuitryError(f"{node} has {y.shape[1]} numbers at a token, its transcoder predicts {sae.config.predicted}")


def _node(sae: Any) -> str:
    if not isinstance(sae, SAE):
        raise CircuitryError(expected("an SAE, several SAEs, or SAEs by node", sae))
    if sae.config.transcodes and sae.config.target is None:
        raise CircuitryError("this transcoder does not say which nodes it is between; name them with sae.between(source, target)")
    if not (name := sae.config.node):
        raise CircuitryError("this SAE does not say which node it is of; give it by node, such as {'resid[3]': sae}")
    return str(name)
