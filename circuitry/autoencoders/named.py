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
    """SAEs by the nodes of a model's graph, on a device.

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
        named[node] = sae.on(device)
    if not named:
        raise CircuitryError("no autoencoder is given; give one, or several by node")
    return named


def check_width(node: Node, sae: SAE, x: Tensor) -> None:
    """Raise CircuitryError if activations [token, width] do not have the width that an SAE takes.

    >>> import torch
    >>> from circuitry.autoencoders import SAEConfig
    >>> from circuitry.paths import Node
    >>> check_width(Node("resid", (0,)), SAE(SAEConfig(4, 8)), torch.ones(1, 5))
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: resid[0] has 5 numbers at a token, its SAE takes 4
    """
    if x.shape[1] != sae.config.width:
        raise CircuitryError(f"{node} has {x.shape[1]} numbers at a token, its SAE takes {sae.config.width}")


def _node(sae: Any) -> str:
    if not isinstance(sae, SAE):
        raise CircuitryError(expected("an SAE, several SAEs, or SAEs by node", sae))
    if not (name := sae.config.provenance.get("node")):
        raise CircuitryError("this SAE does not say which node it is of; give it by node, such as {'resid[3]': sae}")
    return str(name)
