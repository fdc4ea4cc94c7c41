"""Questions of discovery about tiny models and few prompts, whose END is at different tokens."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

import circuitry as ct
from circuitry.discovery.question import Question
from circuitry.discovery.search import asked
from circuitry.prompting import Prompts, TaskDefinition
from circuitry.prompting.task import Task
from support import agreement, tiny

KINDS = (
    "gpt2",
    "gpt_neox",
    "gpt_neox-sequential",
    "llama",
    "mamba",
    "mamba2",
    "rwkv",
    "rwkv7",
    "jamba",
    "gemma2",
    "olmo2",
    "lfm2",
    "recurrent_gemma",
    "qwen3_next",
)


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


def smooth(kind: str, seed: int = 0, **changes: Any) -> Any:
    """The same, whose root mean square norms keep float64: the stock ones round to float32, which finite differences would show."""
    hf = tiny.stock(kind, layers(kind), seed=seed, **changes)
    for module in hf.modules():
        if "RMSNorm" in type(module).__name__ and not hasattr(module, "activation"):  # linear states have norms of their own
            module.forward = functools.partial(_norm, module)
    return ct.load(hf, dtype="float64")


def _norm(module: Any, value: Tensor, gate: Tensor | None = None) -> Tensor:
    if gate is not None:
        value = value * torch.nn.functional.silu(gate)
    groups = value.reshape(*value.shape[:-1], -1, getattr(module, "group_size", value.shape[-1]))
    epsilon = module.eps if hasattr(module, "eps") else module.variance_epsilon
    normed = groups * (groups.square().mean(-1, keepdim=True) + epsilon).rsqrt()
    weight = module.weight + 1 if "Gemma" in type(module).__name__ else module.weight
    return torch.as_tensor(weight * normed.flatten(-2))


def near(kind: str, size: float, **options: Any) -> Question:
    """A question about a model for which every corrupted token is nearly the clean one, at a distance of about ``size`` an entry."""
    model = smooth(kind, seed=3, tie_word_embeddings=False)
    question = about(model, **options)
    table = model.hf.get_input_embeddings().weight
    prompts, generator = question.prompts, torch.Generator().manual_seed(0)
    changed = prompts.clean != prompts.corrupted
    with torch.no_grad():
        for old, new in zip(prompts.clean[changed], prompts.corrupted[changed], strict=True):
            table[int(new)] = table[int(old)] + size * torch.randn(table.shape[1], generator=generator, dtype=table.dtype)
    return question


def ids(prompts: Prompts) -> tuple[Tensor, Tensor]:
    """Clean and corrupted tokens."""
    return torch.from_numpy(prompts.clean), torch.from_numpy(prompts.corrupted)


def difference(prompts: Prompts, logits: Tensor) -> np.ndarray[Any, Any]:
    """The logit difference at END of logits [example, pos, vocabulary]."""
    rows = torch.arange(len(prompts))
    end, answer, foil = (torch.from_numpy(at) for at in (prompts.where["END"], prompts.answer, prompts.foil))
    return np.asarray((logits[rows, end, answer] - logits[rows, end, foil]).numpy())
