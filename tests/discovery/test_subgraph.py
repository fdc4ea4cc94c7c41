"""Runs of circuits equal those of a slow reference with plain PyTorch hooks, and patches of single edges."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from circuitry.discovery.curve import measured
from circuitry.discovery.positions import REST
from circuitry.discovery.question import Question
from circuitry.discovery.subgraph import Subgraphs
from circuitry.discovery.verify import patched, path_of
from support import agreement, asking, by_hooks

OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "biases of attention": ("qwen2", {}),
    "a sliding window": ("mistral", {"sliding_window": 2}),
    "a scaled stream": ("granite", {}),
    "a scaled embedding": ("gemma", {}),
    "experts": ("jamba-moe", {}),
    "norms in the scan": ("falcon_mamba", {}),
    "one group of heads": ("mamba2-single", {}),
    "linear states": ("kimi_linear", {}),
}
CASES = {**{kind: (kind, {}) for kind in asking.KINDS}, **OTHERS}
BOTH_WAYS = [*((case, "noising") for case in CASES), ("gpt2", "denoising"), ("mamba2", "denoising")]


@functools.cache
def asked(case: str) -> Question:
    kind, changes = CASES[case]
    return asking.about(asking.small(kind, **changes))


def drawn(question: Question, seed: int, share: float = 0.9) -> Any:
    shape = (len(question.wiring.edges), len(question.prompts), question.prompts.length)
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("case", CASES)
def test_random_circuits_are_those_of_plain_hooks(case: str) -> None:
    question = asked(case)
    prompts = question.prompts
    runs, oracle = Subgraphs(question, prompts), by_hooks.Circuits(question.model, question.wiring, *asking.ids(prompts))
    circuits = [drawn(question, seed, share) for seed, share in ((0, 0.6), (1, 0.95))]
    for got, kept in zip(runs.measure(circuits), circuits, strict=True):
        logits = oracle.logits_of(dict(zip(question.wiring.edges, torch.from_numpy(kept), strict=True)))
        np.testing.assert_allclose(got, asking.difference(prompts, logits), rtol=0, atol=1e-8)
    assert np.abs(got - runs.clean).max() > 1e-3 < np.abs(got - runs.corrupted).max()


@pytest.mark.parametrize(("case", "direction"), BOTH_WAYS)
def test_everything_is_the_clean_run_and_nothing_the_corrupted_one(case: str, direction: Any) -> None:
    first = asked(case)
    question = asking.about(first.model, direction=direction)
    runs = Subgraphs(question, question.prompts)
    every = np.ones((len(question.wiring.edges), len(question.prompts), question.prompts.length), bool)
    clean, corrupted = asking.ids(question.prompts)
    np.testing.assert_array_equal(
        question.prompts.clean, first.prompts.clean if direction == "noising" else first.prompts.corrupted
    )
    for got, ids, known in zip(runs.measure([every, ~every]), (clean, corrupted), (runs.clean, runs.corrupted), strict=True):
        wanted = asking.difference(question.prompts, by_hooks.run(question.model, ids)[0])
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)
        np.testing.assert_allclose(known, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("case", "direction"), BOTH_WAYS)
def test_a_run_without_one_edge_is_a_patch_of_that_edge(case: str, direction: Any) -> None:
    """Over the stream and inside blocks. What the planner refuses has no effect."""
    question = asking.about(asked(case).model, direction=direction)
    rng = np.random.default_rng(0)
    every = [(e, k) for e in range(len(question.items)) for k, name in enumerate(question.labels.names) if name != REST]
    cells = [every[k] for k in rng.permutation(len(every))[:25]]
    exact = patched(question, cells)
    kept = np.ones((len(cells), len(question.items), len(question.labels)), bool)
    for row, cell in enumerate(cells):
        kept[(row, *cell)] = False
    got = measured(question, list(kept))
    for cell, values in zip(cells, got.values, strict=True):
        wanted = exact.get(cell, np.zeros(len(question.prompts)))
        path = path_of(question, question.items[cell[0]], question.labels.names[cell[1]])
        np.testing.assert_allclose(values - got.clean, wanted, rtol=0, atol=1e-8, err_msg=path)
    assert sum(np.abs(values).max() > 1e-6 for values in exact.values()) > 3


@pytest.mark.parametrize("case", ["gpt2", "mamba2"])
def test_circuits_in_one_batch_are_as_one_by_one_whatever_the_memory(case: str) -> None:
    question = asked(case)
    circuits = [drawn(question, seed, share) for seed, share in enumerate((0.5, 0.9, 0.95, 0.99, 1.0))]
    together = list(Subgraphs(question, question.prompts).measure(circuits))
    for memory in (1, 5 * 8 * question.model.bytes_per_row(question.prompts.length)):
        few = replace(question, memory=memory)
        np.testing.assert_allclose(list(Subgraphs(few, few.prompts).measure(circuits)), together, rtol=0, atol=1e-10)
    alone = [next(iter(Subgraphs(question, question.prompts).measure([kept]))) for kept in circuits]
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-10)


def test_little_memory_makes_more_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    question, rows = asked("gpt2"), list[int]()
    run = Subgraphs._run

    def noted(self: Any, views: Any, count: int) -> Any:
        rows.append(count)
        return run(self, views, count)

    monkeypatch.setattr(Subgraphs, "_run", noted)
    circuits = [drawn(question, seed) for seed in range(4)]
    for memory in (1, question.memory):
        runs = Subgraphs(replace(question, memory=memory), question.prompts)
        list(runs.measure(circuits))
    assert len(rows) == 5 and sum(rows[:4]) == rows[4] + 3 * len(question.prompts)


def test_examples_of_other_lengths_do_not_matter() -> None:
    """The padding after END and the examples beside one change nothing."""
    question = asked("llama")
    kept = drawn(question, 3)
    whole = next(iter(Subgraphs(question, question.prompts).measure([kept])))
    for example in range(len(question.prompts)):
        one = question.prompts.take(np.array([example])).trimmed()
        got = next(iter(Subgraphs(question, one).measure([kept[:, [example], : one.length]])))
        np.testing.assert_allclose(got, whole[[example]], rtol=0, atol=1e-10)
    assert len({int(end) for end in question.prompts.where["END"]}) > 1


def test_kl_is_measured_against_the_clean_run() -> None:
    question = asking.about(agreement.model("gpt2", 2), metric="kl")
    runs = Subgraphs(question, question.prompts)
    every = np.ones((len(question.wiring.edges), len(question.prompts), question.prompts.length), bool)
    clean, corrupted = runs.measure([every, ~every])
    np.testing.assert_allclose(clean, 0, atol=1e-12)
    np.testing.assert_allclose(corrupted, runs.corrupted, rtol=1e-9)
    assert corrupted.min() > 1e-4
