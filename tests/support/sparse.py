"""Tiny models whose nodes have random autoencoders, and a compiled one whose latents are known."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import circuitry as ct
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.discovery.latents import listed
from circuitry.discovery.question import Question
from circuitry.executing.activations import read
from circuitry.prompting.task import Task
from support import asking, termed

TRUE, OTHER = 7, 9
"""The token that matters in every prompt of ``same_tokens``, and what it is in the corrupted prompts."""


def hosts(model: Any) -> list[Any]:
    """Nodes of every sort: the stream, blocks, heads or states, and some node inside a block.

    Not the stream between two blocks: plain hooks there change what the second block reads, but not the stream past it.
    """
    graph = model.graph
    stages = graph.nodes("resid")
    others = [node for node in graph.nodes(ports=True) if graph.family(node.family).role not in ("resid", "logits", "embed")]
    return [stages[0], stages[1], *[node for node in others if node.port != "pattern"][1::5]]


@functools.cache
def attached(kind: str) -> Any:
    """A tiny model in float64 with random autoencoders on nodes of every sort."""
    model = asking.smooth(kind)
    values = read(model, hosts(model), np.arange(6)[None])
    saes = {node: termed.autoencoder(value[0, 0].numel(), number) for number, (node, value) in enumerate(values.items())}
    return model.attach(saes)


@functools.cache
def question(kind: str) -> Question:
    """A question about all latents of these autoencoders that change."""
    asked = asking.about(attached(kind), level="latent")
    return replace(asked, terms=listed(asked))


def compiled() -> Any:
    """The compiled Transformer whose latents in the middle are one for each token, previous token and output that its stream holds."""
    model = ct.load("compiled:transformer")
    width, tokens = model.hf.config.hidden_size, model.hf.config.vocab_size
    eye = torch.eye(width)[:, : 3 * tokens]
    zeros = {"b_enc": torch.zeros(3 * tokens), "b_dec": torch.zeros(width)}
    return model.attach({"resid[1]": SAE.of(SAEConfig(width, 3 * tokens), {"W_enc": eye, "W_dec": eye.T, **zeros})})


def same_tokens(model: Any, corruption: str, examples: int = 8) -> Task:
    """Induction in which every prompt is corrupted from the token ``TRUE`` to the token ``OTHER``."""
    prompts = ct.task("induction", distance=8, examples=examples, corruption=corruption).prompts(model.vocabulary)
    arrays = {name: getattr(prompts, name).copy() for name in ("clean", "corrupted", "answer", "foil")}
    for row, at in enumerate(prompts.where[corruption]):
        renamed = _renamed(int(prompts.clean[row, at]), int(prompts.corrupted[row, at]), model.hf.config.vocab_size)
        for array in arrays.values():
            array[row] = renamed[array[row]]
    return asking.task(replace(prompts, **arrays))


def _renamed(true: int, other: int, tokens: int) -> np.ndarray[Any, Any]:
    """Other names for all tokens, by their number: ``true`` becomes ``TRUE``, ``other`` becomes ``OTHER``."""
    rest = iter([token for token in range(tokens) if token not in (TRUE, OTHER)])
    return np.array([{true: TRUE, other: OTHER}[token] if token in (true, other) else next(rest) for token in range(tokens)])
