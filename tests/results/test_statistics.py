"""Evidence, against scipy, statsmodels, numbers by hand, and synthetic effects whose truth is known."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

import circuitry as ct
from circuitry import PatchingTable, Task
from circuitry.prompting import Prompts
from circuitry.results import statistics as evidence
from circuitry.results.skewness import TESTABLE

Sampler = Callable[[np.random.Generator, tuple[int, int]], Any]

# How examples are spread, and their true mean.
SPREADS: dict[str, tuple[Sampler, float]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "exponential": (lambda rng, shape: rng.exponential(size=shape), 1.0),
    "gamma, turned round": (lambda rng, shape: -rng.gamma(2, size=shape), -2.0),
}


def table(effect: Any, whole: float = 4.0, **options: Any) -> PatchingTable:
    effect = np.atleast_2d(np.asarray(effect, float))
    n = effect.shape[1]
    return PatchingTable.of(
        [{"layer": k} for k in range(len(effect))], effect, np.zeros(n), np.full(n, whole), "logit", **options
    )


def at_most(rate: float, trials: int) -> float:
    """The share of trials that a true rate stays below in 999 of 1000 experiments."""
    return float(stats.binom.ppf(0.999, trials, rate) / trials)


# --- by hand ---------------------------------------------------------------------------------------------------------------


def test_three_examples_by_hand() -> None:
    """Of the 8 flips of 1, 2, 3 two reach 6 either way; of those of 1, -1, 5 six reach 5."""
    seen = table([[1.0, 2.0, 3.0], [1.0, -1.0, 5.0], [0.0, 0.0, 0.0]]).statistics()
    assert list(seen.columns) == ["mean", "se", "low", "high", "normalized", "p", "q", "random_quantile"]
    assert seen["mean"].tolist() == pytest.approx([2.0, 5 / 3, 0.0])
    assert seen["se"].tolist() == pytest.approx([1 / np.sqrt(3), np.sqrt(28 / 9), 0.0])
    assert seen["normalized"].tolist() == pytest.approx([0.5, 5 / 12, 0.0])
    assert seen["p"].tolist() == [0.25, 0.75, 1.0]
    assert seen["q"].tolist() == [0.75, 1.0, 1.0], "0.25 * 3 / 1, and 0.75 * 3 / 2 cut at the next"
    assert seen["random_quantile"].isna().all()
    assert seen.index.equals(table(np.zeros((3, 3))).mean().index)


@pytest.mark.parametrize("n", (3, 12, 13, 40))
def test_an_effect_that_is_exactly_zero_shows_nothing(n: int) -> None:
    seen = table(np.zeros((2, n))).statistics()
    assert seen[["low", "high"]].to_numpy().tolist() == [[0.0, 0.0]] * 2
    assert seen["p"].tolist() == seen["q"].tolist() == [1.0, 1.0]


def test_an_effect_within_rounding_of_the_metric_shows_nothing() -> None:
    """Of one sign in every example, it would be significant."""
    ends = np.full(12, 10.0), np.full(12, 8.0)
    effects = np.array([np.full(12, 1.5e-5), np.full(12, 2e-5), [*np.full(11, 1.5e-5), np.nan], np.full(12, 1.0)])
    seen = PatchingTable.of([{"layer": n} for n in range(4)], effects, *ends, "logit").statistics()
    assert seen["p"].tolist()[::2] == [1.0, 1.0] and seen["p"].tolist()[1] == seen["p"].tolist()[3] < 0.001


def test_what_cannot_be_known_is_nan_and_nothing_warns() -> None:
    """pytest makes errors of warnings."""
    nan, inf = np.nan, np.inf
    seen = table([[1.0, 2.0, 3.0], [nan, 2.0, 4.0], [nan, nan, 4.0], [nan] * 3, [inf, 1.0, 2.0]]).statistics()
    assert seen["mean"].tolist()[:3] == [2.0, 3.0, 4.0]
    assert seen[["low", "p", "q"]].isna().any(axis=1).tolist() == [False, False, True, True, True]
    assert seen["p"].tolist()[1] == table([[2.0, 4.0]]).statistics()["p"].tolist()[0], "an example that is missing is left out"
    assert seen["q"].tolist()[0] == 0.5, "over the two cells that were tested"
    one = table([[1.0]])
    assert one.statistics()[["se", "low", "high", "p", "q"]].isna().all(axis=None) and not one.significant().any()
    assert "*" not in one.caption() and "±" not in one.caption()


def test_defaults_are_computed_once_and_cannot_be_spoilt(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, describe = [], evidence.describe

    def counted(*args: Any, **options: Any) -> pd.DataFrame:
        calls.append(args)
        return describe(*args, **options)

    monkeypatch.setattr(evidence, "describe", counted)
    made = table(np.arange(96.0).reshape(2, 48))
    spoilt = made.statistics()
    spoilt["q"] = 0.0
    repr(made), made.to_markdown(), made.plot()
    assert len(calls) == 1 and (made.statistics()["q"] > 0).all()
    assert not made.statistics(seed=1).equals(made.statistics()) and len(calls) == 2


# --- against scipy and statsmodels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", (2, 7, 30))
def test_standard_errors_are_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(5, n))
    np.testing.assert_allclose(table(values).statistics()["se"], stats.sem(values, axis=1))


@pytest.mark.parametrize("n", (8, 16, 64))
@pytest.mark.parametrize("spread", SPREADS)
def test_intervals_are_scipys_bca_at_a_wider_level(n: int, spread: str) -> None:
    values = np.sort(SPREADS[spread][0](np.random.default_rng(n), (3, n)), axis=1)
    widened = special.ndtr(np.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    low, high = evidence.mean_interval(values, seed=7)
    for cell, row in enumerate(values):
        wanted = stats.bootstrap(
            (row,), np.mean, n_resamples=2000, confidence_level=1 - 2 * widened, method="BCa", rng=np.random.default_rng(7)
        ).confidence_interval
        # Of 8 examples a few resamples hold each once: their mean is the mean, which scipy sees but for rounding.
        near = 0.02 * (wanted.high - wanted.low) if n == 8 else 1e-9
        assert (low[cell], high[cell]) == pytest.approx((wanted.low, wanted.high), rel=0, abs=near)


@pytest.mark.parametrize("n", (2, 5, 8))
def test_sign_flips_are_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(0.7, 1.0, size=(6, n)).round(1)  # rounded, so that sums tie
    for row, p in zip(values, evidence.sign_flip_test(values), strict=True):
        wanted = stats.permutation_test(
            (row, np.zeros(n)),
            lambda a, b, axis: (a - b).mean(axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=10**6,
        )
        assert p == pytest.approx(wanted.pvalue)


def test_random_sign_flips_come_near_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0.4, 1.0, size=(20, 13))
    drawn = evidence.sign_flip_test(values, draws=20_000)
    monkeypatch.setattr(evidence, "EXACT", 2**13)
    exact = evidence.sign_flip_test(values)
    assert (np.abs(drawn - exact) <= 4 * np.sqrt(exact / 20_000) + 1e-4).all() and not np.array_equal(drawn, exact)
    assert evidence.sign_flip_test(np.full((1, 40), 2.0), draws=99).tolist() == [0.01], "never zero"


def test_shuffling_labels_is_scipys() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(4, 4)), rng.normal(1.5, 2.0, size=(4, 5))
    for p, a, b in zip(evidence.shuffle_test(first, second), first, second, strict=True):
        wanted = stats.permutation_test(
            (a, b), lambda x, y, axis: np.abs(stats.ttest_ind(x, y, equal_var=False, axis=axis).statistic),
            vectorized=True, n_resamples=10**6, alternative="greater",
        )  # fmt: skip
        assert p == pytest.approx(wanted.pvalue)


def test_shuffling_labels_without_spread() -> None:
    same, other = np.full((1, 8), 2.0), np.full((1, 8), 3.0)
    assert evidence.shuffle_test(same, same).tolist() == [1.0]
    assert evidence.shuffle_test(same, other)[0] < 0.001


@given(st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=30))
def test_false_discovery_control_is_that_of_statsmodels(p: list[float]) -> None:
    values = np.array(p)
    known = ~np.isnan(values)
    q = evidence.false_discovery(values)
    assert np.isnan(q[~known]).all()
    if known.any():
        np.testing.assert_allclose(q[known], multipletests(values[known], method="fdr_bh")[1], atol=1e-12)


# --- laws ------------------------------------------------------------------------------------------------------------------

EFFECTS = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=14)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_q_is_at_least_p_and_keeps_its_order(p: list[float]) -> None:
    values = np.sort(np.array(p))
    q = evidence.false_discovery(values)
    assert (q >= values).all() and (np.diff(q) >= 0).all() and (q <= 1).all()


@given(EFFECTS, st.randoms(use_true_random=False))
def test_the_order_of_examples_does_not_matter(effect: list[float], random: Any) -> None:
    shuffled = random.sample(effect, len(effect))
    pd.testing.assert_frame_equal(evidence.describe(np.array([effect])), evidence.describe(np.array([shuffled])))


@given(EFFECTS, st.sampled_from((0.125, 2.0, 1024.0)))
def test_the_unit_does_not_matter(effect: list[float], scale: float) -> None:
    """Scales are powers of two, for which arithmetic is exact."""
    once, scaled = (evidence.describe(np.array([effect]) * factor) for factor in (1.0, scale))
    np.testing.assert_allclose(scaled[["low", "high"]], once[["low", "high"]] * scale, rtol=1e-9, atol=1e-9)
    pd.testing.assert_frame_equal(scaled[["p", "q"]], once[["p", "q"]])


@given(EFFECTS)
def test_turned_round_effects_have_the_same_p(effect: list[float]) -> None:
    one, other = (evidence.describe(sign * np.array([effect]))["p"][0] for sign in (1, -1))
    assert one == pytest.approx(other, abs=0.02), "to within the draw, over 12 examples"


@given(EFFECTS.filter(lambda effect: len(effect) >= TESTABLE))
def test_an_interval_lies_within_the_examples_and_a_wider_level_holds_it(effect: list[float]) -> None:
    values = np.array([effect])
    low, high = evidence.mean_interval(values)
    wide_low, wide_high = evidence.mean_interval(values, level=0.999)
    slack = 1e-9 * (1 + np.abs(values).max())
    assert min(effect) - slack <= wide_low[0] <= low[0] + slack
    assert low[0] <= high[0] + slack and high[0] - slack <= wide_high[0] <= max(effect) + slack


@given(st.integers(2, 12), st.integers(1, 60), st.data())
def test_what_can_be_shown_is_what_false_discovery_control_lets_through(n: int, cells: int, data: Any) -> None:
    needed, strong = evidence.least_discovery(n, cells), data.draw(st.integers(1, cells))
    p = np.ones(cells)
    p[:strong] = evidence.sign_flip_test(np.ones((1, n)))[0]
    assert (evidence.false_discovery(p) < 0.05).any() == (strong >= needed)


def test_enough_flips_are_drawn_for_one_cell_to_stand_out() -> None:
    assert evidence.least_discovery(13, 1) == evidence.least_discovery(64, 2000) == 1


# --- rates -----------------------------------------------------------------------------------------------------------------


def coverage(spread: str, n: int, trials: int = 3000) -> tuple[float, float]:
    """How often the interval holds the true mean: ours, and plain percentiles of the same resamples."""
    sample, truth = SPREADS[spread]
    values = sample(np.random.default_rng(n), (trials, n))
    low, high = evidence.mean_interval(values)
    plain = np.quantile(values @ evidence.resampling(n, 2000, np.random.default_rng(0)).T, (0.025, 0.975), axis=1)
    return float(((low <= truth) & (truth <= high)).mean()), float(((plain[0] <= truth) & (truth <= plain[1])).mean())


@pytest.mark.parametrize(
    ("spread", "n", "short"),
    [("normal", 16, 0.01), ("normal", 64, 0.0), ("exponential", 16, 0.03), ("exponential", 64, 0.01), ("gamma, turned round", 16, 0.01)],
)  # fmt: skip
def test_intervals_cover_the_true_mean(spread: str, n: int, short: float) -> None:
    """``short`` is how far below 95% the truth may be: skewed effects and few examples cost a little. Run with -s to see all."""
    ours, plain = coverage(spread, n)
    print(f"{spread}, {n} examples: covers {ours:.1%}, plain percentiles {plain:.1%}")
    assert 1 - ours <= at_most(0.05 + short, 3000)
    assert 1 - ours >= 1 - at_most(0.96, 3000), "nor wider than it says"
    assert n == 64 or ours > plain


def null(rng: np.random.Generator, cells: int, n: int) -> Any:
    """Effects of no mean: symmetric, with heavy tails, and on a scale of their own in each cell."""
    return rng.standard_t(3, size=(cells, n)) * rng.lognormal(0, 2, size=(cells, 1))


def found(values: Any, q: float = 0.05) -> Any:
    return evidence.false_discovery(evidence.sign_flip_test(values)) < q


def test_a_sweep_of_nothing_finds_something_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(0)
    rate = np.mean([found(null(rng, 40, 12)).any() for _ in range(400)])
    assert rate <= at_most(0.05, 400)


def test_false_discoveries_are_no_larger_a_share_than_stated() -> None:
    """10 of 40 cells have an effect."""
    rng = np.random.default_rng(1)
    proportions, power = [], []
    for _ in range(300):
        values = rng.normal(size=(40, 12))
        values[:10] += 1.2
        seen = found(values)
        proportions.append(seen[10:].sum() / max(1, seen.sum()))
        power.append(seen[:10].mean())
    assert np.mean(proportions) <= 0.05 + 3 * stats.sem(proportions)
    assert np.mean(power) > 0.7, "else this says nothing"


@pytest.mark.parametrize("n", (16, 64))
def test_flipping_signs_finds_skewed_effects_of_mean_zero_somewhat_too_often(n: int) -> None:
    """Flipping signs takes effects to be symmetric; benchmarks/significance.py says what Johnson's t makes of it."""
    rate = (evidence.sign_flip_test(np.random.default_rng(n).exponential(size=(3000, n)) - 1) < 0.05).mean()
    print(f"centred exponential effects, {n} examples: p < 0.05 in {rate:.1%}")
    assert at_most(0.04, 3000) - 0.04 < rate <= at_most(0.09 if n == 16 else 0.065, 3000)


def test_two_samples_of_unlike_size_and_spread_differ_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(2)
    p = evidence.shuffle_test(rng.normal(size=(1000, 8)), 5 * rng.normal(size=(1000, 24)), draws=999)
    assert (p < 0.05).mean() <= at_most(0.06, 1000)


# --- a model with shuffled labels ------------------------------------------------------------------------------------------

PATH = "ssm_state[{layer}] @ {position} -> logits freezing ssm_state"


class Swapped(Task):
    """The same prompts, where the other token counts as the answer; a task so defined is refused, since nothing predicts that."""

    def prompts(self, vocabulary: Any, *, lint: bool = True) -> Prompts:
        made = super().prompts(vocabulary)
        return replace(made, answer=made.foil, foil=made.answer)


@functools.cache
def induction(swapped: bool = False) -> PatchingTable:
    """A real sweep: the effect on the answer's logit less the foil's."""
    task = ct.task("induction", distance=8, examples=24)
    asked = Swapped(task.definition, task.options, task.examples) if swapped else task
    model = ct.load("bundled:mamba")
    return ct.patch(model, asked, PATH, metric="logit_difference", lint=False, baseline=0)


def test_to_swap_answer_and_foil_is_to_turn_the_effect_round() -> None:
    np.testing.assert_allclose(induction(swapped=True).values(), -induction().values(), atol=1e-4)
    assert np.abs(induction().values()).max() > 1


def test_shuffled_labels_show_nothing_more_often_than_stated() -> None:
    """Which of the two tokens counts as the answer is drawn for each example: so there is no effect, whatever the model does."""
    effects, rng = induction().values(), np.random.default_rng(0)
    assert found(effects).any() and induction().significant().any()
    shuffled = (found(effects * rng.choice((-1.0, 1.0), effects.shape[1])).any() for _ in range(300))
    assert np.mean(list(shuffled)) <= at_most(0.05, 300)


# --- random nodes ----------------------------------------------------------------------------------------------------------


def random_nodes(means: list[float], examples: int = 4, **columns: Any) -> pd.DataFrame:
    draws = np.repeat(np.arange(len(means)), examples)
    effect = np.repeat(means, examples) + np.tile([-0.5, 0.5], len(draws) // 2)
    made = {"draw": draws, "node": "ssm_state[1] @ END-3", "example": np.tile(np.arange(examples), len(means)), "effect": effect}
    return pd.DataFrame({**made, "base": 0.0, "source": 4.0, **columns})


def test_a_cell_is_compared_with_the_means_of_random_nodes() -> None:
    made = table(np.array([[1.0], [-2.5], [0.1]]) * np.ones(4), random=random_nodes([0.2, -1.0, 2.0, -3.0]))
    assert made.statistics()["random_quantile"].tolist() == [0.25, 0.75, 0.0], "a tie is not beyond"
    assert made.random_band(1.0).tolist() == [3.0] * 3 and made.random_band(0.0).tolist() == pytest.approx([0.2] * 3)
    assert "random nodes: median |mean| 1.5, at most 3 over 4 draws" in made.caption()
    assert "random" not in table(np.ones((1, 4))).caption() and table(np.ones((1, 4))).random_band().isna().all()


def test_stacked_cells_are_compared_with_their_own_random_nodes() -> None:
    near, far = (table(np.ones((2, 4)), random=random_nodes(means)) for means in ([0.5, 0.6], [2.0, 3.0]))
    both = PatchingTable.stack({8: near, 16: far, 32: table(np.ones((2, 4)))}, "distance", "by distance")
    assert both.random is not None and both.random["distance"].tolist() == [8] * 8 + [16] * 8
    wanted = pd.Series([1.0, 1.0, 0.0, 0.0, np.nan, np.nan])
    assert both.statistics()["random_quantile"].reset_index(drop=True).equals(wanted)
    for value, part in ((8, near), (16, far)):
        chosen = both.select("distance", value)
        assert chosen.random is not None and part.random is not None
        pd.testing.assert_frame_equal(chosen.random, part.random)
    assert both.select("distance", 32).random is None
    assert both.select("layer", 0).random is both.random, "which knows nothing of layers"


@settings(max_examples=20)
@given(st.sampled_from(["B+1", "END"]), st.integers(0, 3))
def test_random_nodes_of_an_axis_value_are_kept_apart(position: str, layer: int) -> None:
    cells = [{"layer": k, "position": p} for k in range(4) for p in ("B+1", "END")]
    frames = [random_nodes([float(k)], layer=k) for k in range(4)]
    made = PatchingTable.of(cells, np.full((8, 4), 1.5), np.zeros(4), np.ones(4), "logit", random=pd.concat(frames))
    assert made.statistics().loc[(layer, position), "random_quantile"] == float(layer < 1.5)
