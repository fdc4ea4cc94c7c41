"""What the experiment reads off tables of matched features, and what it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitry.errors import CircuitryError
from circuitry.studies.experiment.measures import depth_distance, depth_map, difference, interval, layer_groups, near_zero
from circuitry.studies.experiment.result import Universality
from support import some_matches


def test_the_difference_goes_feature_by_feature_whatever_the_order_of_rows() -> None:
    main, seed = some_matches.table("A", "B", 0.6), some_matches.table("A", "A2", 0.7, 1)
    shuffled = difference(main.sample(frac=1, random_state=0), seed.sample(frac=1, random_state=1))
    assert len(shuffled) == main["mppc"].notna().sum()
    expected = (main["mppc"] - seed["mppc"]).dropna()
    assert np.allclose(np.sort(shuffled["difference"]), np.sort(expected))


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_the_interval_holds_its_share_of_the_values(values: list[float]) -> None:
    low, high = interval(values, 0.5)
    inside = np.mean([low - 1e-12 <= v <= high + 1e-12 for v in values])
    assert low <= high and inside > 0.5 - 2 / len(values)
    assert 0 <= near_zero(values) <= 1


def test_columns_of_the_depth_map_are_shares_of_a_layers_features() -> None:
    one = some_matches.table("A", "B", 0.6)
    found = depth_map(one, 4, 3)
    assert found.shape == (3, 4) and np.allclose(found.sum(0), 1)
    assert found[0, 0] == 1 and found[2, 3] == 1
    assert depth_map(one.assign(mppc=np.nan), 4, 3).sum() == 0


def test_depth_distance_by_chance_is_that_of_shuffled_matches() -> None:
    one = some_matches.table("A", "B", 0.6)
    depths = np.array([0.25, 0.5, 0.75, 1.0]), np.array([1 / 3, 2 / 3, 1.0])
    near, chance = depth_distance(one, *depths)
    rng, known = np.random.default_rng(0), one.dropna()
    shuffled = [depth_distance(known.assign(layer_b=rng.permutation(known["layer_b"])), *depths)[0] for _ in range(300)]
    assert near < 0.2 < chance
    assert chance == pytest.approx(np.mean(shuffled), abs=0.01)


@given(st.integers(1, 40), st.integers(1, 6))
def test_layer_groups_cover_all_layers_once(layers: int, groups: int) -> None:
    made = layer_groups(layers, groups)
    assert [k for group in made for k in group] == list(range(layers))
    assert max(map(len, made)) - min(map(len, made)) <= 1


def test_the_summary_has_both_directions_of_every_comparison() -> None:
    found = some_matches.found()
    assert found.frame["comparison"].tolist() == [name for name in found.comparisons for _ in range(2)]
    main = found.frame.iloc[0]
    assert (main["features of"], main["matched in"], main["compared"], main["left out"]) == ("A", "B", 72, 8)
    assert main["mean"] == pytest.approx(0.6, abs=0.03) and main["null"] == pytest.approx(0.05)
    assert found.marginal["model"].tolist() == ["B", "C"]
    assert found.marginal["mean difference"].tolist() == pytest.approx([-0.1, -0.2], abs=0.04)


def test_without_a_seed_variant_there_is_no_difference() -> None:
    whole = some_matches.found()
    found = Universality({"architecture": whole.comparisons["architecture"]}, whole.record)
    assert found.differences() is None and found.marginal.empty
    assert "no seed variant" in found.figures()["figure3"].axes[1].texts[0].get_text()


def test_everything_is_written_and_read_back(tmp_path: Path) -> None:
    saes = pd.DataFrame([{"model": "A", "node": "resid[1]", "L0": 12.5}])
    found = some_matches.found(saes=saes)
    folder = found.save(tmp_path / "run")
    again = Universality.load(folder)
    pd.testing.assert_frame_equal(again.frame, found.frame)
    pd.testing.assert_frame_equal(again.saes, saes)
    assert again.text() == found.text() and "these are made up" in found.text()
    written = {file.name for file in (folder / "figures").iterdir()}
    assert written == {f"figure{n}{end}" for n in (3, 8, 9, 10, 11) for end in (".png", ".svg")}
    page = (folder / "universality.html").read_text()
    assert page.count('<div class="paper scroll"><svg') == 5
    with pytest.raises(CircuitryError, match=r"no readable universality\.json"):
        Universality.load(tmp_path)
