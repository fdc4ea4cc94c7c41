"""Answers that do not stand in the prompt: what the linter asks of them instead, and how it is switched off."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry import CircuitryError, TaskError
from circuitry.prompting import Prompts, Task, TaskDefinition, check, lint
from circuitry.prompting.task import task_of
from circuitry.suites import Study, Suite, TableSpec
from support import tiny

PATH = "mlp[{layer}] @ B -> logits"


def model() -> ct.Model:
    loaded: ct.Model = tiny.model("gpt2", layers=2)
    return loaded


def fact(kind: str = "best", copied: bool = False, examples: int = 6, **parts: Any) -> Task:
    """Prompts whose answer is what the model prefers ("best") or likes least ("worst") on the clean prompts."""

    def make(vocabulary: Any, rng: Any, *, examples: int) -> Prompts:
        clean = rng.integers(0, 30, (examples, 6))
        changed = clean.copy()
        changed[:, 2] = 30 + rng.integers(0, 20, examples)
        logits = model().hf(torch.from_numpy(clean), use_cache=False).logits[:, -1].detach().numpy()
        logits[np.arange(examples)[:, None], clean] = logits.mean()  # no answer from the prompt
        order = logits.argsort(-1)
        best, worst = order[:, -1], order[:, 0]
        chosen = (best, worst) if kind == "best" else (worst, best)
        where = {"B": np.full(examples, 2), "END": np.full(examples, 5)}
        return replace(Prompts(clean, changed, *chosen, where, ("B",)), **parts)

    return task_of(TaskDefinition("fact", "", make, ("B", "END"), ("B",), copied=copied), {}, examples, 0)


def patched(task: Task, **options: Any) -> ct.PatchingTable:
    return ct.patch(model(), task, PATH, **{"baseline": 0, "metric": "logit_difference", **options})


def test_an_answer_that_is_not_to_be_copied_need_not_be_there() -> None:
    with warnings.catch_warnings(action="error"):
        table = patched(fact())
    assert len(table.frame) == 6 and (table.frame["base"] > 0).all()


def test_where_it_is_to_be_copied_it_must_be_there() -> None:
    with pytest.raises(TaskError, match="the answer is not in the prompt, so it cannot be copied from there; use copied=False"):
        patched(fact(copied=True))


@pytest.mark.parametrize("direction", ("noising", "denoising"))
def test_the_model_must_prefer_the_answer_on_clean_prompts(direction: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        patched(fact("worst"), direction=direction)
    messages = [str(one.message) for one in caught]
    prompts = fact("worst").prompts(model().vocabulary)
    logits = model().hf(torch.from_numpy(prompts.clean), use_cache=False).logits[:, -1].detach().numpy()
    rows = np.arange(6)
    difference = logits[rows, prompts.answer] - logits[rows, prompts.foil]
    spread = difference.std(ddof=1) / 6**0.5
    assert [m for m in messages if "prefer" in m] == [
        "<task fact: examples=6, seed=0>: the model does not prefer the answer to the foil on clean prompts (logit difference "
        f"{difference.mean():.3g} +- {spread:.2g}, over zero in 0 of 6), so there is nothing to explain here; "
        "try another model, or lint=False"
    ]


@pytest.mark.parametrize("metric", ("kl", "probability", ["foil_logit", "kl"]))
def test_it_is_asked_whatever_is_measured_and_is_no_part_of_the_table(metric: Any) -> None:
    with pytest.warns(UserWarning, match="does not prefer the answer to the foil"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*does no better on clean.*")
        linted = patched(fact("worst"), metric=metric)
    with warnings.catch_warnings(action="error"):
        plain = patched(fact("worst"), metric=metric, lint=False)
    assert linted.frame.equals(plain.frame)


def test_a_task_that_copies_is_not_asked() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ct.patch(model(), ct.task("induction", distance=4, examples=4), PATH, baseline=0)
    assert not [one for one in caught if "prefer" in str(one.message)]


def test_a_path_that_ends_at_a_node_has_no_answer_to_ask_for() -> None:
    with warnings.catch_warnings(action="error"):
        ct.patch(model(), fact("worst"), "mlp[0] @ B -> mlp[1]", baseline=0)


NONSENSE: dict[str, Any] = {
    "answer is foil": {"foil": np.full(6, 60), "answer": np.full(6, 60)},
    "nothing declared": {"changed": ()},
    "answer not in the prompt": {"answer": np.full(6, 60)},
}


@pytest.mark.parametrize("name", NONSENSE)
def test_without_the_linter_all_that_can_run_runs(name: str) -> None:
    task = fact(copied=True, **NONSENSE[name])
    for linter in (True, "prompts"):
        with pytest.raises(TaskError, match="example 0: "):
            patched(task, lint=linter)
        with pytest.raises(TaskError, match="example 0: "):
            ct.explain(model(), task, PATH, lint=linter)
    with warnings.catch_warnings(action="error"):
        assert len(patched(task, lint=False).frame) == 6
    assert ct.explain(model(), task, PATH, lint=False)


def test_what_could_not_run_is_refused_without_the_linter_too() -> None:
    with pytest.raises(TaskError, match="the task has no position END"):
        patched(fact(where={"B": np.full(6, 2)}), lint=False)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"changed": ("C",)}, "the task declares C changed, but has no such position; known here: B, END"),
        ({"answer": np.arange(5)}, "answer has shape (5,); expected one number for each of 6 examples"),
        ({"foil": np.arange(12).reshape(6, 2)}, "foil has shape (6, 2); expected one number for each of 6 examples"),
        (
            {"where": {"B": np.array(2), "END": np.full(6, 5)}},
            "position B has shape (); expected one number for each of 6 examples",
        ),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(parts: dict[str, Any], message: str) -> None:
    prompts = fact().prompts(model().vocabulary)
    for refuse in (check, lint):
        with pytest.raises(TaskError) as found:
            refuse(replace(prompts, **parts))
        assert str(found.value) == message


def test_suites_and_measures_lint_their_prompts() -> None:
    """They are silent about what the model does, since they say that themselves; not about prompts without sense."""
    task = fact(copied=True)
    suite = Suite("one", "", "induction", tables=[TableSpec("t", "T", PATH)])
    study = Study(model(), task, options={})
    doors = (lambda: suite.carry_out(study), lambda: ct.sensitivity(model(), task, PATH), lambda: ct.off_by_one(model(), task))
    for door in doors:
        with pytest.raises(TaskError, match="example 0: the answer is not in the prompt"):
            door()


def test_a_metric_of_the_task_is_named_like_any() -> None:
    def least(vocabulary: Any) -> Any:
        return lambda logits, answer, foil: logits.gather(-1, answer[:, None])[:, 0] * 2

    task = fact()
    task = replace(task, definition=replace(task.definition, metrics={"twice": least}))
    one, both = (patched(task, metric=metric, lint=False) for metric in ("twice", ["logit", "twice"]))
    assert one.unit == "change of twice"
    np.testing.assert_allclose(one.frame["effect"], 2 * patched(task, metric="logit", lint=False).frame["effect"])
    assert set(both.frame["metric"]) == {"logit", "twice"}
    with pytest.raises(CircuitryError, match="no metric 'twise'"):
        patched(task, metric="twise")
