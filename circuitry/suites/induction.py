"""The induction suite: one call for any architecture, which half of it runs is decided by the roles in the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import CircuitryError
from ..models import Model
from ..prompting import task
from . import attention, state_space
from .result import SuiteResult
from .study import Study

DISTANCES = (8, 16, 32, 64, 128)


def induction(
    model: Model,
    *,
    distances: Sequence[int] = DISTANCES,
    distance: int = 32,
    examples: int = 128,
    seed: int = 0,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> SuiteResult:
    """Find the induction circuit of a model (paper section 6 and appendix G; the same questions for a Transformer).

    ``distances`` are those of the tables, ``distance`` the one at which the circuit is taken apart; ``say`` is told what runs
    next; other options go to ``circuitry.patch``. Raises CircuitryError for a distance too short to hold B+5.

    >>> import circuitry as ct
    >>> from circuitry.suites import induction
    >>> found = induction(ct.load("bundled:gpt_neox"), distances=[8], distance=8, examples=4, progress=False)
    >>> found.summary.components[0].role
    'induction head'
    """
    wanted = sorted({*distances, distance})
    if wanted[0] < 7:
        raise CircuitryError(
            f"distance {wanted[0]} is too short: positions up to B+5 must come before the second [A]; the least is 7"
        )
    study = Study(model, task("induction", distance=distance, examples=examples, seed=seed), wanted, options, say)
    run = state_space.run if model.graph.by_role("state") else attention.run
    return run(study)
