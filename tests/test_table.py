"""Patching tables: statistics by hand, grids, files that come back the same, and pictures that say what they show."""

from __future__ import annotations

import csv
import json
import re
import sys
import xml.etree.ElementTree as xml
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
    assert text.endswith("(mean change of the logit over 2 examples; tiny_50%, <task induction: distance=8>)")


# --- text ------------------------------------------------------------------------------------------------------------------


def test_markdown_by_hand() -> None:
    assert table(CELLS[:-1], EFFECT[:-1]).to_markdown() == (
        "| layer \\ pos   |   END |    A |   B+1 |\n"
        "|:--------------|------:|-----:|------:|\n"
        "| 0             |  2.00 | 0.00 | -3.00 |\n"
        "| 1             |  0.50 | 0.00 |    -- |\n"
        "\n"
        "*mean change of the logit over 2 examples; tiny_50%, <task induction: distance=8>*"
    )


def test_latex_by_hand() -> None:
    assert table(CELLS[:-1], EFFECT[:-1], model="a_b^c~d").to_latex().splitlines() == [
        r"\begin{table}",
        r"\centering",
        r"\caption{mean change of the logit over 2 examples; a\_b\^{}c\~{}d, \textless{}task induction: distance=8\textgreater{}}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"layer / pos & END & A & B+1 \\",
        r"\midrule",
        r"0 & 2.00 & 0.00 & -3.00 \\",
        r"1 & 0.50 & 0.00 & -- \\",
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
    pytest.importorskip("pyarrow")
    table().to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table().frame)


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("pyarrow", "fastparquet"):
        monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(CircuitryError, match=r"^writing Parquet needs the extra: pip install 'circuitry-lm\[parquet\]'$"):
        table().to_parquet(tmp_path / "t.parquet")


def test_a_table_that_was_run_comes_back_the_same(tmp_path: Path) -> None:
    task = ct.task("induction", distance=4, examples=3, prefix=1)
    made = ct.patch(model("mamba"), task, "ssm_state[{layer}] @ {pos} -> logits", progress=False, lint=False)
    made.to_json(tmp_path / "t.json")
    back = PatchingTable.from_json(tmp_path / "t.json")
    pd.testing.assert_frame_equal(back.frame, made.frame)
    assert back.about == made.about and json.loads((tmp_path / "t.json").read_text())["axes"] == ["layer", "pos"]


def test_save_writes_everything_under_the_name_given(tmp_path: Path) -> None:
    suffixes = (".csv", ".json", ".md", ".tex", ".png", ".svg")
    written = table().save(tmp_path / "deeper", "lag.1")
    assert written == [tmp_path / "deeper" / f"lag.1{suffix}" for suffix in suffixes]
    assert all(path.stat().st_size > 100 for path in written)


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
        colours = [bar.get_facecolor() for bar in figure.axes[0].patches]
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


def test_error_bars_are_the_standard_errors() -> None:
    made = table([{"layer": 0}, {"layer": 1}], [[1.0, 3.0], [5.0, 5.0]])
    (bars,) = made.plot().axes[0].collections
    assert [tuple(segment[:, 1]) for segment in bars.get_segments()] == [(1.0, 3.0), (5.0, 5.0)]


def test_a_picture_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CircuitryError, match=r"^a figure cannot be written as '.jpg'; .png, .svg or .pdf would do$"):
        table().plot(tmp_path / "t.jpg")
    assert figures.COLOURS == "RdBu"
