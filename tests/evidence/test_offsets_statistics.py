"""Intervals and verdicts of the off-by-one detector on synthetic effects; what it writes and draws."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from scipy import stats

import circuitry as ct
from circuitry.evidence import Offsets, off_by_one
from circuitry.evidence.offsets_figure import CARRYING, OTHER
from circuitry.evidence.write_profile import in_words, kind_of, measure, profile
from circuitry.models import Vocabulary
from circuitry.results.statistics import resampling
from circuitry.thresholds import CARRIES, WRITE_FLOOR
from support import known

ROOT, TASK = Path(__file__).parents[2], known.task()
PAGE = (ROOT / "docs" / "off-by-one.md").read_text()

# --- statistics ------------------------------------------------------------------------------------------------------------


def test_intervals_are_those_of_scipys_bootstrap() -> None:
    effects = np.random.default_rng(1).gamma(2, 1, (2, 40))
    found = measure(effects[None], effects.sum(0), resamples=5000, level=0.9, seed=0).model
    wanted = stats.bootstrap(
        tuple(effects), lambda a, b, axis: a.mean(axis) / (a.mean(axis) + b.mean(axis)), paired=True, method="BCa",
        n_resamples=5000, confidence_level=0.9, rng=np.random.default_rng(2),
    ).confidence_interval  # fmt: skip
    assert found is not None
    assert (found.low[0], found.high[0]) == pytest.approx((wanted.low, wanted.high), abs=0.01)


def test_what_all_positions_share_does_not_skew_an_interval() -> None:
    """Examples differ by orders of magnitude, but all positions alike: the shares are symmetric, and so are their intervals."""
    rng = np.random.default_rng(0)
    size, noise = (np.repeat(rng.lognormal(0, 1.5, 30), 2), np.tile([0.2, -0.2], 30))
    effects = np.stack([0.3 * size + noise, 0.7 * size - noise])
    found = profile(effects, resampling(60, 20_000, np.random.default_rng(0)), 0.95)
    assert found.high[0] - found.share[0] == pytest.approx(found.share[0] - found.low[0], rel=0.15)


def test_coverage_on_skewed_effects() -> None:
    rng, inside, runs = np.random.default_rng(0), 0, 300
    for seed in range(runs):
        effects = rng.gamma([[[2.0]], [[0.5]]], 1, (2, 2, 32)) * [[[1], [0]], [[0], [1]]] + rng.normal(0, 0.1, (2, 2, 32))
        found = measure(effects, effects.sum((0, 1)), resamples=400, level=0.95, seed=seed).model
        inside += found is not None and found.low[1] <= 0.2 <= found.high[1]
    assert 0.89 < inside / runs < 0.98


def test_noise_alone_is_a_write_no_oftener_than_stated() -> None:
    rng, runs = np.random.default_rng(0), 200
    found = [
        measure(rng.normal(0, 1, (4, 5, 24)), rng.normal(5, 1, 24), resamples=200, level=0.95, seed=n).model for n in range(runs)
    ]
    assert sum(one is not None for one in found) <= stats.binom.ppf(0.999, runs, 0.05)


def test_no_behaviour_no_write() -> None:
    rng, runs = np.random.default_rng(0), 200
    found = [measure(np.ones((1, 2, 24)), rng.normal(0, 1, 24), resamples=200, level=0.95, seed=n).model for n in range(runs)]
    assert sum(one is not None for one in found) <= stats.binom.ppf(0.999, runs, 0.05)


def test_what_works_against_the_behaviour_is_no_write_and_takes_nothing_away() -> None:
    rng = np.random.default_rng(0)
    effects = np.zeros((2, 2, 32)) + rng.normal(0, 0.05, (2, 2, 32))
    effects[0, 0] -= 0.5
    effects[1, 1] += 1.5
    found = measure(effects, np.ones(32) + rng.normal(0, 0.1, 32), resamples=500, level=0.95, seed=0)
    assert found.model is not None and found.model.at == (1,) and found.layers[0] is None
    assert found.mean[0, 0] == pytest.approx(-0.5, abs=0.05)
    assert found.model.share == pytest.approx([0, 1], abs=0.05)


def test_an_effect_below_the_floor_is_no_write_however_certain() -> None:
    effects = np.full((1, 2, 32), WRITE_FLOOR / 2)
    assert measure(effects, np.ones(32), resamples=200, level=0.95, seed=0).model is None


def test_an_interval_across_the_threshold_leaves_the_verdict_open() -> None:
    rng = np.random.default_rng(0)
    effects = np.stack([np.ones(32), rng.normal(CARRIES + 0.03, 0.1, 32)])[None]
    found = measure(effects, effects.sum((0, 1)), resamples=500, level=0.95, seed=0).model
    assert found is not None and found.low[1] < CARRIES < found.share[1]
    assert (found.at, found.open, kind_of(found)) == ((0,), (1,), "undecided")
    assert in_words("B", found).startswith("B (9") and "perhaps also B+1" in in_words("B", found)


def test_shares_of_a_sum_that_may_be_nothing_are_unknown() -> None:
    effects = np.stack([np.ones(16), np.random.default_rng(0).normal(-0.9, 1, 16)])
    made = profile(effects, resampling(16, 200, np.random.default_rng(0)), 0.95)
    assert made.open == (0, 1) and made.peak == (0, 1)
    assert kind_of(made) == "undecided" and in_words("B", made).endswith("so they have no shares")


def test_positions_that_are_equal_share_the_peak() -> None:
    one = np.random.default_rng(0).normal(1, 1, 32)
    effects = np.stack([one, one[::-1]])[None]
    found = measure(effects, effects.sum((0, 1)), resamples=500, level=0.95, seed=0).model
    assert found is not None and set(found.peak) == {0, 1} and found.centre[1] < 0.5 < found.centre[2]


@given(st.integers(0, 10**6), st.sampled_from([-4.0, -0.5, 2.0, 1024.0]))
@settings(max_examples=25)
def test_neither_unit_nor_direction_matters(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    effects, whole = rng.normal(0.3, 0.5, (2, 3, 16)), rng.normal(2, 0.5, 16)
    one, two = (measure(effects * c, whole * c, resamples=200, level=0.95, seed=0) for c in (1.0, scale))
    assert two.q == pytest.approx(one.q) and two.mean == pytest.approx(one.mean)
    if one.model and two.model:
        assert two.model.share == pytest.approx(one.model.share) and one.model.share.sum() == pytest.approx(1)
        assert two.model.low == pytest.approx(one.model.low) and two.model.peak == one.model.peak


# --- what is left ----------------------------------------------------------------------------------------------------------


@functools.cache
def two() -> Offsets:
    return off_by_one([known.mamba(known.lags(0, 2, 1)), known.mamba(known.lags(0, 2), read=False)], TASK, resamples=200)


def test_json_gives_everything_back_without_torch(tmp_path: Path) -> None:
    file = tmp_path / "offsets.json"
    two().to_json(file)
    back = Offsets.from_json(file)
    pd.testing.assert_frame_equal(back.frame, two().frame)
    assert (back.verdicts, back.token, back.provenance) == (two().verdicts, two().token, two().provenance)
    assert back.tables["known"].mean().tolist() == two().tables["known"].mean().tolist()
    code = "import sys; from circuitry.evidence import Offsets; print(Offsets.from_json(sys.argv[1])); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == two().text()


def test_json_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"token": "B"}')
    with pytest.raises(ct.CircuitryError, match="holds no offsets"):
        Offsets.from_json(tmp_path / "x.json")


def test_markdown_has_a_row_for_each_model_and_the_sentences(tmp_path: Path) -> None:
    text = two().to_markdown(tmp_path / "offsets.md")
    assert (tmp_path / "offsets.md").read_text() == text + "\n"
    lines = text.splitlines()
    assert "B+4" in lines[0] and "71% (71 to 71)" in lines[2] and lines[3].count("--") == 5
    assert "most at B+1" in text and "95% bootstrap intervals" in text


def test_the_picture_shows_shares_intervals_and_layers(tmp_path: Path) -> None:
    figure = two().plot(tmp_path / "offsets.png")
    bars, heat, empty, _ = figure.axes
    assert [round(p.get_height()) for p in bars.patches] == [0, 71, 29, 0, 0]
    assert [to_hex(p.get_facecolor()) for p in bars.patches] == [OTHER, CARRYING, CARRYING, OTHER, OTHER]
    assert "several" in bars.get_title("left") and "none" in empty.get_title("left")
    assert [t.get_text() for t in heat.texts] == ["0", "71", "29", "0", "0"]
    assert (tmp_path / "offsets.png").stat().st_size > 10_000


def test_same_seed_same_answer() -> None:
    again = off_by_one(known.mamba(known.lags(0, 2, 1)), TASK, resamples=200)
    pd.testing.assert_frame_equal(again.frame, two().frame.query("model == 'known'").reset_index(drop=True))


def test_the_known_models_do_not_know_the_answer_from_anything_else() -> None:
    """Their logits are what was written: corrupting B takes the answer's logit away and gives it to the other token."""
    model, prompts = known.mamba(known.lags(0, 2)), TASK.prompts(Vocabulary.of(None, known.TOKENS))
    table = ct.patch(model, TASK, "embed -> logits", metric="logit_difference")
    assert np.allclose(table.frame["base"], -table.frame["source"]) and (table.frame["base"] > 0.1).all()
    assert prompts.changed == ("B",)


def test_the_page_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """The block runs and prints the text below it; a last digit may differ between machines."""
    code, printed = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("python", "text"))
    assert code and printed
    exec(compile(code[1], "docs/off-by-one.md", "exec"), {})
    said, got = printed[1].split(), capsys.readouterr().out.split()
    assert [re.sub(r"[\d.]+|:?-+:?", "", word) for word in got] == [re.sub(r"[\d.]+|:?-+:?", "", word) for word in said]
    numbers = [[float(n) for word in words for n in re.findall(r"\d+\.?\d*", word)] for words in (got, said)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1)
