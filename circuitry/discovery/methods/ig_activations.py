"""The default for the nodes of small models: one block is moved at a time, and attention's softmax is averaged."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..question import Question
from ..rows import Point, Rows, legendre
from .blocks import saturated
from .eap_ig_activations import EapIgActivations


@dataclass(frozen=True)
class IgActivations(EapIgActivations):
    """``eap-ig-activations`` with the derivative of attention's softmax averaged between clean and corrupted scores, as in ``block-ig``.

    A block is moved alone, as an exact patch of a node moves it. So effects that add up to more than the whole, where several nodes
    each destroy the answer, are not divided among them. It takes as many passes as there are blocks.
    """

    name: str = "ig-activations"
    points: tuple[Point, ...] = legendre(3)

    def within(self, question: Question, rows: Rows) -> AbstractContextManager[None]:
        """The context of the backward pass."""
        return saturated(question, rows)
