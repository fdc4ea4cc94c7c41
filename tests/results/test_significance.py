"""Stars: on effects that cannot be negative there are none, and on skewed ones no more than the stated share is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import circuitry as ct
from circuitry import PatchingTable
from circuitry.evidence import sensitivity
from circuitry.evidence.write_profile import measure
from circuitry.reports.words import _statistics
from circuitry.results import statistics as evidence
from circuitry.results.cells import cells_of
from circuitry.results.skewness import ENOUGH, Outliers, johnson, johnson_two, widths
from circuitry.results.units import DISTANCE, KL, SEVERAL
from circuitry.results.view import TableView
from circuitry.suites.keys import keys, sure
from circuitry.suites.study import Study
from support.agreement import model

Sampler = Callable[[np.random.Generator, tuple[int, ...]], Any]
TASK = ct.task("induction", distance=5, examples=8, prefix=2)
HEADS = "head[{layer},{head}] -> logits"
OPTIONS: dict[str, Any] = {"lint": False}
SKEWED = "too few examples for effects this skewed"


def rare(noise: float) -> Sampler:
    """One example in twenty has a large effect against the sign of the others; the mean is zero."""
    return lambda rng, shape: (rng.random(shape) < 0.05) - 0.05 + noise * rng.normal(size=shape)


NULLS: dict[str, Sampler] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "exponential": lambda rng, shape: 1 - rng.exponential(size=shape),
    "log-normal": lambda rng, shape: rng.lognormal(size=shape) - np.exp(0.5),
    "rare": rare(0.1),
    "rare, clear": rare(0.01),
    "rare, each cell on its own scale": lambda rng, shape: rare(0.05)(rng, shape) * rng.lognormal(0, 2, (*shape[:-1], 1)),
}


def table(effect: Any, unit: str = "logit", **options: Any) -> PatchingTable:
    effect = np.atleast_2d(np.asarray(effect, float))
    n = effect.shape[1]
    return PatchingTable.of([{"layer": k} for k in range(len(effect))], effect, np.zeros(n), np.full(n, 4.0), unit, **options)


def starred(effects: Any, cells: int) -> Any:
    """Which cells [table, cell] have p < 0.05 and a q, where the other rows of ``effects`` [table, row, example] are random nodes."""
    tables, _, n = effects.shape
    flat = np.sort(effects[:, :cells].reshape(-1, n), axis=1)
    p = evidence.mean_test(flat, draws=999).reshape(tables, cells)
    known = zip(effects, flat.mean(1).reshape(tables, cells), widths(flat).reshape(tables, cells), strict=True)
    return (p < 0.05) & ~np.array([Outliers.of([one]).may_hide(mean, width, n) for one, mean, width in known])


# --- skewed effects --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", (4, 8, 16, 32))
@pytest.mark.parametrize("null", NULLS)
def test_effects_of_mean_zero_are_starred_no_more_often_than_stated(null: str, n: int) -> None:
    """Twelve cells and sixteen random nodes. Flipping signs alone stars 15% of log-normal and 66% of rare effects at n = 8."""
    found = starred(NULLS[null](np.random.default_rng(n), (150, 28, n)), 12)
    assert found.mean() <= 0.075
    assert null != "normal" or n == 4 or found.mean() > 0.03, "nor is everything withheld"


@pytest.mark.parametrize("null", NULLS)
def test_the_same_of_tables_as_small_as_are_tested_and_of_a_lone_cell(null: str) -> None:
    rng = np.random.default_rng(0)
    limit = 0.1 if "own scale" in null else 0.075  # where cells of so few examples also differ in scale, more slip through
    assert starred(NULLS[null](rng, (150, 12, 8)), 12).mean() <= limit
    assert not starred(NULLS[null](rng, (300, 1, 32)), 1).any(), "nothing says what such a cell may have missed"
    assert starred(NULLS[null](rng, (600, 1, 128)), 1).mean() <= 0.075


@pytest.mark.parametrize(("size", "n", "least"), [(5, 8, 0.99), (2, 8, 0.95), (1, 16, 0.9), (1, 32, 0.99)])
def test_real_effects_keep_their_stars(size: float, n: int, least: float) -> None:
    effects = np.random.default_rng(n).normal(size=(100, 28, n))
    effects[:, ::2] += size
    assert starred(effects, 12)[:, ::2].mean() >= least


def test_a_clear_effect_keeps_its_star_beside_small_ones_with_outliers() -> None:
    """Outliers of cells that hardly do anything are far away in their own width, and too small to undo a large mean."""
    rng = np.random.default_rng(0)
    small = 0.001 * rng.normal(size=(27, 16)) + (rng.random((27, 16)) < 0.05)
    clear = np.linspace(9, 15, 16)
    seen = table([clear, *small]).statistics()
    assert seen["q"].iloc[0] < 0.05
    assert table([clear / 100, *small]).statistics()["q"].isna().iloc[0], "as they would a mean of their own size"


def test_a_cell_that_missed_what_others_have_gets_no_q_and_the_caption_says_why(tmp_path: Path) -> None:
    noise = 0.01 * np.random.default_rng(0).normal(size=(12, 8))
    effects = -0.05 + noise
    effects[np.arange(4), np.arange(4)] += 1
    made = table(effects)
    seen = made.statistics()
    assert (evidence.sign_flip_test(effects[4:]) < 0.05).all(), "which is what was starred"
    assert seen["p"].notna().all() and seen["q"].iloc[4:].isna().all() and not made.significant().any()
    assert not made.significant(0.5).iloc[4:].any(), "at any rate"
    assert f"no q for 8 cells: {SKEWED}" in made.caption() and "*" not in made.to_markdown().partition("\n\n")[0]
    made.save(tmp_path, "t")
    assert pd.read_csv(tmp_path / "t-statistics.csv")["q"].isna().sum() == 8
    assert SKEWED in (tmp_path / "t.tex").read_text() and SKEWED in made.plot().get_supxlabel().replace("\n", " ")
    assert [bool(bar.get_hatch()) for bar in made.plot().axes[0].containers[0].patches] == [True] * 12
    assert all(cell.unsure for cell in cells_of(made)) and SKEWED in TableView.of(1, "t", made, []).caption


def test_random_nodes_say_what_a_lone_cell_may_have_missed() -> None:
    clear = np.linspace(1, 2, 8)
    assert "no q for 1 cell: 8 effects are too few to tell how skewed they are, 90 are enough" in table(clear).caption()
    rng = np.random.default_rng(0)
    usual = rng.normal(size=(16, 8))
    for effects, known in ((usual, True), (usual + 100 * np.eye(16, 8), False)):
        draws = {"draw": np.repeat(range(16), 8), "example": np.tile(range(8), 16), "effect": effects.ravel()}
        assert table(clear, random=pd.DataFrame(draws)).significant().tolist() == [known]


def test_a_withheld_p_counts_among_the_others() -> None:
    p, hidden = np.array([0.001, 0.02, 0.5, 0.04]), np.array([True, False, True, False])
    np.testing.assert_allclose(evidence.false_discovery(p, hidden), [np.nan, 0.04, 0.5, 0.16 / 3])


def test_johnsons_t_by_hand() -> None:
    """1, 2, 3, 10: mean 4, variance 50/3, third moment 45; t = 1.960 and the skewness of the mean is 45 / 16 / 8.505."""
    row = np.array([1.0, 2.0, 3.0, 10.0])
    error = np.sqrt(50 / 3 / 4)
    t, skewness = 4 / error, 45 / 16 / error**3
    wanted = 2 * stats.t.sf(t + skewness * (1 + 2 * t**2) / 6, 3)
    assert johnson(row[None])[0] == pytest.approx(wanted) and johnson(-row[None])[0] == pytest.approx(wanted)
    assert johnson(8 - row[None])[0] == pytest.approx(2 * stats.t.sf(max(0, t - skewness * (1 + 2 * t**2) / 6), 3))
    clear = row + 100
    assert johnson(clear[None])[0] < 0.001, "where t is large the correction grows no more"


def test_without_skewness_it_is_students_and_welchs() -> None:
    one, two = np.array([[-1.0, 0.0, 1.0, 2.0, 3.0]]), np.array([[3.0, 5.0, 7.0]])
    assert johnson(one)[0] == pytest.approx(stats.ttest_1samp(one[0], 0).pvalue)
    assert johnson_two(one, two)[0] == pytest.approx(stats.ttest_ind(one[0], two[0], equal_var=False).pvalue)


def test_outliers_by_hand() -> None:
    """The narrowest six of eight are 5 wide; -15 lies 18.5 or 3.7 widths from the median, and is one of 16 effects."""
    rows = np.array([[-15.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [0.0] * 7 + [1e-9]])
    assert widths(rows)[0] == 5.0
    found = Outliers.of([rows, np.full((2, 8), np.nan)])
    assert (found.share, found.distance, found.largest, found.seen) == (1 / 8, 3.7, 18.5, 16)
    assert Outliers.of([np.empty((0, 4))]) == Outliers(0.0, 0.0, 0.0, 0)
    same_side = np.array([[0.1, 10.0, 11.0, 11.0, 12.0, 12.0, 13.0, 50.0]])
    assert Outliers.of([same_side]).share == 0, "an effect that is sometimes nearly zero, or larger, is no less of an effect"
    known = replace(found, seen=ENOUGH)
    bound = 5 * 3.7 * 5 / 8
    assert known.may_hide(np.array([bound - 0.01, bound + 0.01]), np.array([5.0, 5.0]), 8).tolist() == [True, False]
    assert not known.may_hide(np.array([0.1]), np.array([5.0]), 32).any(), "of 32, one in eight is not missed"
    assert found.may_hide(np.array([1e9]), np.array([5.0]), 32).all() and not found.may_hide(np.ones(1), np.ones(1), 5).any()


@pytest.mark.parametrize("paired", (True, False))
def test_differences_of_tables_are_treated_alike(paired: bool) -> None:
    rng, kept, plain = np.random.default_rng(0), 0, 0
    provenance = [{"task": "t"}, {"task": "t" if paired else "u"}]
    for _ in range(20):
        one, two = rare(0.01)(rng, (24, 8)), np.zeros((24, 8)) if paired else 0.01 * rng.normal(size=(24, 8))
        made = table(one, provenance=provenance[0]).compare(table(two, provenance=provenance[1]), by="effect", resamples=100)
        kept += int(((made.frame["p"] < 0.05) & made.frame["q"].notna()).sum())
        plain += int((made.frame["p"] < 0.05).sum())
    assert kept <= 0.075 * 480 < plain
    assert SKEWED in made.caption() and SKEWED in made.to_markdown() and not made.significant().any()
    both = [table(rng.normal(size, 1, (24, 8)), provenance=each) for size, each in zip((5, 0), provenance, strict=True)]
    assert both[0].compare(both[1], by="effect").significant().all()


def test_the_whole_effect_of_a_profile_and_its_cells_are_treated_alike() -> None:
    """Without the outliers of other cells a write at offset 1 is found, with them it is not."""
    rng = np.random.default_rng(0)
    effects, whole = 0.01 * rng.normal(size=(3, 4, 16)), rng.normal(1, 0.02, 16)
    effects[1, 1] += 0.05
    assert (found := measure(effects, whole, resamples=200, level=0.95, seed=0)).there and found.q[1, 1] < 0.05
    effects[2] -= 0.02
    effects[2, :, 3] += 1
    hidden = measure(effects, whole, resamples=200, level=0.95, seed=0)
    assert np.isnan(hidden.q[1, 1]) and hidden.model is None


# --- intervals of few examples ---------------------------------------------------------------------------------------------


def test_below_six_examples_intervals_are_at_least_students() -> None:
    values = np.random.default_rng(0).normal(size=(4000, 4))
    low, high = evidence.mean_interval(values)
    assert ((low <= 0) & (high >= 0)).mean() == pytest.approx(0.95, abs=0.015), "87% within the range of the examples"
    student = stats.sem(values, axis=1) * stats.t.ppf(0.975, 3)
    near = np.abs(np.maximum(high - values.mean(1), values.mean(1) - low) / student - 1)
    assert np.median(near) < 0.02 and ((high - low) >= 1.9 * student).all()
    one, two = table(values[:1], provenance={"task": "t"}), table(values[1:2], provenance={"task": "t"})
    difference, row = values[0] - values[1], one.compare(two, by="effect").frame.iloc[0]
    assert row["high"] - row["low"] >= 1.9 * stats.sem(difference) * stats.t.ppf(0.975, 3)


# --- effects that cannot be negative ---------------------------------------------------------------------------------------


def patched(path: str = HEADS, **options: Any) -> PatchingTable:
    return ct.patch(model("gpt2"), TASK, path, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def divergence() -> PatchingTable:
    return patched(metric="kl")


def test_a_divergence_has_an_interval_and_random_nodes_and_no_stars(divergence: PatchingTable, tmp_path: Path) -> None:
    seen = divergence.statistics()
    assert (divergence.values() > 0).all() and divergence.unit == KL and not divergence.signed().any()
    assert seen[["p", "q"]].isna().all(axis=None) and not divergence.significant().any() and not divergence.can_show()
    assert seen[["low", "high", "random_quantile"]].notna().all(axis=None) and (seen["low"] >= 0).all()
    said = "no q where effects are never negative"
    assert said in divergence.caption() and "q <" not in divergence.caption() and "random nodes: median" in divergence.caption()
    assert "*" not in divergence.to_markdown().partition("\n\n")[0] and said in divergence.to_latex()
    drawn = divergence.plot()
    assert {text.get_fontstyle() for text in drawn.axes[0].texts} == {"normal"} and "q <" not in drawn.get_supxlabel()
    bars = divergence.select("layer", 0).plot().axes[0].containers[0].patches
    assert not any(bar.get_hatch() for bar in bars)
    divergence.to_json(tmp_path / "t.json")
    assert not PatchingTable.from_json(tmp_path / "t.json").signed().any()
    assert few(divergence)["low"].min() >= 0


def few(made: PatchingTable) -> pd.DataFrame:
    """Statistics of the first three examples, of which Student's interval goes below zero."""
    return replace(made, frame=made.frame[made.frame["example"] < 3]).statistics()


def test_a_distance_has_none_either() -> None:
    made = patched("head[{layer},0] @ B -> mlp[2] @ B")
    assert made.unit == DISTANCE and made.statistics()["q"].isna().all() and not made.significant().any()


def test_of_several_metrics_only_those_that_can_be_negative_are_tested(divergence: PatchingTable, tmp_path: Path) -> None:
    made = patched(metric=["kl", "logit"])
    made.to_json(tmp_path / "t.json")
    old = replace(
        made, provenance={key: value for key, value in made.provenance.items() if key != "units"}
    )  # as tables once were saved
    for both in (made, PatchingTable.from_json(tmp_path / "t.json"), old):
        assert both.unit == SEVERAL and both.statistics()["p"].isna().to_numpy().tolist() == (~both.signed()).tolist()
        kl, logit = both.select("metric", "kl"), both.select("metric", "logit")
        assert kl.unit == KL and not kl.signed().any() and logit.signed().all()
        pd.testing.assert_frame_equal(kl.statistics(), divergence.statistics())
        assert logit.statistics()["p"].notna().all()
    assert (
        made.select("metric", "logit").unit == "change of the answer's logit" == made.select("metric", "logit").provenance["unit"]
    )
    logits = replace(made, random=None).outliers.seen
    assert logits == made.values().size // 2, "divergences say nothing of how skewed logits are"


def test_a_difference_of_divergences_can_be_negative_and_is_tested(divergence: PatchingTable) -> None:
    half = replace(divergence, frame=divergence.frame.assign(effect=divergence.frame["effect"] / 2))
    made = half.compare(divergence, by="effect")
    assert made.paired and (made.frame["difference"] < 0).all() and made.frame["p"].notna().all()


def test_a_report_shows_them_as_they_are(divergence: PatchingTable) -> None:
    shown = TableView.of(1, "t", divergence, [])
    assert not shown.tested and not any(cell.unsure or cell.found for cell in shown.cells)
    assert "never negative" in shown.caption
    both, one = " ".join(_statistics([divergence])), " ".join(_statistics([table(np.ones((2, 8)))]))
    assert "never negative" in both and "sign-flip" not in both and "sign-flip" in one and "never negative" not in one


def test_suites_go_by_the_share_where_there_is_no_q(divergence: PatchingTable) -> None:
    assert sure(divergence).all() and keys(divergence)
    study = Study(model("gpt2"), TASK, tables={"kl": divergence, "small": table(np.ones((2, 16)))})
    assert "by effect size only in kl: effects that are never negative are not tested" in study.rule()
    assert "by p < 0.05 in small, whose effects are too few to tell how skewed they are" in study.rule()
    assert study.caveats(divergence) == []
    assert ["nothing to explain here" in said for said in study.caveats(table(np.ones((2, 16))))] == [True]


def test_a_finding_in_divergences_holds_by_being_the_strongest() -> None:
    found = sensitivity(
        model("gpt2"), TASK, HEADS, ablations=["resample"], metrics=["kl"], directions=["noising"], frozen={}, **OPTIONS
    )
    assert found.frame["q"].isna().all() and found.frame["holds"].all()
