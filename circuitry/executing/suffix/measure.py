"""From the values that were read to effects: by the metric, or a distance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...autoencoders.sae import SAE
from ...paths.values import Node
from ...planning.metrics import Metric
from ...planning.values import Plan
from ...prompting.prompts import Prompts
from ..effects import ends_at_latent, ends_at_logits
from ..metrics import evaluate
from .layout import Reading, of_site

Floats: TypeAlias = NDArray[np.float64]


def measure(
    values: Mapping[Any, Tensor],
    reading: Reading,
    prompts: Prompts,
    metric: Metric,
    plan: Plan,
    narrow: bool,
    saes: Mapping[Node, SAE],
) -> Floats:
    """[3, example] of one job: the effect, and the metric on the base and on the source run.

    ``narrow``: the logits have two columns, the answer's and the foil's.
    """
    if ends_at_latent(plan):
        return _latent(values, reading, saes)
    if not ends_at_logits(plan):
        return _distances(values, reading, saes)
    (read,), examples = reading.reads, reading.job.examples
    logits = values[read.key][torch.from_numpy(read.own)]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    base, source, patched = logits.chunk(3)
    answer, foil = (torch.from_numpy(np.asarray(t)[examples]).to(logits.device) for t in (prompts.answer, prompts.foil))
    if narrow:
        answer, foil = torch.zeros_like(answer), torch.ones_like(foil)
    on_base, on_source, on_patched = (_numpy(evaluate(metric, run, base, answer, foil)) for run in (base, source, patched))
    return np.stack([on_patched - on_base, on_base, on_source])


def _latent(values: Mapping[Any, Tensor], reading: Reading, saes: Mapping[Node, SAE]) -> Floats:
    """The change of the one number that is read; of a state there is a read for each of its positions."""
    count = len(reading.job.examples)
    got = np.zeros(3 * count)
    for read in reading.reads:
        got[read.runs] = _numpy(of_site(values, read, read.own, saes))
    base, source, patched = got.reshape(3, count)
    return np.stack([patched - base, base, source])


def _distances(values: Mapping[Any, Tensor], reading: Reading, saes: Mapping[Node, SAE]) -> Floats:
    """L2 distance of each run from the base run, over all that is read."""
    count = len(reading.job.examples)
    total = torch.zeros(3 * count, dtype=torch.float64)
    for read in reading.reads:
        change = (of_site(values, read, read.own, saes).double() - of_site(values, read, read.base, saes).double()) ** 2
        total.index_add_(0, torch.from_numpy(read.runs), change.reshape(len(change), -1).sum(1).cpu())
    base, source, patched = (total**0.5).numpy().reshape(3, count)
    return np.stack([patched - base, base, source])


def _numpy(values: Tensor) -> Floats:
    return values.double().cpu().numpy()
