"""Questions of discovery about tiny models and few prompts, whose END is at different tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from circuitry.discovery.question import Question
from circuitry.discovery.search import asked
from circuitry.prompting import Prompts, TaskDefinition
from circuitry.prompting.task import Task
from support import agreement

KINDS = ("gpt2", "gpt_neox", "gpt_neox-sequential", "llama", "mamba", "mamba2", "rwkv", "jamba")


def task(prompts: Prompts) -> Task:
    """A task with these prompts, whatever its seed."""
    names = tuple(prompts.where)
    made = TaskDefinition(
        "drawn", "prompts given", lambda vocabulary, rng, *, examples: prompts, names, prompts.changed or (), copied=False
    )
    return Task(made, {}, examples=len(prompts))


def about(model: Any, examples: int = 3, length: int = 7, seed: int = 0, **options: Any) -> Question:
    """A question about prompts of different lengths."""
    prompts = agreement.ragged(examples, length, seed=seed)
    return asked(model, task(prompts), progress=False, **options)


def layers(kind: str) -> int:
    return 3 if kind == "jamba" else 2


def small(kind: str, **changes: Any) -> Any:
    """A tiny model of few layers."""
    return agreement.model(kind, layers(kind), **changes)


def ids(prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Clean and corrupted tokens."""
    return torch.from_numpy(prompts.clean), torch.from_numpy(prompts.corrupted)


def difference(prompts: Prompts, logits: Tensor) -> np.ndarray[Any, Any]:
    """The logit difference at END of logits [example, pos, vocabulary]."""
    rows = torch.arange(len(prompts))
    end, answer, foil = (torch.from_numpy(at) for at in (prompts.where["END"], prompts.answer, prompts.foil))
    return np.asarray((logits[rows, end, answer] - logits[rows, end, foil]).numpy())
