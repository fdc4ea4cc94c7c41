"""Graded models by family and seed: compiled models whose attention, states and gates are not all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ModelError, expected, suggest
from ..truth import GroundTruth, ground_truth
from .attention import gpt2, gpt_neox
from .design import MIXED, Circuit, Design
from .jamba import jamba
from .rwkv import rwkv
from .states import mamba, mamba2

SMALL = 64
"""Tokens of the vocabulary: enough for prompts of 64 different tokens."""
FAMILIES: dict[str, tuple[str, ...]] = {
    "gpt_neox": ("none", "or", "and"),
    "gpt2": ("none", "or", "and"),
    "mamba": ("none", "or", "and", "backup"),
    "mamba2": ("none", "or", "and", "backup"),
    "rwkv": ("none", "or", "and"),
    "jamba": ("none", "or", "and", "backup"),
}
"""The families, and the kinds of redundancy that each can have."""
_BUILDERS: dict[str, Callable[[Design], Circuit]] = {
    "gpt_neox": gpt_neox, "gpt2": gpt2, "mamba": mamba, "mamba2": mamba2, "rwkv": rwkv, "jamba": jamba,
}  # fmt: skip


@dataclass(frozen=True)
class Graded:
    """A graded model and its truth.

    ``hf`` is the Hugging Face model, in float32 and eval mode. ``truth`` has all nodes and edges of the circuit. If it has two
    redundant copies, ``copies`` is the truth of each alone, and what only one of them has is redundant.
    """

    hf: Any
    truth: GroundTruth
    copies: tuple[GroundTruth, ...]
    family: str
    seed: int
    softness: float
    redundancy: str
    layers: int

    def redundant(self, corruption: str, where: Mapping[str, int]) -> tuple[set[tuple[str, int]], ...]:
        """For each copy the (node, position) that only this copy has: with these patched, the other copy still answers.

        Empty unless the redundancy is "or" or "backup". Patch one from each set together to see the whole effect.

        >>> model = graded("mamba", 0, redundancy="or")
        >>> [sorted(one)[-1] for one in model.redundant("B", {"A": 1, "B": 2, "END": 4})]
        [('ssm_state[0].read', 4), ('ssm_state[1].read', 4)]
        """
        if len(self.copies) == 1:
            return ()
        one, other = (copy.sites(corruption, where) for copy in self.copies)
        return one - other, other - one


def graded(family: str, seed: int, softness: float | None = None, redundancy: str | None = None, tokens: int = SMALL) -> Graded:
    """A compiled model for the task "induction", whose effects are graded, with its exact truth.

    The seed draws everything else: how many layers there are, which layer, head or lag does what, what the distractors do, and
    softness and redundancy unless they are given. ``softness`` is from 0 (attention is 0 or 1, states do not forget) to below 1.
    ``redundancy``: "none"; "or" (two copies, of which one suffices); "and" (two components must both act); "backup" (the second
    acts only if the first does not), of which ``FAMILIES`` lists those of a family. Prompts need a token before the first [A].
    Raises ModelError for a family, softness or redundancy that does not exist.

    >>> model = graded("mamba", 1)
    >>> model.redundancy, model.truth.model
    ('or', 'graded:mamba:1')
    """
    if family not in FAMILIES:
        raise ModelError(expected("a family of graded models", family, suggest(family, FAMILIES)))
    kinds = FAMILIES[family]
    if redundancy is not None and redundancy not in kinds:
        raise ModelError(expected(f"a redundancy of {family}", redundancy, suggest(redundancy, kinds)))
    if softness is not None and not 0 <= softness < 1:
        raise ModelError(f"softness must be at least 0 and below 1, got {softness}")
    design = _design(family, seed, softness, redundancy or kinds[seed % len(kinds)], tokens)
    circuit = _BUILDERS[family](design)
    name, offsets = f"graded:{family}:{seed}", {"B": 0}
    copies = tuple(ground_truth(name, "induction", routes, circuit.components, offsets) for routes in circuit.copies)
    routes = {corruption: "".join(copy[corruption] for copy in circuit.copies) for corruption in ("A", "B")}
    truth = ground_truth(name, "induction", routes, circuit.components, offsets)
    return Graded(circuit.hf, truth, copies, family, seed, design.softness, design.redundancy, design.layers)


def _design(family: str, seed: int, softness: float | None, redundancy: str, tokens: int) -> Design:
    rng = np.random.default_rng((list(FAMILIES).index(family), seed))
    drawn, layers = round(float(rng.uniform(0.1, 0.9)), 2), int(rng.integers(2, 6))
    mixed = MIXED if rng.integers(2) and redundancy != "backup" and softness != 0 else 0.0
    least = 3 if family == "jamba" and redundancy != "none" else 2
    return Design(family, seed, max(least, layers), drawn if softness is None else softness, redundancy, tokens, mixed, rng)


def catalogue(count: int = 42) -> list[tuple[str, int]]:
    """The first ``count`` pairs of family and seed, every family in turn.

    >>> catalogue(7)
    [('gpt_neox', 0), ('gpt2', 0), ('mamba', 0), ('mamba2', 0), ('rwkv', 0), ('jamba', 0), ('gpt_neox', 1)]
    """
    names = list(FAMILIES)
    return [(names[number % len(names)], number // len(names)) for number in range(count)]
