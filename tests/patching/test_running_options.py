"""``patch`` as users call it: the check of the baseline, options, and what a table and ``explain`` say of a run."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import circuitry as ct
from circuitry import GuardError
from circuitry.executing.effects import Effects
from circuitry.executing.open import EXECUTORS
from circuitry.executing.suffix import driver as suffix_driver
from circuitry.patching import cautions
from circuitry.planning import METRICS, Write
from support.agreement import model
from support.patching import PROMPTS, TASK, effects, laid, patched

# --- the linter of the baseline --------------------------------------------------------------------------------------------


def test_no_behaviour_no_experiment() -> None:
    """The random model does no better on the clean prompts, or worse: with the roles swapped it does."""
    effects_of = Effects(*(np.array([values]) for values in ([0.0, 0.0], [1.0, 1.1], [1.05, 1.0])))
    made, _ = laid("mlp[0] @ B -> logits")
    with pytest.warns(UserWarning) as found:
        cautions.check_baseline(effects_of, METRICS["logit"], made, TASK)
    assert str(found[0].message) == (
        "<task induction: distance=8, corruption='B', prefix=2, form='pair', examples=5, seed=0>: the model does no better on clean than on "
        "corrupted prompts (0.025 +- 0.075), so there is nothing to explain here; try another distance or model, or lint=False"
    )


@pytest.mark.parametrize("direction", ("noising", "denoising"))
def test_the_baseline_is_checked_in_both_directions(direction: str) -> None:
    base, other = ([3.0, 3.1], [1.0, 1.2]) if direction == "noising" else ([1.0, 1.2], [3.0, 3.1])
    good = Effects(*(np.array([values]) for values in ([0.0, 0.0], base, other)))
    made = replace(laid("mlp[0] @ B -> logits")[0], base="clean" if direction == "noising" else "corrupted")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cautions.check_baseline(good, METRICS["logit"], made, TASK)
        for metric_without, plan_without in ((METRICS["kl"], made), (METRICS["logit"], laid("embed -> mlp[1]")[0])):
            cautions.check_baseline(replace(good, base=good.source, source=good.base), metric_without, plan_without, TASK)
    with pytest.warns(UserWarning, match="the model does no better on clean than on corrupted prompts"):
        cautions.check_baseline(replace(good, base=good.source, source=good.base), METRICS["logit"], made, TASK)


def test_patch_lints_unless_told_not_to() -> None:
    with pytest.warns(UserWarning, match="so there is nothing to explain here"):
        patched(task=TASK.but(seed=1), lint=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patched(task=TASK.but(seed=1))


# --- options of patch ------------------------------------------------------------------------------------------------------


def test_freezing_adds_to_the_path() -> None:
    path = ct.parse("mlp[0] @ B -> logits").freezing(model("gpt2").graph.head[1])
    np.testing.assert_array_equal(effects(patched(path)), effects(patched("mlp[0] @ B -> logits freezing head[1]")))  # type: ignore[arg-type]


def test_axes_choose_cells() -> None:
    chosen = patched("head[0,{head}] @ {pos} -> logits", axes={"head": 1, "pos": ["B", "A+2"]})
    assert list(chosen.mean().index) == [(1, "B"), (1, "A+2")]
    assert chosen.mean().nunique() == 2


def test_a_table_knows_where_it_comes_from() -> None:
    provenance = patched().provenance
    assert provenance["path"] == "mlp[{layer}] @ B -> logits" and provenance["task"] == TASK.record and provenance["seed"] == 0
    assert (provenance["intervention"], provenance["base"]) == ("resample", "clean")
    assert len(provenance["skipped"]) == 1 and provenance["skipped"][0].startswith("{'layer': 2}: no unfrozen node between")
    assert set(provenance["versions"]) == {"python", "circuitry-lm", "torch", "transformers", "nnsight", "numpy", "scipy"}


def test_patching_leaves_the_model_as_it_was() -> None:
    for kind in ("gpt2", "mamba"):
        ids, ours = torch.from_numpy(PROMPTS.clean), model(kind)
        with torch.no_grad():
            before = ours.hf(ids, use_cache=False).logits
            patched("embed @ B -> logits", kind, executor=ct.executor(verify=1))
            assert torch.equal(ours.hf(ids, use_cache=False).logits, before)


def test_write_is_hashable_and_plans_are_plain_data() -> None:
    import pickle

    made, _ = laid("(mlp[0] @ B, mlp[1] @ 3) -> logits freezing head[1]")
    assert len({w for one in made.cells[0].passes for w in one.writes if isinstance(w, Write)}) == 2
    assert pickle.loads(pickle.dumps(made.cells)) == made.cells


@pytest.mark.parametrize("metric", ["logit", "kl"])
def test_the_cost_that_is_explained_is_of_the_batches_that_run(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """KL needs all logits, so fewer runs share a batch."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    wide = transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(vocab_size=5000, **sizes))
    model, task = ct.load(wide), ct.task("induction", distance=8, examples=6)
    how: Any = {"metric": metric, "executor": ct.executor(memory="1MiB"), "lint": False}
    path = "mlp[{layer}] @ B -> logits"
    said, ran, run = ct.explain(model, task, path, **how), list[int](), suffix_driver.run
    monkeypatch.setattr("circuitry.executing.suffix.executor.run", lambda *given: ran.append(1) or run(*given))  # type: ignore[func-returns-value]
    ct.patch(model, task, path, **how)
    assert f"6 examples: {len(ran)} batch{'es' * (len(ran) > 1)};" in said
    assert len(ran) > 1 or metric == "logit"


def test_only_the_executor_that_has_live_sets_explains_them() -> None:
    model, task = ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2)
    lives = {name: "  live 1" in ct.explain(model, task, "mlp[1] @ B -> logits", executor=name) for name in EXECUTORS}
    assert lives == {"suffix": True, "rows": False, "reference": False}


@pytest.mark.parametrize("end", ["logits", "mlp[3] @ END"])
def test_effects_that_are_not_finite_are_refused(end: str) -> None:
    """A table would leave them out of its means as missing examples."""
    model, task = ct.load("bundled:gpt_neox", dtype="float16"), ct.task("induction", distance=8, examples=2)
    with pytest.raises(GuardError, match=r"not a finite number in 2 of 2 examples; it was computed in torch\.float16"):
        ct.patch(model, task, f"mlp[1] @ B -> {end}", intervention=ct.given(1e6), lint=False)


@pytest.mark.parametrize(("name", "reads"), [("", "all"), ("spread", "everything")])
def test_a_metric_is_checked_when_it_is_made(name: str, reads: Any) -> None:
    with pytest.raises(ct.CircuitryError, match=r"a metric (needs a name|reads 'answer' or)"):
        ct.Metric(name, lambda logits, base, answer, foil: logits[:, 0], reads=reads)
