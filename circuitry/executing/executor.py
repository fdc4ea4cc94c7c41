"""The interface between plans and models: what executes a plan. Only executors know how rows, batches and memory are laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..planning.metrics import Metric
from ..planning.values import Plan
from ..prompting.prompts import Prompts
from ..team import Team
from .effects import Effects
from .memory import in_words

EXAMPLES = 16
"""Examples that share a batch, at most: rounding depends on what does, and so must not depend on how many processes share the batches."""
ALONE = Team()


@dataclass(frozen=True)
class Cost:
    """What an executor expects of a plan: batches, and tokens times layers in all of them.

    ``whole`` is tokens times layers if every run were computed as a whole. ``short`` is the number of bytes that one example takes if
    it exceeds the bound of memory, else 0.
    """

    batches: int
    token_layers: int
    whole: int
    short: int = 0

    def __add__(self, other: Cost) -> Cost:
        """What both take, one after the other.

        >>> Cost(1, 10, 20) + Cost(2, 5, 5, short=7)
        Cost(batches=3, token_layers=15, whole=25, short=7)
        """
        both = self.batches + other.batches, self.token_layers + other.token_layers, self.whole + other.whole
        return Cost(*both, max(self.short, other.short))

    def __str__(self) -> str:
        """
        >>> print(Cost(2, 640, 6400))
        2 batches; 640 tokens times layers, where whole runs would be 6,400 (10 times as many)
        >>> print(Cost(8, 640, 640, 900 << 20))
        8 batches; 640 tokens times layers; memory is short: one example takes 900 MiB
        """
        batches = f"{self.batches} batch{'es' if self.batches != 1 else ''}"
        text = f"{batches}; {self.token_layers:,} tokens times layers"
        more = self.whole / self.token_layers
        text += "" if more < 1.05 else f", where whole runs would be {self.whole:,} ({more:.2g} times as many)"
        return text + (f"; memory is short: one example takes {in_words(self.short)}" if self.short else "")


class Executor(Protocol):
    """Runs plans on one model, within a bound of memory."""

    name: str
    provenance: Mapping[str, str]
    """What a table records of the last run, beside the executor's name."""

    def cost(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> Cost:
        """What ``run`` would take."""
        ...

    def described(self, plan: Plan, prompts: Prompts) -> Mapping[str, str]:
        """What a reader should know about how the first cell of a plan is run, by label."""
        ...

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> list[Effects]:
        """Effects of every cell on every example, by each metric, behind guards.

        The last ``extra`` cells are random nodes, which the guards leave out. An executor in a ``team`` runs its share of
        the batches, and has NaN for those of the others. Raises GuardError if a check of the run fails.
        """
        ...
