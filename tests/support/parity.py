"""What EAP-IG and MIB's circuit track compute on tiny models, which are rebuilt here; ``tests/discovery/data/README.md`` says how."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from circuitry.prompting import Prompts, TaskDefinition
from circuitry.prompting.task import Task

DATA = Path(__file__).parents[1] / "discovery" / "data"
KINDS = ("gpt2", "qwen2", "gpt_neox")
SEED = 7


@functools.cache
def stored(kind: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DATA / f"{kind}.json").read_text(encoding="utf-8"))
    return data


def prompts(kind: str) -> Prompts:
    tokens = {name: np.array(ids) for name, ids in stored(kind)["prompts"].items()}
    clean = tokens["clean"]
    end = np.full(len(clean), clean.shape[1] - 1)
    return Prompts(clean, tokens["corrupted"], tokens["answers"], tokens["foils"], {"END": end}, changed=None)


def task(kind: str) -> Task:
    """The eight prompts, whatever the seed and the number of examples."""
    made = TaskDefinition(
        f"parity-{kind}",
        "the stored prompts",
        lambda vocabulary, rng, *, examples: prompts(kind),
        ("END",),
        ("END",),
        copied=False,
    )
    return Task(made, {}, examples=len(prompts(kind)))


def stock(kind: str) -> Any:
    """The Hugging Face model in float64 and eval mode, checked against the logits that were stored with the values."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**stored(kind)["config"])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").double().eval()
    fill(model)
    check(model, kind)
    return model


def fill(model: Any) -> None:
    """Give every parameter its values, in the order of their names: matrices around 0, weights of norms around 1."""
    generator = np.random.default_rng(SEED)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = generator.standard_normal(tuple(parameter.shape))
            norm = parameter.ndim == 1 and name.endswith("weight")
            values = 0.4 * noise if parameter.ndim > 1 else 0.2 * noise + norm
            parameter.copy_(torch.from_numpy(values))


def check(model: Any, kind: str) -> None:
    shapes = [[name, list(parameter.shape)] for name, parameter in sorted(model.named_parameters())]
    assert shapes == stored(kind)["parameters"]
    for which, wanted in stored(kind)["last_logits"].items():
        with torch.no_grad():
            logits = model(torch.tensor(stored(kind)["prompts"][which])).logits[:, -1, : len(wanted[0])]
        torch.testing.assert_close(logits, torch.tensor(wanted, dtype=torch.float64), rtol=0, atol=1e-9)
