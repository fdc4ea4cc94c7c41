"""Patching tables: statistics by hand, grids, files that come back the same, and pictures that say what they show."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as xml
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitry as ct
from agreement import model
from circuitry import CircuitryError, PatchingTable
from circuitry.results import figures

CAPTION = (
    "mean change of the logit ± standard error over 2 examples; tiny_50%, <task induction: distance=8>; "
    "* q < 0.05 (sign-flip test, false-discovery control over 6 cells); 2 examples cannot show anything at q < 0.05 over 6 cells"
)
CELLS = [{"layer": layer, "pos": pos} for layer in (0, 1) for pos in ("END", "A", "B+1")]
EFFECT = np.array([[1.0, 3.0], [0.0, -0.004], [-2.0, -4.0], [0.5, 0.5], [1e-3, 0.0], [10.0, 20.0]])
ABOUT: dict[str, Any] = {
    "path": "head[{layer},0] @ {pos} -> logits",
    "model": "tiny_50%",
    "task": "<task induction: distance=8>",
    "seed": 0,
}


def table(cells: list[dict[str, Any]] = CELLS, effect: Any = EFFECT, **about: Any) -> PatchingTable:
    effect = np.asarray(effect, float)
    examples = effect.shape[1]
    return PatchingTable.of(
        cells, effect, np.full(examples, 1.0), np.full(examples, 5.0), "change of the logit", {**ABOUT, **about}
    )


def layers(*means: float) -> PatchingTable:
    return table([{"layer": k} for k in range(len(means))], [[mean, mean] for mean in means])


NONE = table([{}], [[1.0, 2.0, 6.0]])
THREE = table(
    [{"layer": layer, "head": head, "pos": pos} for layer in (0, 1) for head in (0, 1) for pos in ("B", "A")],
    np.arange(16).reshape(8, 2),
)
EVERY = {"no axis": NONE, "one axis": layers(1, -2, 0), "two axes": table(), "three axes": THREE}


# --- statistics ------------------------------------------------------------------------------------------------------------


def test_one_row_for_every_cell_and_example() -> None:
    frame = table().frame
    assert list(frame.columns) == ["layer", "pos", "example", "effect", "base", "other"]
    assert len(frame) == 12 and frame["example"].tolist() == [0, 1] * 6
    assert frame["effect"].tolist() == EFFECT.ravel().tolist()
    assert frame.loc[4].to_dict() == {"layer": 0, "pos": "B+1", "example": 0, "effect": -2.0, "base": 1.0, "other": 5.0}


def test_mean_and_share_by_hand() -> None:
    assert table().mean().tolist() == [2.0, -0.002, -3.0, 0.5, 0.0005, 15.0]
    assert table().share().tolist() == [0.5, -0.0005, -0.75, 0.125, 0.000125, 3.75]
    assert table().mean().index.tolist() == [(cell["layer"], cell["pos"]) for cell in CELLS], "in the order of the cells"
    assert NONE.mean().tolist() == [3.0]


def test_standard_error_by_hand() -> None:
    assert table().sem().tolist() == pytest.approx([1.0, 0.002, 1.0, 0.0, 0.0005, 5.0])
    assert NONE.sem().tolist() == pytest.approx([np.sqrt(7 / 3)])
    assert table([{}], [[1.0]]).sem().isna().all()


def test_a_share_is_of_the_cells_own_whole() -> None:
    """Where cells read different sites, each has its own base and its own whole."""
    base, other = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([[2.0, 2.0], [1.5, 1.5]])
    made = PatchingTable.of([{"pos": "A"}, {"pos": "B"}], np.array([[1.0, 1.0], [0.5, 0.5]]), base, other, "logit")
    assert made.share().tolist() == [0.5, 1.0]


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), min_size=1, max_size=12))
def test_mean_and_error_are_those_of_numpy(effect: list[list[float]]) -> None:
    made = table([{"layer": k} for k in range(len(effect))], effect)
    np.testing.assert_allclose(made.mean(), np.mean(effect, 1), atol=1e-9)
    np.testing.assert_allclose(made.sem(), np.std(effect, 1, ddof=1) / np.sqrt(2), rtol=1e-6, atol=1e-6)


# --- grids -----------------------------------------------------------------------------------------------------------------


def test_pivot_has_the_last_axis_across_in_its_own_order() -> None:
    grid = table().pivot()
    assert list(grid.columns) == ["END", "A", "B+1"] and list(grid.index) == [0, 1]
    assert grid.to_numpy().tolist() == [[2.0, -0.002, -3.0], [0.5, 0.0005, 15.0]]
    assert table().pivot(table().sem()).loc[1, "B+1"] == 5.0


def test_pivot_keeps_the_order_of_the_rows() -> None:
    cells = [{"pos": pos, "layer": layer} for pos in ("END", "A") for layer in (2, 0)]
    grid = table(cells, np.arange(8).reshape(4, 2)).pivot()
    assert list(grid.index) == ["END", "A"] and [*map(int, grid.columns)] == [2, 0]
    assert grid.to_numpy().tolist() == [[0.5, 2.5], [4.5, 6.5]]


def test_pivot_of_three_axes_has_two_in_the_rows() -> None:
    grid = THREE.pivot()
    assert list(grid.index) == [(0, 0), (0, 1), (1, 0), (1, 1)] and list(grid.columns) == ["B", "A"]
    assert grid.loc[(1, 0), "A"] == 10.5


def test_pivot_of_one_axis_is_a_row_and_of_none_a_number() -> None:
    assert layers(1, -2).pivot().to_numpy().tolist() == [[1.0, -2.0]]
    assert NONE.pivot().to_numpy().tolist() == [[3.0]]


def test_cells_that_were_left_out_are_empty() -> None:
    grid = table(CELLS[:-1], EFFECT[:-1]).pivot()
    assert grid.isna().to_numpy().tolist() == [[False, False, False], [False, False, True]]


def test_a_table_prints_itself() -> None:
    text = repr(table())
    assert text.splitlines()[0] == ABOUT["path"]
    assert text.splitlines()[3].split() == ["0", "2.00", "±", "1.00", "0.00", "±", "0.00", "-3.00", "±", "1.00"]
    assert text.splitlines()[-1] == f"({CAPTION})"


def test_a_wide_grid_prints_without_errors_but_with_stars() -> None:
    cells = [{"layer": layer, "head": head} for layer in range(2) for head in range(12)]
    lines = repr(table(cells, np.ones((24, 12)))).splitlines()
    assert lines[3].split() == ["0", *["1.00*"] * 12] and max(map(len, lines[1:-1])) <= 130


def test_one_axis_prints_a_row_for_each_cell() -> None:
    made = table([{"layer": 0}, {"layer": 1}], [[1.0, 2.0, 3.0], [np.nan] * 3])
    assert made.to_markdown().splitlines()[:4] == [
        "| layer   |   mean change of the logit |   95% interval |   share |     q |",
        "|:--------|---------------------------:|---------------:|--------:|------:|",
        "| 0       |                2.00 ± 0.58 |   1.00 to 3.00 |     50% | 0.250 |",
        "| 1       |                         -- |             -- |      -- |    -- |",
    ]


def test_stars_are_on_what_is_significant() -> None:
    made = table([{"layer": k} for k in range(3)], np.array([[1.0], [-2.0], [0.0]]) * np.ones(8))
    assert made.significant().tolist() == [True, True, False] and made.significant(0.001).tolist() == [False] * 3
    assert [row.split("|")[2].strip() for row in made.to_markdown().splitlines()[2:5]] == [
        "1.00 ± 0.00*",
        "-2.00 ± 0.00*",
        "0.00 ± 0.00",
    ]


def test_the_caption_says_what_cannot_be_shown() -> None:
    wide = [{"layer": k} for k in range(270)]
    assert "8 examples cannot show fewer than 43 cells at q < 0.05 over 270" in table(wide, np.ones((270, 8))).caption()
    assert "5 examples cannot show anything at q < 0.05 over 1 cell" in table([{}], np.ones((1, 5))).caption()
    assert "cannot" not in table(wide, np.ones((270, 16))).caption()


# --- stacks and parts ------------------------------------------------------------------------------------------------------


def test_what_is_stacked_can_be_selected() -> None:
    parts = {8: layers(1, 2), 16: layers(3, 4)}
    both = PatchingTable.stack(parts, "distance", "by distance")
    assert list(both.frame.columns) == ["distance", "layer", "example", "effect", "base", "other"]
    assert both.mean().to_dict() == {(8, 0): 1.0, (8, 1): 2.0, (16, 0): 3.0, (16, 1): 4.0}
    assert both.about == {**ABOUT, "distance": [8, 16], "title": "by distance"}
    assert "title" not in PatchingTable.stack(parts, "distance").about
    for value, part in parts.items():
        chosen = both.select("distance", value)
        pd.testing.assert_frame_equal(chosen.frame, part.frame)
        assert chosen.axes == ("layer",) and chosen.about["distance"] == value
    assert both.select("layer", 1).mean().to_dict() == {8: 2.0, 16: 4.0}
    assert both.titled("T").about == {**both.about, "title": "T"} and both.about["title"] == "by distance"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchingTable.stack({}, "distance"), "no tables to stack by 'distance'; at least one would do"),
        (
            lambda: PatchingTable.stack({8: NONE}, "effect"),
            "these tables have a column 'effect' already; another name .* would do",
        ),
        (lambda: PatchingTable.stack({8: layers(1)}, "layer"), "these tables have a column 'layer' already; another .* would do"),
        (lambda: PatchingTable.stack({8: layers(1), 16: NONE}, "far"), r"the table at far 16 has axes \(\) .* can be stacked"),
        (lambda: layers(1).select("layr", 0), "this table has no axis 'layr'; did you mean 'layer'[?]"),
        (lambda: layers(1, 2).select("layer", 7), "no cell has layer 7; there are 0, 1"),
    ],
)
def test_what_cannot_be_stacked_or_selected(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(CircuitryError, match=f"^{message}$"):
        make()


# --- text ------------------------------------------------------------------------------------------------------------------


def test_markdown_by_hand() -> None:
    assert table(CELLS[:-1], EFFECT[:-1]).to_markdown() == (
        "| layer \\ pos   |         END |           A |          B+1 |\n"
        "|:--------------|------------:|------------:|-------------:|\n"
        "| 0             | 2.00 ± 1.00 | 0.00 ± 0.00 | -3.00 ± 1.00 |\n"
        "| 1             | 0.50 ± 0.00 | 0.00 ± 0.00 |           -- |\n"
        "\n"
        "*" + CAPTION.replace("*", "\\*").replace("6 cells", "5 cells") + "*"
    )


def test_latex_by_hand() -> None:
    assert table(CELLS[:-1], EFFECT[:-1], model="a_b^c~d").to_latex().splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{mean change of the logit $\pm$ standard error over 2 examples; "
        r"a\_b\^{}c\~{}d, \textless{}task induction: distance=8\textgreater{}; "
        r"* q \textless{} 0.05 (sign-flip test, false-discovery control over 5 cells); "
        r"2 examples cannot show anything at q \textless{} 0.05 over 5 cells}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"layer / pos & END & A & B+1 \\",
        r"\midrule",
        r"0 & 2.00 $\pm$ 1.00 & 0.00 $\pm$ 0.00 & -3.00 $\pm$ 1.00 \\",
        r"1 & 0.50 $\pm$ 0.00 & 0.00 $\pm$ 0.00 & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("digits", (0, 3))
def test_text_has_every_number(name: str, digits: int, tmp_path: Path) -> None:
    made = EVERY[name]
    for text in (made.to_markdown(tmp_path / "t.md", digits), made.to_latex(tmp_path / "t.tex", digits)):
        for mean in made.mean():
            assert f" {mean:.{digits}f} ".replace(" -0 ", " 0 ") in text
    assert (tmp_path / "t.md").read_text() == made.to_markdown(digits=digits) + "\n"
    assert (tmp_path / "t.tex").read_text() == made.to_latex(digits=digits) + "\n"
    columns = re.search(r"\\begin{tabular}{(l+r+)}", made.to_latex())
    assert columns and {line.count(" & ") for line in made.to_latex().splitlines() if " & " in line} == {len(columns[1]) - 1}


# --- files -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_json_comes_back_the_same(name: str, tmp_path: Path) -> None:
    EVERY[name].to_json(tmp_path / "deeper" / "t.json")
    back = PatchingTable.from_json(tmp_path / "deeper" / "t.json")
    pd.testing.assert_frame_equal(back.frame, EVERY[name].frame)
    assert (back.axes, back.unit, back.about) == (EVERY[name].axes, EVERY[name].unit, EVERY[name].about)
    assert repr(back) == repr(EVERY[name])


@pytest.mark.parametrize("text", ("", "[]", "{}", '{"rows": {}}', '{"rows": 3, "axes": [], "unit": "", "about": {}}'))
def test_other_json_is_no_table(text: str, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(CircuitryError, match=r"t\.json is no patching table \(.*\); to_json writes one$"):
        PatchingTable.from_json(tmp_path / "t.json")


@pytest.mark.parametrize("name", EVERY)
def test_csv_has_every_row(name: str, tmp_path: Path) -> None:
    EVERY[name].to_csv(tmp_path / "deeper" / "t.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "deeper" / "t.csv"), EVERY[name].frame, check_dtype=False)
    with (tmp_path / "deeper" / "t.csv").open() as file:
        assert next(csv.reader(file)) == [*EVERY[name].axes, "example", "effect", "base", "other"]


def test_parquet_comes_back_the_same(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "deeper" / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "deeper" / "t.parquet"), table().frame)


def test_parquet_has_mixed_axes_as_text(tmp_path: Path) -> None:
    table([{"pos": 3}, {"pos": "END"}, {"pos": ("B", 1)}], EFFECT[:3]).to_parquet(tmp_path / "t.parquet")
    assert pd.read_parquet(tmp_path / "t.parquet")["pos"].unique().tolist() == ["3", "END", "('B', 1)"]


RANDOM = pd.DataFrame(
    {"draw": [0, 0, 1, 1], "node": ["a", "a", "b", "b"], "example": [0, 1, 0, 1], "effect": [0.5, 1.0, -2.0, 0.0]}
)


def test_json_keeps_random_nodes_and_axes_of_any_kind(tmp_path: Path) -> None:
    cells = [{"pair": pair, "pos": pos} for pair in ((0, 1), (2, 3)) for pos in (3, "END")]
    made = table(cells, EFFECT[:4])
    made = PatchingTable.stack({8: replace(made, random=RANDOM), "far": made}, "distance")
    made.to_json(tmp_path / "t.json")
    back = PatchingTable.from_json(tmp_path / "t.json")
    pd.testing.assert_frame_equal(back.frame, made.frame)
    assert back.random is not None and made.random is not None
    pd.testing.assert_frame_equal(back.random, made.random)
    pd.testing.assert_frame_equal(back.statistics(), made.statistics())
    assert back.statistics()["beyond_random"].notna().tolist() == [True] * 4 + [False] * 4
    assert repr(back) == repr(made) and [type(v) for v in back.frame["pair"]] == [tuple] * 16
    assert list(back.select("pair", (2, 3)).select("distance", "far").pivot().columns) == [3, "END"]


def test_json_from_before_random_nodes_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(
        '{"about": {}, "axes": ["layer"], "unit": "logit",'
        ' "rows": {"layer": [0, 0], "example": [0, 1], "effect": [1.0, 3.0], "base": [0, 0], "other": [4, 4]}}'
    )
    back = PatchingTable.from_json(tmp_path / "t.json")
    assert back.random is None and back.share().tolist() == [0.5]


def test_a_table_that_was_run_comes_back_the_same(tmp_path: Path) -> None:
    task = ct.task("induction", distance=4, examples=3, prefix=1)
    made = ct.patch(model("mamba"), task, "ssm_state[{layer}] @ {pos} -> logits", progress=False, lint=False)
    made.to_json(tmp_path / "t.json")
    back = PatchingTable.from_json(tmp_path / "t.json")
    pd.testing.assert_frame_equal(back.frame, made.frame)
    assert back.about == made.about and json.loads((tmp_path / "t.json").read_text())["axes"] == ["layer", "pos"]


def test_save_writes_everything_under_the_name_given(tmp_path: Path) -> None:
    suffixes = (".csv", ".parquet", ".json", ".md", ".tex", ".png", ".svg", "-statistics.csv")
    written = table().save(tmp_path / "deeper", "lag.1")
    assert written == [tmp_path / "deeper" / f"lag.1{suffix}" for suffix in suffixes]
    assert all(path.stat().st_size > 100 for path in written)
    back = pd.read_csv(written[-1], index_col=["layer", "pos"])
    pd.testing.assert_frame_equal(back, table().statistics(), check_dtype=False)


def test_an_axis_cannot_be_called_like_a_column() -> None:
    task = ct.task("induction", distance=4, examples=3, prefix=1)
    with pytest.raises(
        CircuitryError, match=r"^every table has a column 'effect', so no axis can be called that; {effects} would do$"
    ):
        ct.patch(model("gpt2"), task, "mlp[{effect}] -> logits", progress=False)


# --- pictures --------------------------------------------------------------------------------------------------------------


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
    assert whiskers(alone.axes[0]) == [(1.0, 1.0)] and alone.get_supxlabel() == ""


def test_bars_that_are_not_significant_are_hatched() -> None:
    made = table([{"layer": 0}, {"layer": 1}], [[1.0] * 8, [1.0, -1.1] * 4])
    bars = made.plot().axes[0].containers[0].patches
    assert [bool(bar.get_hatch()) for bar in bars] == [False, True] and bars[1].get_facecolor()[3] < bars[0].get_facecolor()[3]
    assert "bars without hatching: q < 0.05" in made.plot().get_supxlabel().replace("\n", " ")


def test_a_band_shows_what_random_nodes_do() -> None:
    made = replace(layers(3, 1), random=RANDOM)
    band = made.plot().axes[0].containers[-1].patches
    assert [(bar.get_y(), bar.get_height()) for bar in band] == [pytest.approx((-b, 2 * b)) for b in made.random_band()]
    assert "grey band: 95% of random nodes" in made.plot().get_supxlabel().replace("\n", " ")
    alone = layers(3, 1).plot().axes[0].get_ylim()
    assert replace(layers(3, 1), random=RANDOM.assign(effect=99.0)).plot().axes[0].get_ylim() == alone, (
        "which leaves room for the cells"
    )
    grid = replace(table(), random=RANDOM).plot()
    (band,) = (patch for patch in grid.axes[1].patches if patch.get_width() == 0.35)
    assert band.get_height() == pytest.approx(2 * float(made.random_band().max()))
    assert "grey on the colour bar" in grid.get_supxlabel() and "grey" not in table().plot().get_supxlabel()


def test_numbers_of_a_heat_map_that_are_not_significant_are_in_italics() -> None:
    made = table(CELLS[:4], [[1.0] * 8, [1.0, -1.1] * 4, [0.0] * 8, [-2.0] * 8])
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
    with pytest.raises(CircuitryError, match=r"^a figure cannot be written as '.jpg'; .png, .svg or .pdf would do$"):
        table().plot(tmp_path / "t.jpg")
    assert figures.COLOURS == "RdBu"
