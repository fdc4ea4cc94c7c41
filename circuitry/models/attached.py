"""The autoencoders that are attached to a model's nodes, in the precision in which the model computes."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ..architecture.families import Place
from ..architecture.graph import Graph
from ..autoencoders.files import load
from ..autoencoders.named import by_node
from ..autoencoders.sae import SAE
from ..errors import CircuitryError
from ..paths.values import Node

Attachable: TypeAlias = SAE | str | PathLike[str] | Mapping[Any, Any] | Iterable[Any]
"""One SAE or its folder; several of these; or SAEs or folders by node. A folder of folders has one for each."""


def autoencoders(given: Attachable, graph: Graph, device: torch.device, dtype: torch.dtype) -> dict[Node, SAE]:
    """Autoencoders by node, on a device, in float32 or in the wider dtype of the model.

    Raises CircuitryError for a folder without an autoencoder, and as ``by_node`` does.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAEConfig
    >>> sae = SAE(SAEConfig(128, 256, provenance={"node": "resid[2]"}))
    >>> [str(node) for node in autoencoders([sae], ct.graph("mamba"), torch.device("cpu"), torch.float64)]
    ['resid[2]']
    """
    saes: Any = {node: _one(sae) for node, sae in given.items()} if isinstance(given, Mapping) else _every(given)
    wide = torch.promote_types(dtype, torch.float32)
    return {node: copy.deepcopy(sae).to(wide).requires_grad_(False) for node, sae in by_node(graph, saes, device).items()}


def _every(given: Any) -> list[SAE]:
    if isinstance(given, SAE):
        return [given]
    if isinstance(given, str | PathLike):
        folder = Path(given)
        inside = sorted(path.parent for path in folder.glob("*/cfg.json")) if not (folder / "cfg.json").exists() else []
        return [load(path) for path in inside] or [load(folder)]
    return [sae for one in given for sae in _every(one)]


def _one(given: Any) -> SAE:
    if len(several := _every(given)) != 1:
        raise CircuitryError(f"{given} holds {len(several)} autoencoders; name the folder of one of them")
    return several[0]


def check_widths(hf: Any, mixers: Sequence[Any], saes: Mapping[Node, tuple[Place, SAE]]) -> None:
    """Refuse autoencoders of another width than their nodes have, in one short run of the model. Raises CircuitryError."""
    seen: dict[Node, int] = {}

    def note(node: Node, place: Place, value: Any) -> None:
        shape = list((value.logits if hasattr(value, "logits") else value[0] if isinstance(value, tuple | list) else value).shape)
        dropped = {0, place.position, place.unit}
        seen.setdefault(node, math.prod(size for at, size in enumerate(shape) if at not in dropped))

    with ExitStack() as stack:
        for node, (place, _) in saes.items():
            module = hf.get_submodule(place.module)
            if place.io == "output":
                hook = module.register_forward_hook(lambda _, __, out, n=node, p=place: note(n, p, out))
            else:
                hook = module.register_forward_pre_hook(
                    lambda _, args, kwargs, n=node, p=place: note(n, p, args[0] if args else next(iter(kwargs.values()))),
                    with_kwargs=True,
                )
            stack.callback(hook.remove)
        for mixer in mixers:
            mixer.circuitry.stops = (0,)
            stack.callback(setattr, mixer.circuitry, "stops", ())
        with torch.no_grad():
            hf(torch.zeros(1, 3, dtype=torch.long, device=hf.get_input_embeddings().weight.device), use_cache=False)
    for node, (_, sae) in saes.items():
        if seen[node] != sae.config.width:
            raise CircuitryError(f"{node} has {seen[node]} numbers at a token, its autoencoder takes {sae.config.width}")


def digest(sae: SAE) -> str:
    """A digest of an autoencoder's kind and weights in float32.

    >>> from circuitry.autoencoders import SAEConfig
    >>> digest(SAE(SAEConfig(2, 4))) == digest(SAE(SAEConfig(2, 4), seed=1))
    False
    """
    made = hashlib.blake2b(f"{sae.config.kind} {sae.config.k} {sae.config.centred}".encode(), digest_size=8)
    for name, value in sorted(sae.state_dict().items()):
        made.update(f"{name} {tuple(value.shape)}".encode())
        made.update(value.detach().cpu().float().contiguous().numpy().data)
    return made.hexdigest()
