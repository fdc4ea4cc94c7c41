"""The seam between plans and models: what executes a plan. Nobody else knows how rows, batches and memory are laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..planning import Metric, Plan
from ..prompting import Prompts
from ..team import Team
from .effects import Effects

EXAMPLES = 8
"""Examples that share a batch, at most: rounding depends on what does, and so must not depend on how many processes share the batches."""
ALONE = Team()


@dataclass(frozen=True)
class Cost:
    """What an executor expects of a plan: batches, and tokens times layers in all of them."""

    batches: int
    token_layers: int


class Executor(Protocol):
    """Runs plans on one model, within a bound of memory."""

    name: str
    provenance: Mapping[str, str]
    """What a table records of the last run, beside the executor's name."""

    def cost(self, plan: Plan, prompts: Prompts) -> Cost:
        """What ``run`` would take."""
        ...

    def run(self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, extra: int = 0) -> list[Effects]:
        """Effects of every cell on every example, by each metric, behind guards.

        The last ``extra`` cells are random nodes, which the guards leave out. An executor that is one of a ``team`` runs its share of
        the batches, and has NaN for what the others run. Raises GuardError where a check of the run fails.
        """
        ...
