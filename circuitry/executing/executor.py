"""The seam between plans and models: what executes a plan. Nobody else knows how rows, batches and memory are laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..planning import Plan
from ..prompting import Prompts
from ..team import Team
from .effects import Effects
from .metrics import Metric

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

    def cost(self, plan: Plan, prompts: Prompts) -> Cost:
        """What ``run`` would take."""
        ...

    def run(
        self, plan: Plan, prompts: Prompts, metrics: Sequence[Metric], *, value: Any = None, extra: int = 0, team: Team = ALONE
    ) -> list[Effects]:
        """Effects of every cell on every example, by each metric, behind guards.

        The last ``extra`` cells are random nodes, which the guards leave out. Of several processes each runs its share of the
        batches, and has NaN for the others'. Raises GuardError where a check of the run fails.
        """
        ...
