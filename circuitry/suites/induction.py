"""The induction suite: one call for any architecture; which half of it runs is decided by the roles in the graph."""

from __future__ import annotations

from ..errors import CircuitryError
from . import induction_heads, induction_states
from .declare import Suite
from .halves import run_halves
from .paper import CITATION
from .result import SuiteResult
from .study import Study

DISTANCES = (8, 16, 32, 64, 128)
LEAST = 7


def run(study: Study) -> SuiteResult:
    """Take the induction circuit apart (paper section 6 and appendix G; the same questions for a Transformer).

    Raises CircuitryError for a distance too short to hold B+5.

    >>> import circuitry as ct
    >>> found = ct.run("induction", ct.load("bundled:gpt_neox"), distances=[8], distance=8, examples=4)
    >>> found.summary.components[0].role
    'induction head'
    """
    distance = study.task.options["distance"]
    distances = study.settings["distances"] = sorted({*study.settings["distances"], distance})
    if distances[0] < LEAST:
        raise CircuitryError(
            f"distance {distances[0]} is too short: positions up to B+5 must come before the second [A]; the least is {LEAST}"
        )
    return run_halves(study, induction_states.run, induction_heads.run)


SUITE = Suite(
    name="induction",
    description="[A][B] ... [A] -> [B]: which nodes carry it, when the pair is written down, and which paths bring it there",
    task="induction",
    settings={"distances": DISTANCES},
    run=run,
    cites=CITATION,
)
