"""From the values that were read in every row to effects: the metric on the patched run less that on the base run, or a distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...paths.values import Site
from ...planning.metrics import Metric
from ...planning.values import Plan
from ...prompting.prompts import Prompts
from ..effects import Floats, ends_at_latent, ends_at_logits
from ..metrics import evaluate
from .schedule import Reading


def measured(
    values: list[Tensor], reading: Reading, prompts: Prompts, metric: Metric, plan: Plan
) -> tuple[Floats, Floats, Floats]:
    """Effect [cell, example], and the metric on the base and on the source input [example].

    ``values`` are those of the sites that ``reading`` names, in every row of a batch.

    >>> import circuitry as ct
    >>> from circuitry.planning import METRICS
    >>> from circuitry.executing.rows.driver import run
    >>> from circuitry.executing.rows.schedule import schedule
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2)
    >>> plan, prompts = ct.patching.experiment.compile_path(model, task, "h[2] @ B+1 -> logits")
    >>> laid = schedule(plan, plan.cells, prompts)
    >>> measured(run(model, laid, prompts), laid.reading, prompts, METRICS["logit"], plan)[0].shape
    (1, 2)
    """
    cells, examples = reading.rows.shape
    rows, base, source = reading.rows.ravel(), np.tile(reading.base, cells), reading.source
    if ends_at_logits(plan):
        answer, foil = (torch.from_numpy(np.asarray(t)).to(values[0].device) for t in (prompts.answer, prompts.foil))
        clean = values[0][reading.base].float() if values[0].dtype != torch.float64 else values[0][reading.base]
        patched, corrupted = values[0][rows].to(clean.dtype), values[0][source].to(clean.dtype)
        on_base, on_source = (evaluate(metric, logits, clean, answer, foil) for logits in (clean, corrupted))
        on_patched = evaluate(metric, patched, clean.repeat(cells, 1), answer.repeat(cells), foil.repeat(cells))
        effect = on_patched.view(cells, examples) - on_base
        return _numpy(effect), _numpy(on_base), _numpy(on_source)
    if ends_at_latent(plan):
        (value,) = values
        change = value[rows].double() - value[base].double()
        return _numpy(change.view(cells, examples)), _numpy(value[reading.base]), _numpy(value[source])
    effect = _distance(values, reading.sites, rows, base, np.tile(prompts.stops, cells))
    source_distance = _distance(values, reading.sites, source, reading.base, prompts.stops)
    return _numpy(effect.view(cells, examples)), np.zeros(examples), _numpy(source_distance)


def _distance(
    values: list[Tensor], sites: Sequence[Site], rows: NDArray[np.int64], base: NDArray[np.int64], stops: Any
) -> Tensor:
    """L2 distance between rows [row], over all sites; padding does not count for a site at every position."""
    total = torch.zeros(len(rows), dtype=torch.float64, device=values[0].device)
    for value, site in zip(values, sites, strict=True):
        squared = (value[rows].double() - value[base].double()) ** 2
        if site.at is None:
            squared[torch.from_numpy(np.arange(squared.shape[1]) >= stops[:, None])] = 0
        total += squared.reshape(len(squared), -1).sum(1)  # a node may be one number per row, such as a step size
    return total**0.5


def _numpy(values: Tensor) -> Floats:
    return values.double().cpu().numpy()
