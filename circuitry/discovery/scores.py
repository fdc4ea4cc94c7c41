"""Is a set of edges at positions the circuit? Faithfulness, its complement, completeness and minimality, with random sets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from ..html.shown import Shown
from ..results.statistics import resampling
from ..results.writing import count
from ..thresholds import LEVEL, RESAMPLES
from .circuit import Cell, EdgeCircuit
from .curve import Measured, measured
from .question import Question

if TYPE_CHECKING:
    from markupsafe import Markup

Mask = NDArray[np.bool_]
MOST = 40
"""How many edges of a circuit are removed, one at a time: the first, which are the strongest in a discovered circuit."""


@dataclass(frozen=True)
class EdgeScores(Shown):
    """Scores of a circuit of edges, each with its interval (a bootstrap over prompts).

    ``faithfulness``: f of the run that keeps only the circuit's edges (everything else is cut: "tree patching" in auto-circuit's
    terms). ``complement``: f of the run that cuts only the circuit's edges ("edge patching"). f is 1 for the whole model and 0 if every
    edge is cut. ``random``: faithfulness and complement of random circuits of the same size. ``completeness``: for subsets K of
    the circuit, f of the circuit without K and of the model without K, and the ``gap``. ``minimality``: for each edge, the
    ``change`` of f if the circuit loses it; ``outsiders``: the changes if it gains a random edge. ``measured`` has every run, those
    of the circuit and of its complement first.
    """

    edges: int
    faithfulness: float
    interval: tuple[float, float]
    complement: float
    complement_interval: tuple[float, float]
    random: pd.DataFrame
    completeness: pd.DataFrame
    minimality: pd.DataFrame
    outsiders: list[float]
    measured: Measured = field(repr=False)

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_edge_scores

        return of_edge_scores(self)

    def __repr__(self) -> str:
        return self.text()

    def text(self) -> str:
        """The scores in words."""
        (low, high), (less, more) = self.interval, self.complement_interval
        gaps, change = self.completeness["gap"], self.minimality["change"]
        lines = [
            f"faithfulness {self.faithfulness:z.2f} ({low:z.2f} to {high:z.2f}): the circuit alone, {count(self.edges, 'edge')}"
        ]
        lines.append(f"complement {self.complement:z.2f} ({less:z.2f} to {more:z.2f}): the model without these edges")
        if len(self.random):
            best, least = self.random["faithfulness"].max(), self.random["complement"].min()
            lines.append(
                f"random circuits of that size: faithfulness {best:z.2f} at most, complement {least:z.2f} at least, of {len(self.random)}"
            )
        if len(gaps):
            lines.append(
                f"completeness: without a subset, circuit and model differ by {gaps.mean():z.2f} on average and {gaps.max():z.2f} at "
                f"most, over {count(len(gaps), 'subset')}"
            )
        needed = int((change.abs() > max(map(abs, self.outsiders), default=np.inf)).sum())
        lines.append(
            f"minimality: {needed} of {count(len(change), 'edge')} change the faithfulness by more than any of {count(len(self.outsiders), 'edge')} from outside"
        )
        return "\n".join(lines)


def score_edges(question: Question, circuit: EdgeCircuit, *, random: int = 20, subsets: int = 8, seed: int = 0) -> EdgeScores:
    """Score a circuit of edges on the prompts of a question. Raises CircuitryError for an edge that is not in the graph.

    >>> import circuitry as ct
    >>> from circuitry.discovery.search import discover
    >>> found = discover(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=8), verify=0)
    >>> scores = score_edges(found.confirming, found.circuit(edges=60), random=2, subsets=2)
    >>> scores.faithfulness > max(scores.random["faithfulness"])
    True
    """
    inside = circuit.mask(question.wiring, question.labels.names)
    rng = np.random.default_rng(seed)
    removed = [
        (name(cell), replace(circuit, cells=(cell,)).mask(question.wiring, question.labels.names))
        for cell in circuit.cells[:MOST]
    ]
    kept = _kept(inside, [mask for _, mask in removed], random, subsets, rng)
    got = measured(question, [mask for masks in kept.values() for mask in masks], "scores")
    values = got.faithfulness().tolist()
    f = {group: [values.pop(0) for _ in masks] for group, masks in kept.items()}
    alone, rest = f["circuit"][0], f["complement"][0]
    spread = got.faithfulness(resampling(len(got.clean), RESAMPLES, rng))[:, :2]
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0).tolist()
    draws = pd.DataFrame({"faithfulness": f["random"], "complement": f["model without random"]}, dtype=float)
    completeness = pd.DataFrame({
        "without": [f"half {number}" for number in range(subsets)], "circuit": f["circuit without half"], "model": f["model without half"],
    })  # fmt: skip
    completeness["gap"] = (completeness["circuit"] - completeness["model"]).abs()
    minimality = pd.DataFrame(
        {"edge": [text for text, _ in removed], "change": [alone - value for value in f["circuit without edge"]]}
    )
    return EdgeScores(
        int(inside.sum()), alone, (low[0], high[0]), rest, (low[1], high[1]), draws, completeness, minimality,
        [value - alone for value in f["circuit with outsider"]], got,
    )  # fmt: skip


def _kept(inside: Mask, removed: list[Mask], random: int, subsets: int, rng: Generator) -> dict[str, list[Mask]]:
    """What is kept in each run [edge, label], by kind of run; the circuit and its complement come first."""
    size = int(inside.sum())
    drawn = [_some(np.ones_like(inside), size, rng) for _ in range(random)]
    halves = [_some(inside, size // 2, rng) for _ in range(subsets)]
    return {
        "circuit": [inside],
        "complement": [~inside],
        "random": drawn,
        "model without random": [~mask for mask in drawn],
        "circuit without half": [inside & ~half for half in halves],
        "model without half": [~half for half in halves],
        "circuit without edge": [inside & ~mask for mask in removed],
        "circuit with outsider": [inside | _some(~inside, 1, rng) for _ in range(random)],
    }


def name(cell: Cell) -> str:
    """An edge at a position as text.

    >>> name(("mlp[0] -> logits", "END"))
    'mlp[0] -> logits @ END'
    """
    return f"{cell[0]} @ {cell[1]}"


def _some(among: Mask, size: int, rng: Generator) -> Mask:
    """``size`` random entries of those that are true."""
    mask = np.zeros_like(among)
    mask.ravel()[rng.choice(np.flatnonzero(among.ravel()), min(size, int(among.sum())), replace=False)] = True
    return mask
