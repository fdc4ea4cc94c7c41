"""The benchmark of discovery: its truth is what patching shows, its scores are what they say, and it resumes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import circuitry as ct
from circuitry.benchmarks import measure
from circuitry.benchmarks.cases import Case, truth
from circuitry.benchmarks.measure import Benchmark, auroc, discovery, precision
from circuitry.compiled.graded import FAMILIES, graded
from circuitry.discovery.methods import METHODS, default
from circuitry.discovery.search import asked
from circuitry.discovery.verify import patched
from circuitry.prompting.task import task
from support import asking, tiny
from support.agreement import ragged


@pytest.mark.parametrize("corruption", ["A", "B"])
@pytest.mark.parametrize("family", FAMILIES)
def test_true_edges_are_those_that_have_an_effect(family: str, corruption: str) -> None:
    made = graded(family, 1, redundancy="none")
    posed = task("induction", distance=5, prefix=2, corruption=corruption, examples=2)
    case = Case(family, family, ct.load(made.hf, dtype="float64"), posed, made.truth)
    question = asked(case.model, posed)
    cells = case.cells(question)
    every = [(item, label) for item in range(len(question.items)) for label in range(len(question.labels))]
    others = np.random.default_rng(0).permutation([k for k, cell in enumerate(every) if cell not in cells])[:120]
    effects = patched(question, [*sorted(cells), *(every[k] for k in others)])
    largest = max(abs(values.mean()) for values in effects.values())
    assert len(cells) >= 2
    assert min(abs(effects[cell].mean()) for cell in cells) > 0.005 * largest
    assert max((abs(effects[every[k]].mean()) for k in others if every[k] in effects), default=0) < 1e-3 * largest


def test_auroc_counts_pairs_and_precision_counts_the_best() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, true = rng.integers(-3, 4, 12).astype(float), rng.random(12) < 0.4
        if not 0 < true.sum() < 12:
            continue
        pairs = [(abs(a), abs(b)) for a, b in itertools.product(scores[true], scores[~true])]
        assert auroc(scores, true) == pytest.approx(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))
        assert 0 <= precision(scores, true) <= 1
    assert precision(np.array([-3.0, 2.0, 1.0, 0.0]), np.array([True, False, True, False])) == 0.5


def test_a_case_is_kept_and_only_missing_methods_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = discovery(count=1, methods=["eap"], examples=4, with_trained=False, folder=tmp_path)
    asked_for: list[list[str]] = []
    whole = measure.measured

    def noted(case: Case, methods: Any) -> Any:
        asked_for.append(list(methods))
        return whole(case, methods)

    monkeypatch.setattr(measure, "measured", noted)
    both = discovery(count=1, methods=["eap", "random"], examples=4, with_trained=False, folder=tmp_path)
    assert asked_for == [["random"], ["random"]]
    assert both.frame[both.frame["method"] == "eap"].reset_index(drop=True).equals(first.frame)
    assert both.frame["method"].tolist() == ["eap", "random"] * 2


def test_the_table_has_means_by_family_and_over_compiled_models() -> None:
    row = {"case": "c", "method": "m", "auroc": 1.0, "precision": 1.0, "r": 1.0, "passes": 5, "exhaustive": 50, "seconds": 1.0}
    rows = [{**row, "family": "mamba"}, {**row, "family": "gpt2", "auroc": 0.5}, {**row, "family": "bundled mamba", "auroc": 0.0}]
    table = Benchmark(pd.DataFrame(rows)).table()
    assert table.loc[("m", "all compiled"), "auroc"] == 0.75 and table.loc[("m", "bundled mamba"), "auroc"] == 0.0
    assert (table["cost"] == 0.1).all()


def test_every_method_says_what_it_costs() -> None:
    question = asked(ct.load("bundled:gpt_neox"), ct.task("induction", distance=8, examples=2))
    passes = {name: method.passes(question) for name, method in METHODS.items()}
    assert passes["block-ig"] == 11 and passes["eap"] == 5 and passes["eap-ig-inputs"] == 17 and passes["random"] == 0
    assert (
        passes["eap-ig-activations"] == 17 * 9
        and passes["ig-activations"] == 11 * 9
        and passes["exact"] == 2 + len(question.items) * len(question.labels)
    )


@pytest.mark.parametrize("layers", [2, 12])
def test_the_default_for_nodes_is_what_is_affordable(layers: int) -> None:
    model, task = tiny.model("gpt2", layers), asking.task(ragged(4))
    questions = [asked(model, task, level=level, lint=False, progress=False) for level in ("edge", "node")]
    assert [default(question).name for question in questions] == ["block-ig", "ig-activations" if layers == 2 else "block-ig"]


def test_estimates_for_nodes_of_rwkv_are_near_exact_effects() -> None:
    """Where several nodes each destroy the answer alone, their effects add up to more than the whole."""
    found = measure.nodes(methods=["block-ig", "ig-activations"], examples=8, models=["bundled:rwkv"])
    assert found.loc["ig-activations"].min() > 0.95 > found.loc["block-ig"].min()


def test_the_first_models_cover_all_families() -> None:
    families = [case.family for case in itertools.islice(truth(len(FAMILIES), examples=2), 0, None, 2)]
    assert sorted(families) == sorted(FAMILIES)
