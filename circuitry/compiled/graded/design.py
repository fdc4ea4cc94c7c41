"""What a seed draws for a graded model, what softness means in numbers, and how the truth of its circuit is put together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..stream import ONE
from ..truth import TrueComponent

ATTENDED, MATCHED = 0.4, 0.25
"""How much of a head's attention goes to its sink, and how much of a copied token is lost, at softness 1."""
TAIL = 12.0
"""At softness 1 a token that does not match scores this much below one that does, in nats."""
DRIVE, STEP, FORGOTTEN, MIXED = 0.5, 0.6, 0.03, 0.2
"""At softness 1: by how much the numbers before a SiLU and step sizes are smaller, and what a state loses with each token.
At any softness above 0: how much of [A] may be stored with [B]."""


@dataclass(frozen=True)
class Design:
    """One graded model: what was asked for, what the seed drew, and the random numbers for everything else.

    ``mixed`` is how much of [A] is stored with [B], as part of the value: with it, a second and weaker route leads from [A] to END.
    """

    family: str
    seed: int
    layers: int
    softness: float
    redundancy: str
    tokens: int
    mixed: float
    rng: np.random.Generator = field(compare=False, repr=False)

    def contrast(self, hard: float) -> float:
        """How far a match scores above everything that does not match, in nats: ``hard`` at softness 0.

        >>> design = Design("mamba", 0, 2, 0.5, "none", 64, 0.0, np.random.default_rng(0))
        >>> design.contrast(100.0)
        24.0
        """
        return min(hard, TAIL / self.softness) if self.softness else hard

    def above_sink(self, contrast: float) -> float:
        """How far a match scores above the sink, in nats, so that it gets 1 - ``ATTENDED`` * softness of the attention.

        >>> design = Design("mamba", 0, 2, 0.5, "none", 64, 0.0, np.random.default_rng(0))
        >>> round(design.above_sink(24.0), 3)
        1.386
        """
        # Half a match must stay below the sink, for circuits in which two components have to act together.
        lost = ATTENDED * self.softness
        return min(contrast / 4, math.log((1 - lost) / lost)) if lost else contrast / 4

    @property
    def kept(self) -> float:
        """Which part of a copied token arrives: the rest of the attention of a head that copies it goes elsewhere."""
        # What a mixed value takes from the copied token must not contain [B] again.
        return 1.0 if self.mixed else 1 - MATCHED * self.softness

    @property
    def drive(self) -> float:
        """The number before a SiLU that is on."""
        return ONE * (1 - DRIVE * self.softness)

    @property
    def step(self) -> float:
        """The step size of a state."""
        return 1 - STEP * self.softness

    @property
    def retention(self) -> float:
        """What a state keeps with each token. A backup must see a whole answer, so nothing is lost there."""
        return 1.0 if self.redundancy == "backup" else 1 - FORGOTTEN * self.softness

    def pick(self, *options: Any) -> Any:
        """One of the options, drawn by the seed.

        >>> Design("mamba", 0, 2, 0.5, "none", 64, 0.0, np.random.default_rng(0)).pick("one")
        'one'
        """
        return options[int(self.rng.integers(len(options)))]

    def ordered(self) -> tuple[int, int]:
        """Two layers, the first below the second."""
        last = int(self.rng.integers(1, self.layers))
        return int(self.rng.integers(last)), last

    def shares(self) -> tuple[float, float]:
        """How much of the answer each of two copies writes."""
        # What a mixed value adds to a small share would be hard to tell from nothing.
        first = self.pick(0.4, 0.5, 0.6) if self.mixed else self.pick(0.25, 0.4, 0.5, 0.6, 0.75)
        return first, 1 - first


@dataclass(frozen=True)
class Circuit:
    """A model and the routes of its circuit [corruption], for each of two redundant copies, or once if nothing is redundant."""

    hf: Any
    copies: tuple[Mapping[str, str], ...]
    components: tuple[TrueComponent, ...]


@dataclass(frozen=True)
class Stack:
    """The residual stream as routes. ``middle``: a layer's mixer and its MLP are added one after the other."""

    layers: int
    middle: bool

    def up(self, first: int, last: int, at: str) -> str:
        """The stream at one position, from before layer ``first`` to before layer ``last``.

        >>> Stack(3, middle=True).up(0, 1, "A")
        'resid[0] @ A -> resid_mid[0] @ A -> resid[1] @ A'
        """
        steps = [f"resid[{first}] @ {at}"]
        for layer in range(first, last):
            steps += [f"resid_mid[{layer}] @ {at}"] * self.middle + [f"resid[{layer + 1}] @ {at}"]
        return " -> ".join(steps)

    def read(self, layer: int, at: str) -> str:
        """From the embedding to before a layer.

        >>> Stack(3, middle=False).read(1, "A")
        'embed @ A -> resid[0] @ A -> resid[1] @ A'
        """
        return f"embed @ {at} -> {self.up(0, layer, at)}"

    def written(self, node: str, layer: int, at: str, until: int) -> str:
        """From what a layer adds to the stream to before layer ``until``.

        >>> Stack(3, middle=True).written("mixer_out[0]", 0, "B", 1)
        'mixer_out[0] @ B -> resid_mid[0] @ B -> resid[1] @ B'
        """
        middle = f" -> resid_mid[{layer}] @ {at}" * self.middle
        return f"{node} @ {at}{middle} -> {self.up(layer + 1, until, at)}"

    def answer(self, node: str, layer: int) -> str:
        """From what a layer adds to the stream at END to the logits.

        >>> Stack(1, middle=False).answer("mixer_out[0]", 0)
        'mixer_out[0] @ END -> resid[1] @ END -> logits @ END'
        """
        return f"{self.written(node, layer, 'END', self.layers)} -> logits @ END"
