"""Tests of the hypothesis that a circuit is the model's (Shi et al. 2024, arXiv:2410.13032)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ..html.shown import Shown
from .circuit import EdgeCircuit
from .question import Question
from .scores import EdgeScores, score_edges

Floats = NDArray[np.float64]
PERMUTATIONS = 2000


@dataclass(frozen=True)
class Hypotheses(Shown):
    """``frame`` has a row for each test: ``hypothesis``, its name; ``statistic``; ``p``; and ``holds``, whether the circuit passes at the
    ``level``: equivalence and independence if they are not rejected, the others if their null hypothesis is."""

    frame: pd.DataFrame
    level: float

    def __repr__(self) -> str:
        return self.frame.to_string(index=False, float_format=lambda value: f"{value:.3g}")


def hypotheses(
    question: Question, circuit: EdgeCircuit, *, tolerance: float = 0.1, random: int = 100, level: float = 0.05, seed: int = 0
) -> Hypotheses:
    """Test whether a circuit is equivalent to the model, independent of its complement, minimal, sufficient and partly necessary.

    Args:
        question: the prompts to test on; they should not be those that the circuit was chosen on.
        tolerance: how far from one half the chance may be that the circuit's metric exceeds the model's, for equivalence.
        random: random circuits of the same size, and circuits that gained a random edge.

    * equivalence: the circuit's metric exceeds the model's as often as not (within ``tolerance``); section 3.2.
    * independence: what the model without the circuit puts out is independent of what the model puts out, by the
      Hilbert-Schmidt independence criterion with permutations; section 3.3.
    * minimality: each edge changes the metric more than a random edge that was added changes it when it is removed again; the
      largest p over edges, which needs no correction, since every edge must pass; section 3.4.
    * sufficiency, partial necessity: random circuits are as faithful, and harm the model as much when removed; section 4.

    >>> import circuitry as ct
    >>> found = ct.discover(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=16), verify=0)
    >>> tested = hypotheses(found.confirming, found.circuit(edges=60), random=20).frame
    >>> tested["hypothesis"].tolist()[-2:], tested["holds"].tolist()[-2:]
    (['sufficiency', 'partial necessity'], [True, True])
    """
    return hypotheses_of(score_edges(question, circuit, random=random, subsets=0, seed=seed), tolerance, level, seed)


def hypotheses_of(scores: EdgeScores, tolerance: float = 0.1, level: float = 0.05, seed: int = 0) -> Hypotheses:
    """The same from a circuit's scores, with as many random circuits as these have.

    >>> import circuitry as ct
    >>> from circuitry.discovery.search import discover
    >>> found = discover(ct.load("bundled:mamba"), ct.task("induction", distance=4, examples=8), verify=0)
    >>> tests = hypotheses_of(score_edges(found.confirming, found.circuit(edges=30), random=2, subsets=0))
    >>> tests.frame["hypothesis"][0]
    'equivalence'
    """
    model, (alone, rest) = scores.measured.clean, scores.measured.values[:2]
    rows = [
        ("equivalence", *equivalence(alone, model, tolerance), True),
        ("independence", *independence(rest, model, seed=seed), True),
        ("minimality", *_minimality(scores.minimality["change"].to_numpy(), np.abs(scores.outsiders)), False),
        ("sufficiency", *_against(scores.faithfulness, scores.random["faithfulness"].to_numpy(), larger=True), False),
        ("partial necessity", *_against(scores.complement, scores.random["complement"].to_numpy(), larger=False), False),
    ]
    frame = pd.DataFrame(rows, columns=["hypothesis", "statistic", "p", "kept"])
    frame["holds"] = np.where(frame["kept"], frame["p"] >= level, frame["p"] < level)
    return Hypotheses(frame.drop(columns="kept"), level)


def equivalence(circuit: Floats, model: Floats, tolerance: float = 0.1) -> tuple[float, float]:
    """The fraction of prompts on which a circuit's metric exceeds the model's (ties count half), and p of a fraction within ``tolerance`` of one half.

    >>> equivalence(np.arange(10.0), np.arange(10.0) + 1)[1] < 0.05
    True
    """
    above = float((circuit > model).sum() + (circuit == model).sum() / 2)
    count = len(circuit)
    extreme = max(above, count - above)
    # Rounded down: half a prompt, from a tie, does not count as evidence.
    return above / count, float(min(1.0, 2 * stats.binom.sf(np.floor(extreme) - 1, count, 0.5 + tolerance)))


def independence(complement: Floats, model: Floats, permutations: int = PERMUTATIONS, seed: int = 0) -> tuple[float, float]:
    """The Hilbert-Schmidt independence criterion of two metrics over prompts, and its permutation p of independence.

    >>> x = np.linspace(0, 1, 30)
    >>> independence(x, x**2)[1] < 0.01, independence(np.ones(30), x)[1]
    (True, 1.0)
    """
    first, second = _kernel(complement), _kernel(model)
    centred = first - first.mean(0) - first.mean(1)[:, None] + first.mean()
    value = float((centred * second).mean())
    rng = np.random.default_rng(seed)
    orders = (rng.permutation(len(model)) for _ in range(permutations))
    more = sum(float((centred * second[np.ix_(order, order)]).mean()) >= value - 1e-12 for order in orders)
    return value, (1 + more) / (1 + permutations)


def _kernel(values: Floats) -> Floats:
    """A Gaussian kernel whose width is the median distance."""
    gaps = np.abs(values[:, None] - values)
    width = np.median(gaps[gaps > 0]) if (gaps > 0).any() else 1.0
    return np.asarray(np.exp(-((gaps / width) ** 2) / 2))


def _minimality(changes: Floats, outsiders: Floats) -> tuple[float, float]:
    """The smallest change of an edge, and the largest p over edges of changes that are like those of outsiders."""
    p = [(1 + (outsiders >= abs(change)).sum()) / (1 + len(outsiders)) for change in changes]
    return float(np.abs(changes).min()), float(max(p))


def _against(value: float, random: Floats, *, larger: bool) -> tuple[float, float]:
    """The circuit's score, and p of random circuits that score as well."""
    well = (random >= value).sum() if larger else (random <= value).sum()
    return value, float((1 + well) / (1 + len(random)))
