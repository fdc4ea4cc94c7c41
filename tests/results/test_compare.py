"""Two tables beside each other: by hand, against scipy, on synthetic models whose truth is known, and in words."""

from __future__ import annotations

import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from circuitry import CircuitryError, PatchingTable
from circuitry.results import Comparison
from circuitry.results.naming import told_apart

TASK: dict[str, Any] = {"name": "induction", "options": {"distance": 8}, "examples": 16, "seed": 0}


def posed(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "options": options}


def table(
    effect: Any, whole: Any = 4.0, unit: str = "logit", cells: list[dict[str, Any]] | None = None, **provenance: Any
) -> PatchingTable:
    effect = np.atleast_2d(np.asarray(effect, float))
    cells = cells or [{"layer": k} for k in range(len(effect))]
    whole = np.broadcast_to(whole, effect.shape)
    return PatchingTable.of(cells, effect, np.ones(effect.shape), 1 + whole, unit, {"task": TASK, **provenance})


def noisy(seed: int, share: float, cells: int = 1, n: int = 16, scale: float = 1.0) -> tuple[Any, Any]:
    """Effects and wholes of a model whose every cell has this share of the whole effect; wholes vary too."""
    rng = np.random.default_rng(seed)
    whole = scale * rng.gamma(16, 0.25, size=(cells, n))
    return share * whole + scale * rng.normal(0, 0.5, size=(cells, n)), whole


def two(seed: int, first: float, second: float, cells: int = 1, n: int = 16, m: int = 16) -> tuple[PatchingTable, PatchingTable]:
    """Two models, of which the second has logits ten times as large."""
    one, other = noisy(seed, first, cells, n), noisy(seed + 10_000, second, cells, m, scale=10.0)
    return table(*one, model="small"), table(*other, model="large")


def row(made: Comparison, *columns: str) -> list[float]:
    """Some numbers of the only cell."""
    (numbers,) = made.frame[list(columns)].to_numpy(float).tolist()
    return list(numbers)


# --- numbers ---------------------------------------------------------------------------------------------------------------


def test_by_hand() -> None:
    """Pairs differ by 1, 2 and 3 of a whole of 4: of 8 flips two are as far from zero."""
    made = table([[2.0, 3.0, 5.0]]).compare(table([[1.0, 1.0, 2.0]]))
    assert list(made.frame.columns) == ["first", "second", "difference", "low", "high", "p", "q"]
    assert made.paired and made.axes == ("layer",) and made.frame.index.tolist() == [0]
    assert row(made, "first", "second", "difference", "p", "q") == pytest.approx([10 / 12, 1 / 3, 0.5, 0.25, 0.25])
    by_effect = table([[2.0, 3.0, 5.0]]).compare(table([[1.0, 1.0, 2.0]]), by="effect")
    assert row(by_effect, "first", "second", "difference", "p") == pytest.approx([10 / 3, 4 / 3, 2.0, 0.25])


def test_shares_are_those_of_the_tables() -> None:
    one, other = two(0, 0.5, 0.2, cells=5)
    made = one.compare(other).frame
    np.testing.assert_allclose(made["first"], one.normalized())
    np.testing.assert_allclose(made["second"], other.normalized())
    by_effect = one.compare(other, by="effect").frame
    np.testing.assert_allclose(by_effect["difference"], one.mean() - other.mean())


@pytest.mark.parametrize("paired", (True, False))
def test_intervals_are_scipys_bca_of_a_difference_of_ratios(paired: bool) -> None:
    """scipy jackknifes where we take influence, so that its skewness is a little another."""
    one, other = noisy(1, 0.6), noisy(2, 0.3)
    other[0][0, :3] += 9.0  # skewed, so that skewness tells
    tables = (table(*values, task="same" if paired else name) for name, values in (("a", one), ("b", other)))
    made = next(tables).compare(next(tables), seed=3)
    assert made.paired is paired
    widened = special.ndtr(np.sqrt(16 / 15) * stats.t.ppf(0.025, 15))

    def ratio(effect: Any, whole: Any, effect2: Any, whole2: Any, axis: int) -> Any:
        return effect.mean(axis) / whole.mean(axis) - effect2.mean(axis) / whole2.mean(axis)

    def unpaired(first: Any, second: Any, axis: int) -> Any:
        return ratio(first.real, first.imag, second.real, second.imag, axis)  # an effect and its whole, drawn together

    flat = [values[0] for values in (*one, *other)]
    data = flat if paired else [flat[0] + 1j * flat[1], flat[2] + 1j * flat[3]]
    wanted = stats.bootstrap(
        data, ratio if paired else unpaired, paired=paired, vectorized=True, n_resamples=2000,
        confidence_level=1 - 2 * widened, method="BCa", rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    width = wanted.high - wanted.low
    assert row(made, "low", "high") == pytest.approx([wanted.low, wanted.high], abs=0.02 * width)


@pytest.mark.parametrize("m", (16, 24))
def test_intervals_cover_the_true_difference_and_nothing_is_found_where_there_is_none(m: int) -> None:
    """Shares of 0.4 each, for 600 cells; paired where there are as many examples."""
    made = two(5, 0.4, 0.4, cells=600, m=m)[0].compare(two(5, 0.4, 0.4, cells=600, m=m)[1])
    assert made.paired is (m == 16)
    frame = made.frame
    covered = ((frame["low"] <= 0) & (frame["high"] >= 0)).mean()
    assert stats.binom.ppf(0.001, 600, 0.93) / 600 <= covered <= stats.binom.ppf(0.999, 600, 0.96) / 600
    assert (frame["p"] < 0.05).mean() <= stats.binom.ppf(0.999, 600, 0.055) / 600
    assert (frame["q"] < 0.05).mean() < 0.01


def test_a_difference_between_models_of_other_scales_is_found() -> None:
    one, other = two(6, 0.6, 0.4, cells=20)
    made = one.compare(other)
    assert made.significant().all() and ((made.frame["low"] < 0.2) & (made.frame["high"] > 0.2)).mean() > 0.7
    assert not one.compare(one).significant().any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_the_other_way_round_is_the_other_sign(seed: int, paired: bool) -> None:
    one, other = two(seed, 0.5, 0.3, cells=3, n=8, m=8 if paired else 6)
    there, back = one.compare(other).frame, other.compare(one).frame
    np.testing.assert_allclose(there["difference"], -back["difference"])
    np.testing.assert_allclose(there["p"], back["p"], atol=1e-12)
    if paired:
        np.testing.assert_allclose(there["low"], -back["high"], atol=1e-9)


def test_examples_are_paired_by_number_and_missing_ones_left_out() -> None:
    one, other = table([[1.0, 2.0, 3.0, 5.0]]), table([[0.5, 1.0, np.nan, 1.0]])
    turned = PatchingTable(one.frame.iloc[::-1], one.axes, one.unit, one.provenance)
    wanted = table([[1.0, 2.0, 5.0]]).compare(table([[0.5, 1.0, 1.0]])).frame
    pd.testing.assert_frame_equal(one.compare(other).frame, wanted)
    pd.testing.assert_frame_equal(turned.compare(other).frame, wanted)


def test_one_example_has_no_interval_and_no_test() -> None:
    made = table([[1.0]]).compare(table([[2.0]]))
    assert made.frame.isna().all(axis=None) and "--" in repr(made) and made.plot() is not None


def test_no_open_axis(tmp_path: Path) -> None:
    one, other = (table([[1.0, 2.0, 3.0]], cells=[{}], model=name) for name in ("a", "b"))
    assert "| effect |" in one.compare(other).to_markdown()
    assert len(one.compare(other).save(tmp_path, "none")) == 5


# --- which cells -----------------------------------------------------------------------------------------------------------


def test_cells_are_matched_by_axis_values(tmp_path: Path) -> None:
    cells = [{"layer": k, "position": p} for k in (0, 1) for p in ("B", "B+1")]
    one = table(np.arange(16.0).reshape(4, 4), cells=cells, model="a")
    other = table(np.arange(12.0).reshape(3, 4), cells=[{"layer": 2, "position": "B"}, *cells[:0:-2]], model="b")
    other.to_json(tmp_path / "b.json")
    made = one.compare(PatchingTable.from_json(tmp_path / "b.json"))
    assert made.frame.index.tolist() == [(0, "B+1"), (1, "B+1")], "in the order of the first"
    np.testing.assert_allclose(made.frame["second"], [9.5 / 4, 5.5 / 4])
    assert made.missing == ["only in a: (0, 'B'), (1, 'B')", "only in b: (2, 'B')"]
    assert made.caption().endswith("; ".join(made.missing))


def test_what_only_one_table_has_is_not_listed_without_end() -> None:
    made = table(np.ones((20, 3))).compare(table(np.ones((2, 3))))
    assert made.missing == ["only in first: 2, 3, 4, 5, 6, 7 and 12 more"]


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        ({"cells": [{"head": 0}]}, {}, r"the tables have different axes \(layer and head\); select\(\) drops an axis"),
        ({"cells": [{}]}, {}, r"the tables have different axes \(layer and none\); select\(\) drops an axis"),
        ({"cells": [{"layer": 7}]}, {}, "no cell is in both tables; the first has 0, the second 7"),
        ({"unit": "KL"}, {"by": "effect"}, "effects in logit and in KL cannot be subtracted; try by='normalized'"),
        ({}, {"by": "effects"}, "tables are not compared by 'effects'; did you mean 'effect'?"),
    ],
)
def test_what_cannot_be_compared(other: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(CircuitryError, match=f"^{message.replace('?', '[?]')}$"):
        table([[1.0, 2.0]]).compare(table([[1.0, 2.0]], **other), **options)


@pytest.mark.parametrize(("one", "other", "paired"), [("t", "t", True), ("t", "u", False), (None, None, False)])
def test_pairs_need_the_same_task(one: str | None, other: str | None, paired: bool) -> None:
    made = table([[1.0, 2.0, 4.0]], task=one).compare(table([[1.0, 3.0, 4.0]], task=other))
    assert made.paired is paired and ("3 pairs of examples, sign flips and Johnson's t" in made.caption()) is paired
    assert ("3 and 3 examples, label shuffles and Johnson's t" in made.caption()) is not paired


# --- words and pictures ----------------------------------------------------------------------------------------------------


def large() -> Comparison:
    one, other = two(7, 0.6, 0.4, cells=6)
    return one.compare(other)


def test_it_prints_itself() -> None:
    lines = repr(large()).splitlines()
    assert lines[0] == "small and large" and lines[1].split() == ["layer", "small", "large", "difference", "95%", "interval", "q"]
    assert all("*" in line and " to " in line for line in lines[3:9])
    assert lines[-1].startswith(
        "(normalized effect; small and large; induction (distance 8, seed 0); 95% bootstrap interval of the difference; * q < 0.05 (16 pairs"
    )
    assert "90% interval" in repr(table([[1.0, 2.0]]).compare(table([[1.0, 2.0]]), level=0.9))


def test_tables_are_named_by_what_tells_them_apart() -> None:
    assert table([[1.0, 2.0]], path="a").compare(table([[1.0, 2.0]], path="b")).names == ("a", "b")
    assert table([[1.0, 2.0]]).compare(table([[1.0, 2.0]])).names == ("first", "second")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ({"model": "m", "task": posed("a", x=1)}, {"model": "n", "task": posed("b", x=2)}, ("m", "n")),
        ({"task": TASK}, {"task": {**TASK, "options": {"distance": 16}}}, ("distance=8", "distance=16")),
        ({"task": TASK}, {"task": {**TASK, "options": {"distance": 9}, "seed": 1}}, ("distance=8, seed=0", "distance=9, seed=1")),
        (
            {"task": {**posed("a", c="A", n=1), "varies": {"c": ["A", "B"]}}},
            {"task": posed("a", c="A", n=1)},
            ("c='A' or 'B'", "c='A'"),
        ),
        ({"task": posed("a", n=1)}, {"task": posed("b", n=1)}, ("a", "b")),
        ({"task": {**posed("a"), "source": "1f"}}, {"task": {**posed("a"), "source": "2e"}}, ("a (1f)", "a (2e)")),
        ({"task": posed("a", n=1)}, {"task": posed("a", n=1, m=2)}, ("<task a: n=1>", "<task a: n=1, m=2>")),
        ({"task": "<task a: n=1>"}, {"task": "<task a: n=2>"}, ("<task a: n=1>", "<task a: n=2>")),
        ({"path": "h[{l}] @ B -> logits freezing h"}, {"path": "h[{l}] @ B+1 -> logits freezing h"}, ("B", "B+1")),
        ({"path": "h[0] -> logits freezing h"}, {"path": "h[0] -> logits"}, ("h[0] -> logits freezing h", "h[0] -> logits")),
        ({"path": "mlp[0] -> logits"}, {"path": "h[1] @ B -> logits"}, ("mlp[0]", "h[1] @ B")),
        ({"intervention": "zero", "title": "T"}, {"intervention": "mean", "title": "U"}, ("zero", "mean")),
        ({"title": "States, distance 8"}, {"title": "States, distance 16"}, ("8", "16")),
    ],
)
def test_names_have_only_what_differs(first: dict[str, Any], second: dict[str, Any], names: tuple[str, str]) -> None:
    assert told_apart(first, second) == names and told_apart(second, first) == names[::-1]


def test_tables_whose_records_do_not_differ_are_first_and_second() -> None:
    assert told_apart({"task": TASK}, {"path": "p"}) == ("first", "second")


def test_everything_is_written(tmp_path: Path) -> None:
    made = large()
    written = made.save(tmp_path / "deeper", "both.1")
    assert [path.name for path in written] == [f"both.1{ending}" for ending in (".csv", ".md", ".tex", ".png", ".svg")]
    pd.testing.assert_frame_equal(pd.read_csv(written[0], index_col="layer"), made.frame)
    assert written[1].read_text() == made.to_markdown() + "\n" and r"\toprule" in written[2].read_text()
    shown = " ".join("".join(node.itertext()) for node in xml.parse(written[4]).iter() if node.tag.endswith("}text"))
    for word in ("small", "large", "layer", "normalized effect", "difference", "filled: q < 0.05", "16 pairs"):
        assert word in shown


def test_a_picture_shows_both_numbers_and_the_interval() -> None:
    made = large()
    left, right = made.plot().axes
    first, second = (points.get_offsets().data for points in left.collections[1:3])
    assert first[:, 0].tolist() == made.frame["first"].tolist() and second[:, 0].tolist() == made.frame["second"].tolist()
    (segments,) = (lines.get_segments() for lines in right.collections if hasattr(lines, "get_segments"))
    assert [tuple(segment[:, 0]) for segment in segments] == [
        pytest.approx(pair) for pair in made.frame[["low", "high"]].itertuples(index=False)
    ]


def test_a_picture_of_many_cells_shows_the_largest() -> None:
    one, other = table(np.arange(60.0)[:, None] * np.ones(4)), table(np.zeros((60, 4)))
    figure = one.compare(other).plot()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [str(k) for k in range(20, 60)]
    assert "the 40 largest of 60 cells" in figure.get_supxlabel()
