"""The autoencoders that are attached to a model's nodes, in the precision in which the model computes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from ..autoencoders.named import by_node
from ..autoencoders.sae import SAE
from ..errors import CircuitryError, expected
from ..paths.values import Node

if TYPE_CHECKING:
    from ..architecture.graph import Graph

Attachable: TypeAlias = SAE | str | PathLike[str] | Mapping[Any, Any] | Iterable[Any]
"""One SAE or its folder; several of these; or SAEs or folders by node. A folder of folders has one for each."""


def autoencoders(given: Attachable, graph: Graph, device: torch.device, dtype: torch.dtype) -> dict[Node, SAE]:
    """Autoencoders by node, on a device, in float32 or in the wider dtype of the model.

    Raises CircuitryError for a folder without an autoencoder, for a transcoder, for weights that are not finite, and as ``by_node``
    does.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> sae = SAE(SAEConfig(128, 256, provenance={"node": "resid[2]"}))
    >>> [str(node) for node in autoencoders([sae], ct.graph("mamba"), torch.device("cpu"), torch.float64)]
    ['resid[2]']
    """
    saes: Any = {node: _one(sae) for node, sae in given.items()} if isinstance(given, Mapping) else _every(given)
    wide, named = torch.promote_types(dtype, torch.float32), by_node(graph, saes, device)
    for node, sae in named.items():
        if node.term is not None:
            raise CircuitryError(f"{node} is a term of {node.host}; give the autoencoder by {node.host}")
        if graph.family(node.family).role == "logits":
            raise CircuitryError("the logits are the end of the model; an autoencoder belongs to a node before them")
        if sae.config.transcodes:
            raise CircuitryError(
                f"the transcoder of {node} cannot be attached: paths read latents from the node's own value, and its latents are computed "
                f"from {sae.config.provenance.get('node')}; evaluate, encode and sae.encode(x) take it"
            )
        _check_finite(node, sae)
    return {node: copy.deepcopy(sae).to(wide).requires_grad_(False) for node, sae in named.items()}


def _check_finite(node: Node, sae: SAE) -> None:
    for name, weight in sae.state_dict().items():
        if wrong := int((~weight.isfinite()).sum()):
            raise CircuitryError(
                f"{wrong:,} of the {weight.numel():,} numbers in {name} of the autoencoder of {node} are NaN or infinite; "
                "its training diverged, or its file is damaged"
            )


def _every(given: Any) -> list[SAE]:
    if isinstance(given, SAE):
        return [given]
    if isinstance(given, str | PathLike):
        from ..autoencoders.files import load  # the layouts of other libraries, which only folders need

        folder = Path(given)
        inside = sorted(path.parent for path in folder.glob("*/cfg.json")) if not (folder / "cfg.json").exists() else []
        return [load(path) for path in inside] or [load(folder)]
    if isinstance(given, Tensor) or not isinstance(given, Iterable):
        raise CircuitryError(expected("an SAE, a folder of one, several of these, or SAEs by node", given))
    return [sae for one in given for sae in _every(one)]


def _one(given: Any) -> SAE:
    if len(several := _every(given)) != 1:
        raise CircuitryError(f"{given} holds {len(several)} autoencoders; name the folder of one of them")
    return several[0]


def check_widths(short: Mapping[Node, Tensor], long: Mapping[Node, Tensor], saes: Mapping[Node, SAE]) -> None:
    """Refuse autoencoders of another width than their nodes have, by values [row, position, ...] of these on two lengths of text: an
    attention pattern has a number for every token. Raises CircuitryError.

    >>> from circuitry.autoencoders import SAEConfig
    >>> node = Node("resid", (2,))
    >>> check_widths(*[{node: torch.zeros(1, length, 128)} for length in (2, 3)], {node: SAE(SAEConfig(64, 256))})
    Traceback (most recent call last):
    circuitry.errors.CircuitryError: resid[2] has 128 numbers at a token, its autoencoder takes 64
    """
    for node, sae in saes.items():
        if (width := short[node][0, 0].numel()) != long[node][0, 0].numel():
            raise CircuitryError(f"{node} has no fixed width, so no autoencoder: it has a number for every token of the text")
        if width != sae.config.width:
            raise CircuitryError(f"{node} has {width} numbers at a token, its autoencoder takes {sae.config.width}")


@torch.no_grad()
def changing(sae: SAE, clean: Tensor, corrupted: Tensor, used: Tensor) -> tuple[Tensor, Tensor]:
    """By latent [F]: the mean over examples of how much it changes between two prompts, and in how many examples it fires on either.

    ``clean`` and ``corrupted`` are values [example, position, ...] of the node; changes are added up over the positions ``used``
    [example, position].

    >>> from circuitry.autoencoders import SAEConfig
    >>> ones = torch.ones(3, 2, 4)
    >>> change, fires = changing(SAE(SAEConfig(4, 8)), ones, ones, torch.ones(3, 2) > 0)
    >>> float(change.sum()), int(fires.max())
    (0.0, 3)
    """
    change, fires = torch.zeros(sae.config.features), torch.zeros(sae.config.features, dtype=torch.long)
    for one, other, at in zip(clean, corrupted, used, strict=True):
        ours, theirs = (sae.encode(values[at].reshape(int(at.sum()), -1)) for values in (one, other))
        change += (ours - theirs).abs().sum(0).cpu() / len(clean)
        fires += ((ours > 0) | (theirs > 0)).any(0).cpu()
    return change, fires
