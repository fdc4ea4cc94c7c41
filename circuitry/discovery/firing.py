"""Where the best latents of a discovery fire: the prompts that change each of them most, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..models.model import Model
from ..models.reading import hooked
from ..paths.values import Node

if TYPE_CHECKING:
    from .result import Discovery

LATENTS, EXAMPLES = 12, 3
"""How many latents are shown, and on how many prompts each."""


def firing(found: Discovery, latents: int = LATENTS, examples: int = EXAMPLES) -> list[dict[str, Any]]:
    """For each of the best single latents the prompts that change it most: its activation on every token of both prompts of a pair.

    One row for each latent: ``latent``, ``label``, ``most``, its highest activation, and ``prompts``, each with ``clean`` and ``corrupted``, lists of (token, activation).
    Only prompts that ranked are shown.

    >>> import circuitry as ct
    >>> from circuitry.autoencoders import SAE, SAEConfig
    >>> model = ct.load("bundled:mamba").attach({"resid[2]": SAE(SAEConfig(128, 256))})
    >>> found = ct.discover(model, ct.task("induction", distance=4, examples=8), features=True, verify=0)
    >>> [row] = firing(found, latents=1, examples=2)
    >>> row["latent"] == found.ranking["latent"][0], len(row["prompts"])
    (True, 2)
    """
    graph, model, prompts = found.question.wiring.graph, found.question.model, found.question.prompts
    names = [graph.node(text) for text in dict.fromkeys(found.ranking["latent"])]
    chosen = [node for node in names if node.term and node.term.number is not None][:latents]
    if not chosen:
        return []
    features = [_features(model, chosen, ids) for ids in (prompts.clean, prompts.corrupted)]
    rows = []
    for node in chosen:
        clean, corrupted = (values[node] for values in features)
        used = np.arange(prompts.length) < prompts.stops[:, None]
        change = (np.abs(corrupted - clean) * used).sum(1)
        pairs = []
        for example in np.argsort(-change, kind="stable")[:examples]:
            length = int(prompts.stops[example])
            both = ((prompts.clean, clean), (prompts.corrupted, corrupted))
            lines = [_line(model, ids[example, :length], values[example, :length]) for ids, values in both]
            pairs.append({"clean": lines[0], "corrupted": lines[1]})
        labels, shown = model.saes[node.host].labels, [value for pair in pairs for line in pair.values() for _, value in line]
        rows.append(
            {
                "latent": str(node),
                "label": labels.get(int(str(node.term and node.term.number)), ""),
                "prompts": pairs,
                "most": max(shown),
            }
        )
    return rows


def _features(model: Model, latents: list[Node], ids: np.ndarray[Any, Any]) -> dict[Node, np.ndarray[Any, Any]]:
    """The activation of each latent [example, position], a few prompts at a time."""
    places = {host: model.graph.place(host) for host in dict.fromkeys(node.host for node in latents)}
    parts: dict[Node, list[np.ndarray[Any, Any]]] = {node: [] for node in latents}
    for start in range(0, len(ids), 16):
        values = hooked(model.hf, model.mixers, places, torch.from_numpy(ids[start : start + 16]))
        for node in latents:
            parts[node].append(_of(model, node, values[node.host]).cpu().double().numpy())
    return {node: np.concatenate(some) for node, some in parts.items()}


@torch.no_grad()
def _of(model: Model, node: Node, value: Tensor) -> Tensor:
    number = node.term.number if node.term else None
    flat = value.reshape(value.shape[0] * value.shape[1], -1)
    one = torch.full((len(flat),), number or 0, device=flat.device)
    return model.saes[node.host].encode_at(flat, one).reshape(value.shape[:2])


def _line(model: Model, ids: np.ndarray[Any, Any], values: np.ndarray[Any, Any]) -> list[tuple[str, float]]:
    """Tokens as text, numbers if the model has no tokenizer, with their activations."""
    texts = [str(i) if model.tokenizer is None else model.tokenizer.decode([int(i)]) for i in ids]
    return [(text, round(float(value), 4)) for text, value in zip(texts, values, strict=True)]
