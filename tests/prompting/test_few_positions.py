"""Models with few positions: they load, run what fits, and refuse what does not in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry import TaskError
from support import tiny

FEW: dict[str, dict[str, Any]] = {
    "gpt2": {"n_positions": 8},
    "gpt_bigcode": {"n_positions": 8},
    "llama": {"max_position_embeddings": 8},
}


@pytest.mark.parametrize(("kind", "positions"), [(kind, n) for kind in FEW for n in (8, 1)])
def test_a_model_with_fewer_positions_than_the_check_at_load_loads(kind: str, positions: int) -> None:
    changes: dict[str, Any] = dict.fromkeys(FEW[kind], positions)
    model = tiny.model(kind, layers=2, **changes)
    assert model.positions == model.vocabulary.longest == positions


@pytest.mark.parametrize("kind", FEW)
def test_prompts_that_fit_run_and_agree_with_the_reference(kind: str) -> None:
    model = tiny.model(kind, layers=2, **FEW[kind])
    task = ct.task("induction", distance=5, prefix=2, examples=2)  # eight tokens
    ct.patch(model, task, "head[{layer},{head}] @ B -> logits", executor=ct.executor(verify=4), lint=False, baseline=0)


DOORS: dict[str, Any] = {
    "patch": lambda m, t: ct.patch(m, t, "mlp[0] @ B -> logits"),
    "patch without linter": lambda m, t: ct.patch(m, t, "mlp[0] @ B -> logits", lint=False, baseline=0),
    "explain": lambda m, t: ct.explain(m, t, "mlp[0] @ B -> logits"),
    "sensitivity": lambda m, t: ct.sensitivity(m, t, "mlp[0] @ B -> logits"),
    "offsets": lambda m, t: ct.off_by_one(m, t),
    "run": lambda m, t: ct.run("induction", m, distance=8, distances=[8], examples=2),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", FEW)
def test_prompts_that_do_not_fit_are_refused_in_one_line(kind: str, door: str) -> None:
    model = tiny.model(kind, layers=2, **FEW[kind])
    with pytest.raises(TaskError) as found:
        DOORS[door](model, ct.task("induction", distance=8, examples=2))
    assert str(found.value) == (
        "task 'induction' makes prompts of 16 tokens and the model has 8 positions; try shorter prompts or another model"
    )


def test_a_state_space_model_reads_any_length() -> None:
    model = tiny.model("mamba", layers=2)
    assert model.positions is None
    assert ct.task("induction", distance=50, prefix=1, examples=1).prompts(model.vocabulary).length == 52


def test_a_hybrid_is_asked_for_its_positions() -> None:
    model = tiny.model("jamba", max_position_embeddings=8)
    with pytest.raises(TaskError, match="the model has 8 positions"):
        ct.task("induction", distance=8, examples=1).prompts(model.vocabulary)
    assert np.isin(ct.task("induction", distance=2, prefix=0, examples=1).prompts(model.vocabulary).length, [3])
