"""Where the best latents of a discovery fire: the prompts that change each of them most, token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..executing.activations import read
from ..executing.executor import EXAMPLES as EXAMPLES_AT_ONCE
from ..models.model import Model
from ..paths.values import Node
from ..prompting.prompts import Ids, Prompts

if TYPE_CHECKING:
    from .result import Discovery

Floats: TypeAlias = NDArray[np.float64]
Line: TypeAlias = list[tuple[str, float]]
"""Tokens as text, each with an activation."""
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
    clean, corrupted = (_features(model, chosen, ids) for ids in (prompts.clean, prompts.corrupted))
    labels, rows = found.provenance.get("labels", {}), []
    for node in chosen:
        pairs = _pairs(model, prompts, clean[node], corrupted[node], examples)
        most = max(value for pair in pairs for line in pair.values() for _, value in line)
        rows.append({"latent": str(node), "label": labels.get(str(node), ""), "prompts": pairs, "most": most})
    return rows


def _pairs(model: Model, prompts: Prompts, clean: Floats, corrupted: Floats, count: int) -> list[dict[str, Line]]:
    """The prompts on which one latent [example, position] changes most."""
    used = np.arange(prompts.length) < prompts.stops[:, None]
    change, pairs = (np.abs(corrupted - clean) * used).sum(1), []
    for example in np.argsort(-change, kind="stable")[:count]:
        until = slice(prompts.stops[example])
        sides = {"clean": (prompts.clean, clean), "corrupted": (prompts.corrupted, corrupted)}
        pairs.append({side: _line(model, ids[example, until], values[example, until]) for side, (ids, values) in sides.items()})
    return pairs


def _features(model: Model, latents: list[Node], ids: Ids) -> dict[Node, Floats]:
    """The activation of each latent [example, position], a few prompts at a time."""
    parts = [read(model, latents, ids[start : start + EXAMPLES_AT_ONCE]) for start in range(0, len(ids), EXAMPLES_AT_ONCE)]
    return {node: np.concatenate([part[node].cpu().double().numpy() for part in parts]) for node in latents}


def _line(model: Model, ids: Ids, values: Floats) -> Line:
    """Tokens as text, numbers if the model has no tokenizer, with their activations."""
    texts = [str(i) if model.tokenizer is None else model.tokenizer.decode([int(i)]) for i in ids]
    return [(text, round(float(value), 4)) for text, value in zip(texts, values, strict=True)]
