"""Pictures of tables say what they show."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from circuitry import CircuitryError
from circuitry.drawing import figures
from support.some_tables import ABOUT, CELLS, EFFECT, EVERY, RANDOM, layers, table


def words(path: Path) -> str:
    """All text of an SVG picture."""
    return " ".join("".join(node.itertext()) for node in xml.parse(path).iter() if node.tag.endswith("}text"))


@pytest.mark.parametrize("name", EVERY)
def test_a_picture_names_its_axes_its_unit_and_its_path(name: str, tmp_path: Path) -> None:
    made = EVERY[name]
    made.plot(tmp_path / "deeper" / "t.svg")
    shown = words(tmp_path / "deeper" / "t.svg")
    # A long title is broken into lines.
    assert "mean change of the logit" in shown and ABOUT["path"].replace(" ", "") in shown.replace(" ", "")
    for axis in made.axes:
        assert axis in shown
        for value in made.frame[axis].unique():
            assert str(value) in shown


def test_a_small_heat_map_has_its_numbers(tmp_path: Path) -> None:
    table(CELLS[:-1], EFFECT[:-1]).plot(tmp_path / "t.svg")
    shown = words(tmp_path / "t.svg").replace("\u2212", "-").split()
    assert {"2.0", "0.0", "-3.0", "0.5"} <= set(shown) and "nan" not in shown and "-0.0" not in shown


def test_a_large_heat_map_thins_its_labels(tmp_path: Path) -> None:
    cells = [{"layer": layer, "pos": f"P{pos}"} for layer in range(60) for pos in range(70)]
    table(cells, np.ones((len(cells), 1))).plot(tmp_path / "t.svg")
    assert sum(re.fullmatch(r"P\d+", word) is not None for word in words(tmp_path / "t.svg").split()) <= 24


@pytest.mark.parametrize("name", ("one axis", "two axes", "three axes"))
def test_zero_is_in_the_middle_of_the_colours(name: str) -> None:
    figure = EVERY[name].plot()
    most = EVERY[name].mean().abs().max()
    if name == "one axis":
        colours = [bar.get_facecolor() for bar in figure.axes[0].containers[0].patches]
        means = EVERY[name].mean().tolist()
        for colour, mean in zip(colours, means, strict=True):
            assert np.sign(round(colour[2] - colour[0], 2)) == np.sign(mean), "blue above zero, red below, white at it"
        return
    norm = figure.axes[0].images[0].norm
    assert (norm.vmin, norm(0.0), norm.vmax) == (-most, 0.5, most)


@pytest.mark.parametrize("effect", (0.0, np.nan))
def test_a_table_of_zeros_or_of_nothing_can_be_drawn(effect: float, tmp_path: Path) -> None:
    shapes: list[list[dict[str, Any]]] = [CELLS, CELLS[:1], [{"layer": 0}], [{}]]
    for cells in shapes:
        made = table(cells, np.full((len(cells), 2), effect))
        made.plot(tmp_path / "t.png")
        assert ("--" if np.isnan(effect) else "0.00") in made.to_latex()


def test_the_same_table_gives_the_same_file(tmp_path: Path) -> None:
    for suffix in ("svg", "png", "pdf"):
        one, other = tmp_path / f"one.{suffix}", tmp_path / f"other.{suffix}"
        table().plot(one)
        table().plot(other)
        assert one.read_bytes() == other.read_bytes()


def whiskers(axes: Any) -> list[Any]:
    (lines,) = (c for c in axes.collections if hasattr(c, "get_segments"))
    return [tuple(segment[:, 1]) for segment in lines.get_segments()]


def test_whiskers_are_the_intervals() -> None:
    made = table([{"layer": 0}, {"layer": 1}], [[1.0, 3.0, 4.0, 9.0], [5.0] * 4])
    intervals = made.statistics()[["low", "high"]].itertuples(index=False)
    assert whiskers(made.plot().axes[0]) == [pytest.approx(pair) for pair in intervals]
    assert "whiskers: 95% bootstrap interval" in made.plot().get_supxlabel().replace("\n", " ")
    alone = table([{"layer": 0}], [[1.0]]).plot()
    assert whiskers(alone.axes[0]) == [(1.0, 1.0)] and alone.get_supxlabel() == "blue carries the behaviour, red works against it"


def test_bars_that_are_not_significant_are_hatched() -> None:
    made = table([{"layer": 0}, {"layer": 1}], [[1.0] * 48, [1.0, -1.1] * 24])
    bars = made.plot().axes[0].containers[0].patches
    assert [bool(bar.get_hatch()) for bar in bars] == [False, True] and bars[1].get_facecolor()[3] < bars[0].get_facecolor()[3]
    assert "bars without hatching: q < 0.05" in made.plot().get_supxlabel().replace("\n", " ")


def test_a_band_shows_what_random_nodes_do() -> None:
    made = replace(layers(3, 1), random=RANDOM)
    ax = made.plot().axes[0]
    (ends,) = (lines for lines in ax.collections if getattr(lines, "get_linestyle", lambda: [(0, None)])()[0][1])
    reach = made.random_band().tolist()
    assert [tuple(segment[:, 1]) for segment in ends.get_segments()] == [
        pytest.approx((b, b)) for b in [*(-np.array(reach)), *reach]
    ]
    assert [tuple(segment[:, 0]) for segment in ends.get_segments()][:2] == [(-0.5, 0.5), (0.5, 1.5)], "beside its own bar"
    assert len(ax.containers[0].patches) == len(ax.patches), "nothing is filled but the bars"
    assert "dashed: 95% of random nodes are nearer to zero" in made.plot().get_supxlabel().replace("\n", " ")
    alone, far = layers(3, 1).plot(), replace(layers(3, 1), random=RANDOM.assign(effect=99.0)).plot()
    assert far.axes[0].get_ylim() == alone.axes[0].get_ylim(), "which leaves room for the cells"
    assert "95% of random nodes: within ±99.00, beyond this axis" in far.get_supxlabel().replace("\n", " ")
    grid = replace(table(), random=RANDOM).plot()
    (bracket,) = (line for line in grid.axes[1].lines if not line.get_clip_on())
    assert max(bracket.get_ydata()) == -min(bracket.get_ydata()) == pytest.approx(float(made.random_band().max()))
    assert "bracket beside" in grid.get_supxlabel() and "bracket" not in table().plot().get_supxlabel()


def test_numbers_of_a_heat_map_that_are_not_significant_are_in_italics() -> None:
    made = table(CELLS[:4], [[1.0] * 24, [1.0, -1.1] * 12, [0.0] * 24, [-2.0] * 24])
    styles = {text.get_text(): text.get_fontstyle() for text in made.plot().axes[0].texts}
    assert styles == {"1.0": "normal", "-0.1": "italic", "0.0": "italic", "-2.0": "normal"}
    untested = table(CELLS[:4], EFFECT[:4, :1]).plot()
    assert {text.get_fontstyle() for text in untested.axes[0].texts} == {"normal"}


def test_a_large_heat_map_has_dots_where_it_is_significant() -> None:
    cells = [{"layer": layer, "head": head} for layer in range(20) for head in range(12)]
    effect = np.tile([1.0, -1.1] * 8, (240, 1))
    effect[[13, 239]] = 3.0
    (dots,) = table(cells, effect).plot().axes[0].collections
    assert dots.get_offsets().data.tolist() == [[1.0, 1.0], [11.0, 19.0]]


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match=r"^expected a figure file that ends in .png, .svg or .pdf, got 't\.jpg'$"):
        table().plot(tmp_path / "t.jpg")
    assert figures.COLOURS == "RdBu"
