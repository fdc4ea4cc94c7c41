"""The induction suite: one call for any architecture. The roles in the graph decide which half runs."""

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
    """Analyse the induction circuit (paper section 6 and appendix G; the same questions for a Transformer).

    Raises CircuitryError for a distance that leaves no room for B+5.

    >>> import circuitry as ct
    >>> result = ct.run("induction", ct.load("bundled:gpt_neox"), distances=[8], distance=8, examples=4)
    >>> result.summary.components[0].role
    'induction head'
    """
    distance = study.task.options["distance"]
    distances = study.settings["distances"] = sorted({*study.settings["distances"], distance})
    if distances[0] < LEAST:
        raise CircuitryError(
            f"distance must be at least {LEAST}, got {distances[0]}: positions up to B+5 must come before the second [A]"
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
