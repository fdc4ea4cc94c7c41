"""Packed tokens give what whole rows and the independent reference give: on any path, of every type of model."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import circuitry as ct
from circuitry.executing.suffix import guarded
from circuitry.executing.suffix.executor import Suffix
from circuitry.planning import METRICS
from support import tiny
from support.agreement import apart, model, planned, ragged
from support.random_paths import LITTLE, NARROW, PLENTY, SOME, alike, experiment, few

EXACT = 1e-10
seeds = st.integers(0, 10**9)


def compare(ours: Any, seed: int, length: int = 10, **options: Any) -> None:
    """Draw an experiment, and compare the executors on it; the reference does not know all interventions."""
    drawn = experiment(ours, seed, length, **options)
    others = ("rows", "reference") if drawn.plan.intervention.from_source else ("rows",)
    assert apart(ours, drawn.plan, drawn.prompts, drawn.metrics, drawn.memory, others) < EXACT, drawn


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@given(seed=seeds)
@few(4)
def test_any_experiment(kind: str, seed: int) -> None:
    compare(model(kind), seed)


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@given(seed=seeds)
@few(2)
def test_runs_that_begin_alike(kind: str, seed: int) -> None:
    compare(model(kind), seed, draw=alike)


@pytest.mark.parametrize(
    ("sources", "rest"),
    [
        # The second computes nothing before layer 2, so the third and the fourth are there what the first one is.
        (["(mlp[0] @ B, mlp[2] @ END)", "mlp[0] @ B", "(mlp[0] @ B, mlp[1] @ END)", "(mlp[0] @ B, head[2,0] @ END)"], "-> logits"),
        # What is read before the last layer is read of each run.
        (["(mlp[0] @ B, head[1,1] @ B)", "mlp[0] @ B", "(mlp[0] @ B, mlp[1] @ B)"], "-> (mlp[1] @ B, head[2,0].k @ B)"),
        # They are alike up to layer 2, but both are read in layer 1 as well.
        (["(mlp[0] @ B, mlp[2] @ END)", "mlp[0] @ B"], "-> (mlp[1] @ B, logits)"),
        # Second legs write at one node what differs from run to run; first legs are read in two layers.
        (["mlp[0] @ A", "mlp[0] @ B", "(mlp[0] @ A, embed @ A)"], "-> mlp[1] @ B -> logits"),
        (["(mlp[0] @ B, mlp[1] @ B)", "mlp[0] @ B"], "-> (mlp[1] @ B, mlp[2] @ END) -> logits"),
    ],
)  # fmt: skip
def test_runs_that_begin_alike_by_hand(sources: list[str], rest: str) -> None:
    made = planned(model("gpt2"), [f"{one} {rest}" for one in sources], ragged())
    assert apart(model("gpt2"), made, ragged()) < EXACT


def test_runs_that_end_otherwise_do_not_begin_alike() -> None:
    """They hold other nodes, or are read elsewhere."""
    ends = ["-> logits freezing head[2]", "-> logits freezing mlp[1]", "-> logits", "-> logits directly"]
    made = planned(model("gpt2"), [f"mlp[0] @ END {end}" for end in ends], ragged())
    assert apart(model("gpt2"), made, ragged()) < EXACT
    made = planned(model("gpt2"), [f"mlp[0] @ A -> mlp[2] @ {at}" for at in ("A", "END")], ragged(1))
    assert apart(model("gpt2"), made, ragged(1)) < EXACT


@pytest.mark.parametrize("kind", ["mamba", "rwkv"])
@given(seed=seeds)
@few(8)
def test_any_experiment_with_states_scanned_row_by_row(kind: str, seed: int) -> None:
    """Real models have rows too large for the cache to hold several."""
    with pytest.MonkeyPatch.context() as small:
        small.setattr(sys.modules["circuitry.models.scan"], "_CACHE", 1)
        small.setattr(sys.modules["circuitry.models.wkv"], "_ROWS", 1)
        compare(model(kind), seed)


@pytest.mark.parametrize("kind", tiny.OTHERS)
@given(seed=seeds)
@few(2)
def test_any_experiment_on_a_type_that_shares_a_graph(kind: str, seed: int) -> None:
    compare(model(kind), seed)


WINDOWS: dict[str, dict[str, Any]] = {
    "mistral": {},
    "ministral": {},
    "qwen2": {"use_sliding_window": True, "max_window_layers": 1},
}
"""Types with a sliding window: in every layer, as the configuration says, in all layers after the first."""


@pytest.mark.parametrize("kind", WINDOWS)
@given(seed=seeds)
@few(5)
def test_a_window_shorter_than_the_prompt(kind: str, seed: int) -> None:
    ours = model(kind, sliding_window=3, **WINDOWS[kind])
    assert ours.graph.windows, "some layer has a window"
    compare(ours, seed)


LONG = {
    "gpt2": 40,
    "mistral": 70,
    "mamba": 40,
    "falcon_mamba": 40,
    "jamba": 40,
    "rwkv": 40,
    "rwkv7": 40,
    "mamba2": 140,
    "qwen3_next": 140,
    "kimi_linear": 40,
}
"""Prompts of several stretches of a scan, and of more tokens than an attention row has at once."""


@pytest.mark.parametrize("kind", LONG)
@given(seed=seeds)
@few(3)
def test_long_prompts(kind: str, seed: int) -> None:
    compare(model(kind), seed, length=LONG[kind])


# --- half precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ("gpt2", "llama", "qwen3_moe", "mamba", "mamba2", "rwkv", "rwkv7", "jamba", "qwen3_next", "kimi_linear")
)
@given(seed=seeds)
@few(2)
def test_half_precision_is_as_far_from_whole_rows_as_rounding(kind: str, seed: int) -> None:
    """Both round, and not at the same products; an effect is a difference of two numbers that were rounded."""
    ours = model(kind, dtype=torch.bfloat16)
    drawn = experiment(ours, seed)
    assert apart(ours, drawn.plan, drawn.prompts, others=("rows",)) < 0.1, drawn


# --- batches and logits ----------------------------------------------------------------------------------------------------

TABLES = {
    "gpt2": "head[{layer},{head}] @ {pos} -> logits freezing mlp[2]",
    "mamba": "ssm_state[{layer}] @ {pos} -> logits",
    "rwkv": "wkv_in[{layer}] @ {pos} -> wkv_state[2] @ END",
}


def test_jobs_share_the_whole_runs_of_an_example_that_does_not_fit() -> None:
    ours, prompts = model("gpt2"), ragged(4)
    made = planned(ours, ["head[{layer},{head}] @ END -> logits freezing head"], prompts)
    cost = Suffix(ours, memory=LITTLE).cost(made, prompts, [METRICS["logit"]])
    assert len(prompts) <= cost.batches < len(made.cells) * len(prompts)
    assert cost.short > LITTLE and "memory is short: one example takes" in str(cost)
    plenty = Suffix(ours, memory=PLENTY).cost(made, prompts, [METRICS["logit"]])
    assert plenty.short == 0 and "short" not in str(plenty) and plenty.token_layers < cost.token_layers


@pytest.mark.parametrize("kind", TABLES)
def test_no_bound_of_memory_changes_an_effect(kind: str) -> None:
    ours, prompts = model(kind), ragged(4)
    made = planned(ours, [TABLES[kind]], prompts)
    counts, found = [], []
    for memory in (LITTLE, 30_000, SOME, PLENTY):
        executor = Suffix(ours, memory=memory)
        counts.append(executor.cost(made, prompts, [METRICS["logit"]]).batches)
        found.append(executor.run(made, prompts, [METRICS["logit"]])[0])
    assert counts[0] > 2 * len(prompts) and counts == sorted(counts, reverse=True) and counts[-1] == 1
    assert len(set(counts)) > 2, "these bounds cut differently"
    for one in found[1:]:
        np.testing.assert_allclose(one.effect, found[0].effect, atol=EXACT)
    assert np.abs(found[0].effect).max() > 1e-3


@pytest.mark.parametrize(("options", "cells"), [({}, [0, 1]), ({"extra": 0}, [0, 1]), ({"extra": 1}, [0])], ids=str)
def test_guards_look_at_cells_that_are_not_extra(options: Any, cells: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, prompts = model("gpt2"), ragged(2)
    made = planned(ours, ["mlp[0] @ B -> logits", "mlp[1] @ B -> logits"], prompts)
    checked: list[Any] = []
    monkeypatch.setattr(guarded, "check", lambda _, reading, values: checked.append(reading.job))
    Suffix(ours, memory=PLENTY).run(made, prompts, [METRICS["logit"]], **options)
    assert [made.cells.index(job.cell) for job in checked if job.nothing] == cells
    assert [job.nothing for job in checked].count(False) == 1


AFTER: dict[str, dict[str, Any]] = {"granite": {"logits_scaling": 3.0}, "phimoe": {"lm_head_bias": True}}
"""What some do to their logits."""


@pytest.mark.parametrize("kind", ("gpt2", "granite", "phimoe", "mamba2", "rwkv"))
def test_two_logits_are_those_of_all(kind: str) -> None:
    """With what a model does after its output layer, biases and scaling; KL reads every logit, so then all are there."""
    ours, prompts = model(kind, **AFTER.get(kind, {})), ragged(4)
    made = planned(ours, ["embed @ B -> logits", "embed @ A -> logits @ END"], prompts)
    few_logits = Suffix(ours, memory=PLENTY).run(made, prompts, [METRICS[name] for name in NARROW])
    all_logits = Suffix(ours, memory=PLENTY).run(made, prompts, [METRICS[name] for name in (*NARROW, "kl")])
    for one, other in zip(few_logits, all_logits, strict=False):
        np.testing.assert_allclose(one.effect, other.effect, atol=EXACT)
        np.testing.assert_allclose(one.source, other.source, atol=EXACT)
        assert np.abs(one.effect).max() > 1e-3


def test_a_pattern_that_is_given_has_no_more_tokens_than_are_computed() -> None:
    """What is read stands before the end of the prompts, so fewer tokens are computed than the value was made for."""
    ours, prompts = model("gpt2"), ragged(1)
    rows = [0.5, 0.25, 0.25, *[0.0] * 7]
    for intervention in ("mean", ct.given(torch.tensor(rows, dtype=torch.float64))):
        made = planned(ours, ["head[1,1].pattern @ 3 -> logits @ 4"], prompts, intervention=intervention)
        assert apart(ours, made, prompts, others=("rows",)) < EXACT


def test_more_tokens_may_be_read_at_the_end_than_the_prompts_have() -> None:
    """The model's batch has rows then that are filling, and the first layer takes none of them, though it takes all others."""
    ours, same = model("llama"), ragged(1, length=8)
    prompts = replace(same, corrupted=(same.clean + 7) % 61)
    made = planned(ours, ["head[{layer},{head}] @ {pos} -> logits"], prompts, axes={"layer": [1, 2]})
    assert len(made.cells) > 2 * prompts.length
    assert apart(ours, made, prompts, others=("rows",)) < EXACT


def test_a_given_value_may_be_one_number_for_each_token() -> None:
    """The step size of one head of Mamba-2."""
    ours, prompts = model("mamba2-single"), ragged(3)
    for site in ("delta[1,0] @ B", "delta[1,0]"):
        made = planned(ours, [f"{site} -> logits"], prompts, intervention="mean")
        assert apart(ours, made, prompts, others=("rows",)) < EXACT


def by_row(site: str, *weights: float) -> float:
    """One head's attention on the first tokens, given; of these prompts B is the third token, or comes later."""
    row = torch.tensor([*weights, *[0.0] * (10 - len(weights))], dtype=torch.float64)
    made = planned(model("gpt2"), [f"{site} -> logits @ END"], ragged(3), intervention=ct.given(row))
    return apart(model("gpt2"), made, ragged(3), others=("rows",))


def test_a_pattern_that_attends_to_later_tokens_is_refused() -> None:
    """They may not be computed at all."""
    assert by_row("head[1,1].pattern @ B", 0.5, 0.25, 0.25) < EXACT and by_row("head[1,1].pattern", 1.0) < EXACT
    for site, weights in (("head[1,1].pattern @ B", (0.5, 0.2, 0.2, 0.1)), ("head[1,1].pattern", (0.5, 0.5))):
        with pytest.raises(
            ct.CircuitryError, match=rf"^{re.escape(site)} is how .*, and given\(10 .*\) attends to tokens after it; give"
        ):
            by_row(site, *weights)
