"""The intervals of claims, against textbooks and against the truth of drawn samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from circuitry.claims import Bound, Verdict
from circuitry.claims.intervals import apart, difference, means, proportions, ratios
from circuitry.results import PatchingTable


def table(effects: Any, whole: Any) -> PatchingTable:
    cells = [{"cell": number} for number in range(len(effects))]
    return PatchingTable.of(cells, np.asarray(effects, float), np.zeros(len(effects[0])), np.asarray(whole, float), "logit")


def test_a_normalized_effect_has_fiellers_interval() -> None:
    """Fieller (1954): the ratios that a t test of effect - ratio * whole does not reject."""
    rng = np.random.default_rng(0)
    whole = rng.normal(10, 2, 200)
    effect = 0.7 * whole + rng.normal(0, 2, 200)
    tried = np.linspace(0.6, 0.8, 4001)
    kept = tried[stats.ttest_1samp(effect[:, None] - tried * whole[:, None], 0).pvalue > 0.05]
    [estimate] = ratios(table([effect], whole), 0.95)
    assert estimate.value == pytest.approx(effect.mean() / whole.mean())
    assert [estimate.low, estimate.high] == pytest.approx([kept[0], kept[-1]], abs=0.004)


def test_intervals_of_several_cells_hold_together() -> None:
    """Twenty cells: all twenty intervals contain their means in about 95 of 100 samples; single intervals would in 36."""
    rng, covered, alone = np.random.default_rng(1), 0, 0
    for _ in range(200):
        drawn = table(rng.normal(0, 1, (20, 48)), np.ones(48))
        covered += all(one.low <= 0 <= one.high for one in means(drawn, 0.95))
        se = drawn.sem().to_numpy() * stats.t.ppf(0.975, 47)
        alone += bool((np.abs(drawn.mean().to_numpy()) <= se).all())
    assert covered / 200 >= 0.9 and alone / 200 < 0.6


def test_an_accuracy_has_the_interval_of_clopper_and_pearson() -> None:
    right = np.array([[1.0] * 29 + [0.0] * 3])
    [estimate] = proportions(table(right, np.ones(32)), 0.9)
    expected = stats.beta.ppf([0.05, 0.95], [29, 30], [4, 3])
    assert [estimate.low, estimate.high] == pytest.approx(expected)


def test_without_variance_an_interval_has_no_width() -> None:
    [estimate] = ratios(table(np.full((1, 8), 5.0), np.full(8, 20.0)), 0.95)
    assert estimate.low == estimate.high == estimate.value == 0.25


def test_nothing_is_decided_by_one_example_or_without_an_effect_of_the_whole() -> None:
    noise = np.random.default_rng(0).normal(0, 1, 16)
    for estimate in (*ratios(table([[1.0]], [2.0]), 0.95), *ratios(table([noise], noise[::-1]), 0.95)):
        assert np.isnan(estimate.low) and Bound(at_least=-99.0).decide(estimate.low, estimate.high) is Verdict.OPEN


def test_a_difference_is_paired_if_the_prompts_are_the_same() -> None:
    """What both sides share cancels in pairs; two samples would have an interval a hundred times as wide."""
    rng = np.random.default_rng(0)
    shared, small = rng.normal(0, 10, (1, 64)), rng.normal(1, 0.1, (1, 64))
    first, second = (
        PatchingTable.of([{}], values, np.zeros(64), np.ones(64), "logit", {"task": "one"}) for values in (shared + small, shared)
    )
    paired = difference(first, second, "effect", 0.95)
    student = stats.ttest_1samp(small[0], 0).confidence_interval()
    assert [paired.low, paired.high] == pytest.approx([student.low, student.high], abs=0.005)
    unpaired = apart(means(first, 0.95)[0], means(second, 0.95)[0])
    assert unpaired.high - unpaired.low > 50 * (paired.high - paired.low)


@pytest.mark.parametrize(
    ("bound", "low", "high", "verdict"),
    [
        (Bound(0.5), 0.5, 0.6, "holds"),
        (Bound(0.5), 0.4, 0.4999, "does not hold"),
        (Bound(0.5), 0.4, 0.5, "cannot be decided"),
        (Bound(None, 0.5), 0.4, 0.5, "holds"),
        (Bound(None, 0.5), 0.51, 0.6, "does not hold"),
        (Bound(0.2, 0.5), 0.3, 0.4, "holds"),
        (Bound(0.2, 0.5), 0.3, 0.6, "cannot be decided"),
        (Bound(0.2, 0.5), 0.6, 0.7, "does not hold"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(bound: Bound, low: float, high: float, verdict: str) -> None:
    assert str(bound.decide(low, high)) == verdict


def test_rounding_decides_nothing() -> None:
    assert str(Bound(1.0).decide(1 - 1e-7, 1 - 1e-7, 1e-6)) == "holds"
    assert str(Bound(1.0).decide(1 - 1e-5, 1 - 1e-5, 1e-6)) == "does not hold"
    assert str(Bound(None, 0.0).decide(1e-7, 1e-7, 1e-6)) == "holds"


def test_an_interval_is_never_narrower_than_students() -> None:
    """With sixteen cells, the tails of a bootstrap of sixteen examples end at the most extreme ones; Student's do not."""
    drawn = np.random.default_rng(0).normal(0, 1, (16, 16))
    student = stats.t.ppf(1 - 0.05 / 32, 15) * drawn.std(1, ddof=1) / 4
    for estimate, mean, wide in zip(means(table(drawn, np.ones(16)), 0.95), drawn.mean(1), student, strict=True):
        assert estimate.low <= mean - wide + 1e-9 and estimate.high >= mean + wide - 1e-9


def test_an_outlier_of_another_cell_widens_the_interval_of_a_cell_that_has_none() -> None:
    """One example of 128 lies 40 away; five times what such examples add to a mean is 5 * 40 / 128, times the ratio of both cells' widths."""
    calm = np.random.default_rng(0).uniform(-1, 1, (2, 64))
    wild = calm.copy()
    wild[0, 0] = -40
    (_, before), (_, after) = (means(table(values, np.ones(64)), 0.95) for values in (calm, wild))
    assert before.high - before.value < 0.3 and after.value == before.value
    assert after.high - after.value == pytest.approx(5 * 40 / 128, rel=0.15)


def test_an_effect_that_few_prompts_have_is_not_excluded_by_those_that_lack_it() -> None:
    """Of 1,024 prompts 16 have an effect of -.05. A batch without them has a small spread about another mean."""
    effects, rare = np.random.default_rng(0).normal(0.0005, 0.001, 32), 16 * -0.05 / 1024
    alone = stats.ttest_1samp(effects, 0).confidence_interval(0.99)
    [estimate] = ratios(table([effects], np.ones(32)), 0.95)
    assert alone.low > rare and estimate.low <= rare < 0


def test_ends_do_not_lie_further_out_than_single_examples_differ() -> None:
    [estimate] = means(table([[1e-5, 2e-5, 3e-5] * 8], np.ones(24)), 0.95)
    assert 2e-5 < estimate.high < 4e-5


@pytest.mark.parametrize("by", ["normalized", "effect"])
def test_a_difference_from_nothing_is_as_uncertain_as_the_number(by: Any) -> None:
    effects = np.random.default_rng(0).normal(1e-4, 1e-4, 16)
    one, nothing = table([effects], np.full(16, 2.0)), table([np.zeros(16)], np.full(16, 2.0))
    [alone] = (ratios if by == "normalized" else means)(one, 0.95)
    apart_from_it = difference(one, nothing, by, 0.95)
    assert apart_from_it.low == pytest.approx(alone.low, rel=0.5) and apart_from_it.high == pytest.approx(alone.high, rel=0.5)
