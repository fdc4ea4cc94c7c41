"""Effects of cells on examples, and what they are: the change of a metric on the logits, or a distance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..planning.metrics import Metric
from ..planning.readings import reads_latent, reads_logits
from ..planning.values import Plan
from ..results.units import DISTANCE, LATENT

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Effects:
    """All [cell, example]: the effect, and the metric itself on the base and on the source input."""

    effect: Floats
    base: Floats
    source: Floats

    def split(self, cells: int) -> tuple[Effects, Effects]:
        """The first ``cells`` cells, and the rest.

        >>> ones = np.ones((3, 2))
        >>> [len(part.effect) for part in Effects(ones, ones, ones).split(1)]
        [1, 2]
        """
        parts = (self.effect, self.base, self.source)
        return Effects(*(p[:cells] for p in parts)), Effects(*(p[cells:] for p in parts))

    def part(self, cells: NDArray[np.int64], examples: int) -> Effects:
        """Some cells on the first ``examples``.

        >>> ones = np.ones((3, 4))
        >>> Effects(ones, ones, ones).part(np.array([0, 2]), 1).effect.shape
        (2, 1)
        """
        return Effects(*(p[cells, :examples] for p in (self.effect, self.base, self.source)))


def ends_at_logits(plan: Plan) -> bool:
    """Whether the last leg reads the logits, at one position and nothing else; else the effect is a distance over all it reads.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> [ends_at_logits(plan(f"embed -> {end}", ct.graph("gpt2"))) for end in ("logits", "mlp[0]", "(logits, mlp[0])")]
    [True, False, False]
    """
    return reads_logits(plan.cells[0].path, plan.graph)


def ends_at_latent(plan: Plan) -> bool:
    """Whether the last leg reads one latent at one position and nothing else: then the effect is the change of that number.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> g = ct.graph("gpt2").attached({ct.Node("resid", (3,)): 16})
    >>> ends_at_latent(plan("embed -> resid[3].latent[5] @ 3", g))
    True
    """
    return reads_latent(plan.cells[0].path, plan.graph)


def unit_of(plan: Plan, metric: Metric) -> str:
    """The unit of the effects: the metric's, that of a latent, or a distance.

    >>> import circuitry as ct
    >>> from circuitry.planning import METRICS, plan
    >>> unit_of(plan("embed -> mlp[0]", ct.graph("gpt2")), METRICS["logit"])
    'L2 distance from the base run'
    """
    return metric.unit if ends_at_logits(plan) else LATENT if ends_at_latent(plan) else DISTANCE


def signed_of(plan: Plan, metric: Metric) -> bool:
    """Whether the effects can be negative: as the metric declares, always for one latent, never for a distance.

    >>> import circuitry as ct
    >>> from circuitry.planning import METRICS, plan
    >>> [signed_of(plan(f"embed -> {end}", ct.graph("gpt2")), METRICS["logit"]) for end in ("logits", "mlp[0]")]
    [True, False]
    """
    return metric.signed if ends_at_logits(plan) else ends_at_latent(plan)
