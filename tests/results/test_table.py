"""Patching tables: statistics by hand, grids, stacks, and as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitry import CircuitryError, PatchingTable
from support.some_tables import ABOUT, CAPTION, CELLS, EFFECT, EVERY, NONE, THREE, layers, table

# --- statistics ------------------------------------------------------------------------------------------------------------


def test_one_row_for_every_cell_and_example() -> None:
    frame = table().frame
    assert list(frame.columns) == ["layer", "pos", "example", "effect", "base", "source"]
    assert len(frame) == 12 and frame["example"].tolist() == [0, 1] * 6
    assert frame["effect"].tolist() == EFFECT.ravel().tolist()
    assert frame.loc[4].to_dict() == {"layer": 0, "pos": "B+1", "example": 0, "effect": -2.0, "base": 1.0, "source": 5.0}


def test_mean_and_share_by_hand() -> None:
    assert table().mean().tolist() == [2.0, -0.002, -3.0, 0.5, 0.0005, 15.0]
    assert table().normalized().tolist() == [0.5, -0.0005, -0.75, 0.125, 0.000125, 3.75]
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
    assert made.normalized().tolist() == [0.5, 1.0]


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
        "| layer   |   mean change of the logit |   95% interval |   normalized |     q |",
        "|:--------|---------------------------:|---------------:|-------------:|------:|",
        "| 0       |                2.00 ± 0.58 |  -0.46 to 4.46 |          50% | 0.250 |",
        "| 1       |                         -- |             -- |           -- |    -- |",
    ]


def test_stars_are_on_what_is_significant() -> None:
    made = table([{"layer": k} for k in range(3)], np.array([[1.0], [-2.0], [0.0]]) * np.ones(32))
    assert made.significant().tolist() == [True, True, False] and made.significant(0.0001).tolist() == [False] * 3
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
    assert list(both.frame.columns) == ["distance", "layer", "example", "effect", "base", "source"]
    assert both.mean().to_dict() == {(8, 0): 1.0, (8, 1): 2.0, (16, 0): 3.0, (16, 1): 4.0}
    assert both.provenance == {**ABOUT, "distance": [8, 16], "title": "by distance"}
    assert "title" not in PatchingTable.stack(parts, "distance").provenance
    for value, part in parts.items():
        chosen = both.select("distance", value)
        pd.testing.assert_frame_equal(chosen.frame, part.frame)
        assert chosen.axes == ("layer",) and chosen.provenance["distance"] == value
    assert both.select("layer", 1).mean().to_dict() == {8: 2.0, 16: 4.0}
    assert both.titled("T").provenance == {**both.provenance, "title": "T"} and both.provenance["title"] == "by distance"


def test_a_stack_over_a_task_option_names_all_its_values_and_a_part_only_its_own(tmp_path: Path) -> None:
    tasks = {n: {"name": "induction", "options": {"distance": n}, "seed": 0} for n in (8, 16)}
    both = PatchingTable.stack(
        {value: replace(layers(1, 2), provenance={**ABOUT, "task": tasks[value]}) for value in tasks}, "distance"
    )
    assert "; tiny_50%, induction (distance 8 or 16, seed 0)" in both.caption()
    both.to_json(tmp_path / "t.json")
    for made in (both, PatchingTable.from_json(tmp_path / "t.json")):
        for value, task in tasks.items():
            for part in (made.select("distance", value), made.select("layer", 1).select("distance", value)):
                assert part.provenance["task"] == task and not {"over", "tasks"} & set(part.provenance)
        assert (
            made.select("layer", 1).provenance["task"] == both.provenance["task"] == {**tasks[8], "varies": {"distance": [8, 16]}}
        )


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([{"name": "a", "options": {"n": 1}}, {"name": "b", "options": {"n": 1}}], "a (n 1) or b (n 1)"),
        (
            [{"name": "a", "options": {"wording": 0, "n": 1}}, {"name": "a", "options": {"wording": 1, "n": 2}}],
            "a (wording 0, n 1) or a (wording 1, n 2)",
        ),
        (["<task a: n=1>", "<task b: n=1>"], "a (n 1) or b (n 1)"),
    ],
    ids=("two tasks", "two options", "tables of old"),
)
def test_a_stack_over_something_else_names_every_task(tasks: list[Any], words: str) -> None:
    both = PatchingTable.stack({k: replace(layers(1), provenance={**ABOUT, "task": tasks[k]}) for k in (0, 1)}, "wording")
    assert both.provenance["task"] == tasks and f"tiny_50%, {words}; " in both.caption()
    assert both.select("wording", 1).provenance["task"] == tasks[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PatchingTable.stack({}, "distance"), "expected at least one table to stack by 'distance', got {}"),
        (
            lambda: PatchingTable.stack({8: NONE}, "effect"),
            "these tables have a column 'effect' already; try another name for the new axis",
        ),
        (
            lambda: PatchingTable.stack({8: layers(1)}, "layer"),
            "these tables have a column 'layer' already; try another name for the new axis",
        ),
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
        r"\caption{\textbf{head[\{layer\},0] @ \{pos\} -\textgreater{} logits.} "
        r"mean change of the logit $\pm$ standard error over 2 examples; "
        r"a\_b\^{}c\~{}d, induction (distance 8); "
        r"* q \textless{} 0.05 (sign flips and Johnson's t, false-discovery control over 5 cells); "
        r"2 examples cannot show anything at q \textless{} 0.05 over 5 cells}",
        r"\label{tab:head-layer-0-pos-logits}",
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"layer / pos & END & A & B+1 \\",
        r"\midrule",
        r"0 & 2.00 $\pm$ 1.00 & 0.00 $\pm$ 0.00 & $-$3.00 $\pm$ 1.00 \\",
        r"1 & 0.50 $\pm$ 0.00 & 0.00 $\pm$ 0.00 & -- \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("digits", (0, 3))
def test_text_has_every_number(name: str, digits: int, tmp_path: Path) -> None:
    made = EVERY[name]
    for text in (made.to_markdown(tmp_path / "t.md", digits), made.to_latex(tmp_path / "t.tex", digits).replace("$-$", "-")):
        for mean in made.mean():
            assert f" {mean:.{digits}f} ".replace(" -0 ", " 0 ") in text
    assert (tmp_path / "t.md").read_text() == made.to_markdown(digits=digits) + "\n"
    assert (tmp_path / "t.tex").read_text() == made.to_latex(digits=digits) + "\n"
    columns = re.search(r"\\begin{tabular}{(l+r+)}", made.to_latex())
    assert columns and {line.count(" & ") for line in made.to_latex().splitlines() if " & " in line} == {len(columns[1]) - 1}


def test_a_mean_that_is_changed_leaves_the_table_as_it_was() -> None:
    one = table([{"layer": 0}], [[1.0, 2.0, 3.0]])
    for column in (one.mean, one.normalized):
        before, given = column().tolist(), column()
        given += 1
        assert column().tolist() == before
