"""What a model answers at END of its prompts, and whether it does the task at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.model import Model
from ..prompting.prompts import Ids, Prompts
from .distributed import current

_TOGETHER, _MEMORY = 16, 512 << 20
"""The most prompts of equal length in a batch, and the memory in bytes that these may need: at least one prompt runs."""


@dataclass(frozen=True)
class Answers:
    """By example: whether the answer has the largest logit (``top``), the answer's logit and the foil's."""

    top: NDArray[np.bool_]
    answer: NDArray[np.float64]
    foil: NDArray[np.float64]


_KNOWN: WeakKeyDictionary[Model, dict[tuple[bytes, int], Answers]] = WeakKeyDictionary()


def answers(model: Model, prompts: Prompts, *, corrupted: bool = False) -> Answers:
    """The logits at END of the clean prompts, or of the corrupted ones; measured once for a model and its prompts.

    Several processes share the prompts.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> answers(model, ct.task("induction", distance=8, examples=4).prompts(model.vocabulary)).top.tolist()
    [True, True, True, True]
    """
    ids, ends = prompts.corrupted if corrupted else prompts.clean, prompts.where["END"]
    digest = hashlib.blake2b(digest_size=16)
    for part in (ids, ends, prompts.answer, prompts.foil):
        digest.update(np.ascontiguousarray(part).tobytes())
    # What one process knows by itself, the others may have to measure, and they would wait for it for ever.
    known, key = _KNOWN.setdefault(model, {}), (digest.digest(), current().world_size)
    if key not in known:
        known[key] = _measured(model, ids, ends, prompts)
    return known[key]


def top_1(model: Model, prompts: Prompts) -> float:
    """The share of clean prompts in which the answer has the largest logit.

    >>> import circuitry as ct
    >>> model = ct.load("bundled:mamba")
    >>> top_1(model, ct.task("induction", distance=8, examples=4).prompts(model.vocabulary))
    1.0
    """
    return float(answers(model, prompts).top.mean())


@torch.no_grad()
def _measured(model: Model, ids: Ids, ends: Ids, prompts: Prompts) -> Answers:
    team, batches = current(), _batches(model, ends)
    mine = [_of_batch(model, ids, ends, prompts, batch) for number, batch in enumerate(batches) if team.mine(number)]
    filled = np.zeros((3, len(ends)))
    # Process r has the batches r, r + world_size, ...
    for rank, of_rank in enumerate(team.gathered(mine)):
        for number, values in enumerate(of_rank):
            filled[:, batches[rank + number * team.world_size]] = values
    return Answers(filled[0] > 0, filled[1], filled[2])


def _batches(model: Model, ends: Ids) -> list[Ids]:
    """The examples [number] of each batch. Those of one batch end at the same token, so none needs padding."""
    batches: list[Ids] = []
    for end in np.unique(ends):
        examples, most = np.flatnonzero(ends == end), _MEMORY // model.bytes_per_row(int(end) + 1)
        count = min(_TOGETHER, max(1, most))
        batches += np.split(examples, range(count, len(examples), count))
    return batches


def _of_batch(model: Model, ids: Ids, ends: Ids, prompts: Prompts, batch: Ids) -> Tensor:
    """[3, number]: whether the answer is on top, its logit, and the foil's."""
    logits = torch.from_numpy(model.next_logits(ids[batch, : ends[batch[0]] + 1]))
    every, answer, foil = range(len(batch)), prompts.answer[batch], prompts.foil[batch]
    on_top = (logits.argmax(-1).numpy() == answer).astype(float)
    return torch.stack([torch.from_numpy(on_top), logits[every, answer], logits[every, foil]])
