"""Curves, scores and tests of circuits, and what a discovery says of its cells, by hand."""

from __future__ import annotations

import functools
import itertools
import sys
from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry.discovery.circuit import EdgeCircuit
from circuitry.discovery.curve import Measured, curve, first, measured, ordered
from circuitry.discovery.hypothesis_tests import _against, _minimality, equivalence, hypotheses, independence
from circuitry.discovery.methods import METHODS
from circuitry.discovery.question import Question
from circuitry.discovery.result import Discovery
from circuitry.discovery.scores import MOST, _kept, score_edges
from circuitry.discovery.search import asked as question_of
from circuitry.errors import CircuitryError
from support import agreement, asking

pytestmark = pytest.mark.filterwarnings("ignore:.*nothing to explain here:UserWarning")  # a model with random weights


@functools.cache
def asked(level: str = "edge") -> Question:
    return asking.about(asking.small("gpt2"), examples=4, level=level)


def discovery(scores: Any, exact: Any = None, question: Question | None = None) -> Discovery:
    """A discovery with these scores; the whole effect is that of the prompts."""
    question = question or asked()
    ends = tuple(
        measured(asked(), [np.ones((len(asked().items), len(asked().labels)), bool)]).__dict__[k] for k in ("clean", "corrupted")
    )
    return Discovery(question, question, "made", scores, exact or {}, ends)


def some_scores(seed: int = 0) -> Any:
    shape = (len(asked().prompts), len(asked().items), len(asked().labels))
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_faithfulness_by_hand() -> None:
    got = Measured(np.array([[1.0, 2.0], [3.0, 5.0], [0.0, 0.0]]), np.array([3.0, 5.0]), np.array([0.0, 0.0]))
    assert got.faithfulness().tolist() == [3 / 8, 1, 0]
    weights = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    np.testing.assert_allclose(got.faithfulness(weights), [[1 / 3, 1, 0], [2 / 5, 1, 0], [3 / 8, 1, 0]])


def test_a_curve_ends_at_one_and_begins_near_zero() -> None:
    scores = by_eap().mean(0)
    made = curve(asked(), scores, fractions=(0.001, 0.3, 1.0), random=2)
    frame = made.frame
    total = scores.size
    assert frame["edges"].tolist() == [1, round(0.3 * total), total]
    np.testing.assert_allclose(
        frame.loc[2, ["faithfulness", "low", "high", "random", "random_low", "random_high"]].astype(float), 1, atol=1e-6
    )
    nothing = measured(asked(), [np.zeros(scores.shape, bool)])
    np.testing.assert_allclose(nothing.faithfulness(), [0], atol=1e-9)
    assert ((frame["low"] <= frame["faithfulness"] + 1e-9) & (frame["faithfulness"] <= frame["high"] + 1e-9)).all()
    chosen = measured(asked(), [first(ordered(scores, True), count, scores.shape) for count in frame["edges"]])
    np.testing.assert_allclose(frame["faithfulness"], chosen.faithfulness())
    assert "ranked by magnitude" in made.text() and f"{total:,}" in made.text()


@functools.cache
def by_eap() -> Any:
    return METHODS["eap"].scores(asked())


def test_the_circuit_of_all_edges_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[int] = []

    def noted(question: Any, kept: Any, desc: str) -> Measured:
        runs.append(len(kept))
        return Measured(np.array([[mask.sum()] * 4 for mask in kept], float), np.full(4, float(kept[0].size)), np.zeros(4))

    monkeypatch.setattr(sys.modules[curve.__module__], "measured", noted)
    made = curve(asked(), by_eap().mean(0), fractions=(0.5, 1.0), random=3)
    assert runs == [4 + 1] and made.frame["faithfulness"].tolist() == [0.5, 1.0] == made.frame["random"].tolist()


def test_random_orders_are_nested_and_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def noted(question: Any, kept: Any, desc: str) -> Measured:
        seen.append(np.array(kept))
        values = np.array([[mask.sum()] * 4 for mask in kept], float)
        return Measured(values, np.full(4, float(kept[0].size)), np.zeros(4))

    monkeypatch.setattr(sys.modules[curve.__module__], "measured", noted)
    scores = by_eap().mean(0)
    for seed in (0, 0, 1):
        made = curve(replace(asked(), seed=seed), scores, fractions=(0.1, 0.5, 0.9), random=3, absolute=False)
        assert not made.absolute
    one, again, other = (masks.reshape(4, 3, *scores.shape) for masks in seen)
    np.testing.assert_array_equal(one, again)
    assert (one[0] == other[0]).all() and (one[1:] != other[1:]).any()
    for order in one:
        assert all((small <= large).all() for small, large in itertools.pairwise(order))
        assert [mask.sum() for mask in order] == [round(share * scores.size) for share in (0.1, 0.5, 0.9)]
    assert (one[1] != one[2]).any()
    best = np.sort(scores.ravel())[::-1][: one[0, 0].sum()]
    np.testing.assert_array_equal(np.sort(scores[one[0, 0]])[::-1], best)


def test_signed_rankings_begin_with_what_carries_the_effect() -> None:
    """In noising, an edge that carries the behaviour has an effect below zero."""
    discovered = discovery(some_scores())
    for way in (1, -1):
        turned = replace(discovered, ends=(np.zeros(4), np.full(4, float(way))))
        values = [turned.mean[cell] for cell in turned.cells(20, absolute=False)]
        assert values == sorted(values, key=lambda value: -way * value)
        assert values[0] == (turned.mean * way).max() * way
    sizes = [abs(discovered.mean[cell]) for cell in discovered.cells(20)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == np.abs(discovered.mean).max()


def test_cells_without_attribution_are_left_out() -> None:
    scores = np.zeros_like(some_scores())
    scores[:, 3, 1] = 2 * np.sign(discovery(scores).whole)
    discovered = discovery(scores)
    assert discovered.cells(50) == discovered.cells(50, absolute=False) == [(3, 1)]
    with pytest.raises(CircuitryError, match="no edge has an attribution other than zero"):
        _ = discovery(np.zeros_like(scores)).table


def test_agreement_by_hand() -> None:
    scores = np.zeros_like(some_scores())
    exact = {}
    for number, (attribution, effect) in enumerate(((1.0, 2.0), (2.0, 3.0), (-3.0, -8.0))):
        scores[:, number, 0] = attribution
        exact[number, 0] = np.array([effect - 1, effect + 1, effect, effect])
    row = discovery(scores, exact).agreement.iloc[0]
    assert row["cells"] == 3
    assert row["r"] == pytest.approx(np.corrcoef([1, 2, -3], [2, 3, -8])[0, 1])
    assert row["slope"] == pytest.approx((2 + 6 + 24) / 14)
    assert row["error"] == pytest.approx((1 + 1 + 5) / (2 + 3 + 8))
    with pytest.raises(CircuitryError, match="no cell was verified"):
        _ = discovery(scores).agreement


def test_inclusion_by_hand() -> None:
    """Two prompts rank the first cell first and two the second, so a resample keeps the first if it drew more of the former."""
    scores = np.zeros_like(some_scores())
    scores[:, 0, 0] = (3, 3, 0, 0)
    scores[:, 1, 0] = (0, 0, 2.9, 2.9)
    frame, overlap = discovery(scores).inclusion(1, resamples=4000)
    assert frame["edge"].tolist() == [str(asked().items[0])] and frame["position"].tolist() == [asked().labels.names[0]]
    drawn = 1 - (1 + 4) / 16  # at least two of four draws are of the first two prompts, since a tie goes to the larger score
    assert frame["frequency"][0] == pytest.approx(drawn, abs=0.03)
    assert overlap == pytest.approx(frame["frequency"][0])
    both, both_overlap = discovery(scores).inclusion(2, resamples=4000)
    assert both_overlap > 0.9 and (both["frequency"] > 0.9).all()
    scores[:, 2, 0] = 9  # always kept; with one of two edges exchanged, the Jaccard index is a third
    _, index = discovery(scores).inclusion(2, resamples=4000)
    assert index == pytest.approx(drawn + (1 - drawn) / 3, abs=0.03)
    scores[:, 2, 0] = 0
    again, _ = discovery(scores).inclusion(1, resamples=4000)
    assert again["frequency"][0] == frame["frequency"][0]


def test_scores_are_those_of_the_runs_they_name() -> None:
    question = asked()
    circuit = discovery(by_eap()).circuit(edges=60)
    scores = score_edges(question, circuit, random=2, subsets=2)
    inside = circuit.mask(question.wiring, question.labels.names)
    got = measured(question, [inside, ~inside])
    np.testing.assert_allclose([scores.faithfulness, scores.complement], got.faithfulness())
    assert scores.edges == inside.sum() == len(circuit.cells)
    name, change = scores.minimality.iloc[0]
    text, _, position = name.rpartition(" @ ")
    without = inside.copy()
    without[question.wiring.number[question.wiring.find(text)], question.labels.names.index(position)] = False
    assert without.sum() == inside.sum() - 1
    assert change == pytest.approx(scores.faithfulness - measured(question, [without]).faithfulness()[0])
    assert len(scores.minimality) == min(MOST, len(circuit.cells)) and len(scores.outsiders) == 2
    assert scores.interval[0] <= scores.faithfulness <= scores.interval[1]
    np.testing.assert_allclose(scores.completeness["gap"], abs(scores.completeness["circuit"] - scores.completeness["model"]))
    assert "the circuit alone" in repr(scores)


def test_random_circuits_have_the_size_of_the_circuit_and_halves_lie_within() -> None:
    circuit = discovery(by_eap()).circuit(edges=60)
    inside = circuit.mask(asked().wiring, asked().labels.names)
    removed = np.zeros_like(inside)
    removed[tuple(np.argwhere(inside)[0])] = True
    runs = _kept(inside, [removed], 3, 3, np.random.default_rng(0))
    size = inside.sum()
    for drawn, others in zip(runs["random"], runs["model without random"], strict=True):
        assert drawn.sum() == size and (others == ~drawn).all()
    for within, without in zip(runs["circuit without half"], runs["model without half"], strict=True):
        assert (~without).sum() == size // 2 and (~without <= inside).all() and (within == (inside & without)).all()
    assert all(gained.sum() == size + 1 and (inside <= gained).all() for gained in runs["circuit with outsider"])
    assert [len(runs[group]) for group in runs] == [1, 1, 3, 3, 3, 3, 1, 3]
    assert (runs["circuit without edge"][0] == (inside & ~removed)).all()


def test_the_whole_model_and_a_single_edge() -> None:
    question = asked()
    cells = tuple((str(item), label) for item in question.items for label in question.labels.names)
    whole = EdgeCircuit("all", (), (), (), "logit", cells)
    scores = score_edges(question, whole, random=0, subsets=0)
    assert scores.faithfulness == pytest.approx(1) and scores.complement == pytest.approx(0)
    assert scores.random.empty and scores.completeness.empty and scores.outsiders == []


def test_equivalence_keeps_its_level() -> None:
    """At the edge of the tolerance, with ties too, it rejects in at most 5 % of draws."""
    rng = np.random.default_rng(0)
    for ties in (0.0, 0.1, 0.5):
        above = 0.6 - ties / 2
        rejected = 0
        for _ in range(2000):
            difference = rng.choice([1.0, 0.0, -1.0], size=24, p=[above, ties, 1 - above - ties])
            rejected += equivalence(difference, np.zeros(24))[1] < 0.05
        assert rejected / 2000 < 0.05 + 2 * (0.05 * 0.95 / 2000) ** 0.5
    assert equivalence(np.ones(30), np.zeros(30))[1] < 1e-4 > equivalence(np.zeros(30), np.ones(30))[1]
    assert equivalence(np.zeros(9), np.zeros(9)) == (0.5, 1.0)
    assert equivalence(np.array([1.0] * 7 + [0.0]), np.zeros(8))[1] == pytest.approx(
        min(1, 2 * sum(_binomial(8, k, 0.6) for k in (7, 8)))
    )


def _binomial(n: int, k: int, p: float) -> float:
    return comb(n, k) * p**k * (1 - p) ** (n - k)


def test_independence_keeps_its_level_and_finds_dependence() -> None:
    rng = np.random.default_rng(1)
    p = [independence(rng.normal(size=12), rng.normal(size=12), permutations=99, seed=seed)[1] for seed in range(300)]
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 2 * (0.05 * 0.95 / 300) ** 0.5
    assert 0.3 < np.mean(np.array(p) <= 0.5) < 0.7
    x = rng.normal(size=30)
    assert independence(x**2, x, permutations=199)[1] <= 0.01


def test_minimality_needs_every_edge_and_random_circuits_count_themselves() -> None:
    outsiders = np.linspace(0, 0.99, 100)
    assert _minimality(np.array([2.0] * 30), outsiders)[1] == pytest.approx(1 / 101)
    np.testing.assert_allclose(_minimality(np.array([2.0, -3.0, 0.5]), outsiders), (0.5, (1 + 50) / 101))
    assert _against(0.9, np.array([0.1, 0.2, 0.9]), larger=True)[1] == 2 / 4
    assert _against(0.1, np.array([0.1, 0.2, 0.9, 0.05]), larger=False)[1] == 3 / 5


def test_hypotheses_of_the_whole_model() -> None:
    question = asked()
    circuit = discovery(by_eap()).circuit(edges=len(question.items) * len(question.labels), prune=False)
    frame = hypotheses(question, circuit, random=20).frame.set_index("hypothesis")
    assert frame.loc["equivalence", "holds"] and frame.loc["independence", "holds"]
    assert frame.loc["sufficiency", "statistic"] == pytest.approx(1) and frame.loc[
        "partial necessity", "statistic"
    ] == pytest.approx(0)


@pytest.mark.parametrize("level", ["edge", "node"])
def test_ranks_on_one_half_and_verifies_on_the_other(level: Any) -> None:
    task = asking.task(agreement.ragged(8, 7))
    found = ct.discover(asking.small("gpt2"), task, method="exact", level=level, verify=6, progress=False)
    whole = question_of(asking.small("gpt2"), task, level=level, progress=False)
    assert found.question.numbers.tolist() == [0, 2, 4, 6] and found.confirming.numbers.tolist() == [1, 3, 5, 7]
    np.testing.assert_array_equal(found.question.prompts.clean, whole.prompts.clean[::2])
    np.testing.assert_array_equal(found.confirming.prompts.corrupted, whole.prompts.corrupted[1::2])
    np.testing.assert_array_equal(found.confirming.labels.mask, whole.labels.mask[1::2])
    every = METHODS["exact"].scores(whole)
    np.testing.assert_allclose(found.scores, every[::2], atol=1e-6)
    for cell, effects in found.exact.items():
        np.testing.assert_allclose(effects, every[1::2, *cell], atol=1e-6)
    q = found.ranking.dropna(subset=["exact"])["q"]
    assert len(found.exact) == len(q) and len(found.ranking) > len(q)
    tested = found.table.select("measure", "exact").statistics()
    assert set(q) == set(tested["q"])
    assert ((found.ranking["q"] < 0.05).sum()) == len(found.found)


def test_random_circuits_are_beside_the_best_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = by_eap().mean(0)
    worth = np.abs(scores) / np.abs(scores).sum()

    def noted(question: Any, kept: Any, desc: str) -> Measured:
        return Measured(np.array([[(worth * mask).sum()] * 4 for mask in kept]), np.ones(4), np.zeros(4))

    monkeypatch.setattr(sys.modules[curve.__module__], "measured", noted)
    row = curve(asked(), scores, fractions=(0.1, 0.3), random=40).frame.iloc[0]
    assert row.random_low < row.random < row.random_high < row.faithfulness
    assert row.random == pytest.approx(0.1, abs=0.04)


def test_a_large_model_has_fewer_random_circuits(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[int] = []

    def noted(question: Any, kept: Any, desc: str) -> Measured:
        orders.append(len(kept))
        return Measured(np.array([[mask.sum()] * 4 for mask in kept], float), np.full(4, float(kept[0].size)), np.zeros(4))

    monkeypatch.setattr(sys.modules[curve.__module__], "measured", noted)
    scores = by_eap().mean(0)
    for large in (False, True):
        monkeypatch.setattr("circuitry.discovery.question.LARGE", 1 if large else 20_000)
        curve(asked(), scores, fractions=(0.1, 0.5))
    assert orders == [2 * (1 + 5), 2 * (1 + 1)]
