"""Two constructed models that represent the same features and use different ones, with autoencoders whose latents are these features.

In both models, heads of layer 0 write the tokens 1, 2 and 3 back into blocks of the stream, which no other part of it uses. Layer 1
adds some of them to the logits. Model A adds those 1 and 2 back, model B those 1 and 3 back. Each also writes and adds tokens at a
distance at which the other does not look (4 and 5). So "1 back" does the same in both, "2 back" and "3 back" fire alike and act in
one model, and "4 back" and "5 back" exist in one model only.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import circuitry as ct
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.compiled.stream import Stream
from circuitry.compiled.transformer import ROTARY, Head, _copy, _look, neox
from circuitry.features.activations.corpus import Corpus
from circuitry.prompting import Prompts, TaskDefinition
from circuitry.prompting.task import Task, task_of

TOKENS, HEADS, NODE = 14, 6, "resid[1]"
BLOCKS = {1: "one", 2: "two", 3: "three", 4: "own", 5: "own"}
"""The block for the token so many places back; "own" is that of the distance at which only one of the models looks."""
LOOKS = {"A": (1, 2, 3, 4), "B": (1, 3, 2, 5)}
ADDS = {"A": (1, 2, 4), "B": (1, 3, 5)}
AGREE, DIFFER = (1,), (2, 3)
ANSWERS, FOILS = (3, 4), (5, 6)
"""Tokens that are answers and foils; the others fill prompts."""


@dataclass(frozen=True)
class Planted:
    """A model, and its autoencoder by node; latents are in the order of ``features``: (places back, token)."""

    model: ct.Model
    saes: dict[str, SAE]
    features: list[tuple[int, int]]


@functools.cache
def planted(name: str, latents_seed: int = 0) -> Planted:
    """Model A or B in float64, its latents shuffled by a seed; those of B fire twice as strongly."""
    blocks = ("one", "two", "three", "own")
    stream = Stream(centred=True, token=TOKENS, **dict.fromkeys(blocks, TOKENS), out=TOKENS, unused=HEADS * ROTARY - 19)
    heads = tuple(Head(back, "token", BLOCKS[back]) for back in LOOKS[name])
    adds = tuple(Head(0, BLOCKS[back], "out") for back in ADDS[name])
    layers = (_filled(heads), _filled(adds))
    hf = neox(stream, TOKENS, layers, rotated=ROTARY, theta=3.0, positions=64, write=functools.partial(_write, stream))
    model = ct.load(hf, dtype="float64")
    model.name = name
    order = np.random.default_rng([latents_seed, ord(name)]).permutation(
        [(back, token) for back in LOOKS[name] for token in range(TOKENS)]
    )
    features = [(int(back), int(token)) for back, token in order]
    return Planted(model, {NODE: _sae(stream, features, 2.0 if name == "B" else 1.0)}, features)


def _filled(heads: tuple[Head, ...]) -> tuple[Head, ...]:
    return (*heads, *[Head(0, "token", "spare")] * (HEADS - len(heads)))


def _write(stream: Stream, block: Any, number: int, head: Head, rows: Any, angles: Tensor) -> None:
    size = TOKENS + ROTARY
    _look(block.attention.query_key_value.weight, stream, head, rows[:2], angles)
    _copy(block.attention, stream, head, rows[2], slice(number * size + ROTARY, (number + 1) * size))


def _sae(stream: Stream, features: list[tuple[int, int]], scale: float) -> SAE:
    """Latents that are entries of the stream. Their directions keep its mean at zero, as all that writes to it does."""
    sae = SAE(SAEConfig(stream.size, len(features), "jumprelu", provenance={"node": NODE}))
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.zero_()
        sae.threshold.fill_(0.5 * scale)  # what heads write where they do not look is nearly 0, not 0
        for latent, (back, token) in enumerate(features):
            entry = stream[BLOCKS[back]].start + token
            sae.W_enc[entry, latent], sae.W_dec[latent, entry] = scale, 1 / scale
            sae.W_dec[latent, stream["balance"]] = -1 / scale
    return sae


def _prompts(vocabulary: Any, rng: Any, *, examples: int) -> Prompts:
    """The answer five times, then any other token; in corrupted prompts the foil in place of the answer."""
    rest = [token for token in range(TOKENS) if token not in (*ANSWERS, *FOILS)]
    answer, foil = rng.choice(ANSWERS, examples), rng.choice(FOILS, examples)
    clean = rng.choice(rest, (examples, 8))
    corrupted = clean.copy()
    clean[:, 2:7], corrupted[:, 2:7] = answer[:, None], foil[:, None]
    where = {**{f"P{k}": np.full(examples, 7 - k) for k in range(1, 6)}, "END": np.full(examples, 7)}
    return Prompts(clean, corrupted, answer, foil, where, tuple(f"P{k}" for k in range(1, 6)))


def task(examples: int = 48, seed: int = 0) -> Task:
    names = (*(f"P{k}" for k in range(1, 6)), "END")
    return task_of(TaskDefinition("back", "the token that is repeated", _prompts, names, names), {}, examples, seed)


def active(intervention: str) -> tuple[int, ...]:
    """The tokens whose latents a patch can change: those that differ between prompts, or that the clean prompt has."""
    return (*ANSWERS, *FOILS) if intervention == "resample" else ANSWERS


def text(documents: int = 40, length: int = 40) -> Corpus:
    """Random tokens, to match features on."""
    ids = np.random.default_rng(0).integers(0, TOKENS, documents * length).astype(np.int32)
    return Corpus(ids, np.arange(documents + 1) * length, np.zeros(len(ids), bool), "random tokens", "")
