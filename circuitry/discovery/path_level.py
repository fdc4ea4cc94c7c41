"""Whole paths from the embedding to the logits, found best-first over the ranked edges and patched exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from ..errors import CircuitryError
from ..patching.experiment import patch
from ..paths.labelled import labelled
from .positions import ALL, REST
from .routes import Routes
from .verify import able

if TYPE_CHECKING:
    from .result import Discovery

TRIED = 20
"""How many ways are looked at for each path that is asked for."""


def paths(found: Discovery, count: int = 10, edges: int = 200) -> pd.DataFrame:
    """The strongest paths through the best ``edges``: a path is as strong as its weakest edge. Each is patched on the confirming prompts.

    The frame has ``path`` (a text that ``circuitry.patch`` takes), ``strength`` (an attribution), ``exact`` with its interval
    (``low``, ``high``), ``normalized`` and ``q`` over these paths. Ways that can have no effect in some prompts are left out. Raises CircuitryError if positions were added up or nothing joins.

    >>> import circuitry as ct
    >>> model, task = ct.load("compiled:transformer"), ct.task("induction", distance=8, examples=4, corruption="A")
    >>> paths(ct.discover(model, task, verify=0), count=1)["path"][0]
    'embed @ A -> head[0,1].v @ A directly -> head[0,1] @ B -> head[1,0].k @ B directly -> head[1,0] @ END -> logits directly'
    """
    question, confirming = found.question, found.confirming
    if ALL in question.labels.names:
        raise CircuitryError("a path needs its tokens; discover with positions=True")
    routes, labels = Routes(question.wiring, question.labels), question.labels.names
    best = [cell for cell in found.cells(edges) if labels[cell[1]] != REST]
    scores = {(question.wiring.edges[item], labels[label]): float(found.mean[item, label]) for item, label in best}
    strengths: dict[str, float] = {}
    for way, strength in routes.ways(scores, TRIED * count):
        path = routes.text(way)
        # An attribution that is only rounding may lie on a way that no change can take, in some prompts or in all.
        if path not in strengths and len(able(confirming, path)) == len(confirming.prompts):
            strengths[path] = strength
        if len(strengths) == count:
            break
    if not strengths:
        raise CircuitryError(
            f"the best {len(best)} edges join to no path from the embedding to the logits; use edges={2 * edges}"
        )
    table = patch(
        confirming.model, confirming.task, labelled("path", {path: path for path in strengths}), metric=confirming.metric,
        direction=confirming.direction, baseline=0, executor=confirming.executor, lint=False,
    )  # fmt: skip
    described = table.statistics()[["mean", "low", "high", "normalized", "q"]].rename(columns={"mean": "exact"})
    described.insert(0, "strength", [strengths[path] for path in described.index])
    return described.rename_axis("path").reset_index()
