"""The IOI suite: what carries the indirect object's name, in any architecture. The roles in the graph decide which half runs."""

from __future__ import annotations

from . import ioi_heads, ioi_states
from .declare import Suite
from .halves import run_halves
from .paper import CITATION
from .result import SuiteResult
from .study import Study


def run(study: Study) -> SuiteResult:
    """Analyse the IOI circuit: Wang et al. 2023 for a Transformer, appendix H of the paper for a state-space model.

    ``corruption="auto"``: three new names for a Transformer, as in Wang et al.; both names replaced, as in the paper, for states.

    >>> import circuitry as ct
    >>> result = ct.run("ioi", ct.load("bundled:gpt_neox"), examples=4, baseline=0)
    >>> result.summary.components[0].role
    'name mover'
    """
    heads = bool(study.model.graph.by_role("head"))
    corruption = study.settings["corruption"]
    study.task = study.task.but(corruption=("ABC" if heads else "all") if corruption == "auto" else corruption)
    return run_halves(study, ioi_states.run, ioi_heads.run)


SUITE = Suite(
    name="ioi",
    description="which nodes carry the indirect object's name to the end of the sentence, and where each name is written down",
    task="ioi",
    settings={"corruption": "auto"},
    run=run,
    metric="logit_difference",
    cites=CITATION,
)
