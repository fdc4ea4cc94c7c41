"""Figures for a paper are a column wide, in 8-point serif type that can be edited; SVGs are legible on a dark page."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from circuitry import CircuitryError
from circuitry.colours import AGAINST, TOWARDS, box_ink, fill, fill_on_dark
from circuitry.drawing import figures
from circuitry.drawing.dark import turned
from circuitry.drawing.embedded import embedded
from circuitry.evidence.grid import Sensitivity
from circuitry.evidence.scores import Scores
from circuitry.results import PatchingTable
from circuitry.results.split_cells import split_cells
from support.command import circuitry
from support.drawn import MAMBA, TRANSFORMER
from support.some_tables import CELLS, EVERY, THREE, layers, table

COLUMN = 3.25
GRID = Sensitivity(
    "h[3] -> logits",
    3,
    pd.DataFrame({
        "ablation": ["zero"], "direction": ["noising"], "frozen": ["as written"], "metric": ["logit"], "normalized": [2e-6], "holds": [True],
    }),
)  # fmt: skip
NODES = [f"head[{k // 12},{k % 12}]" for k in range(70)]
SCORES = Scores(
    {"mover": NODES}, 0.8, (0.7, 0.9), [0.1, 0.2],
    pd.DataFrame({"without": ["half 0"], "circuit": [0.1], "model": [0.2], "gap": [0.1]}),
    pd.DataFrame({"node": NODES, "change": np.linspace(0, 1, 70)}), [0.1], layers(1, 2),
)  # fmt: skip
PLOTTED: dict[str, Any] = {
    **EVERY,
    "comparison": THREE.compare(THREE),
    "sensitivity": GRID,
    "scores": SCORES,
}


def texts(figure: Any) -> list[Any]:
    return [text for text in figure.findobj(Text) if text.get_text().strip()]


@pytest.mark.parametrize("name", PLOTTED)
def test_a_figure_for_a_paper_has_the_columns_width_and_serif_type(name: str, tmp_path: Path) -> None:
    figure = PLOTTED[name].plot(tmp_path / "t.svg", style="paper")
    assert figure.get_figwidth() == COLUMN
    assert {text.get_fontfamily()[0] for text in texts(figure)} == {"STIXGeneral"}
    assert max(text.get_fontsize() for text in texts(figure)) == 8
    picture = xml.parse(tmp_path / "t.svg").getroot()
    assert picture.get("width") == f"{72 * COLUMN:g}pt", "nothing is cut off or added"
    assert any(node.tag.endswith("}text") for node in picture.iter()), "text stays text"
    families = re.findall(r"font-family: ([^;\"]*)", (tmp_path / "t.svg").read_text())
    assert families and all("serif" in family for family in families)
    assert PLOTTED[name].plot().get_figwidth() != COLUMN, "only where it is asked for"


@pytest.mark.parametrize("circuit", [MAMBA, TRANSFORMER], ids=lambda c: c.title)
def test_a_circuit_for_a_paper_too(circuit: Any, tmp_path: Path) -> None:
    figure = circuit.draw(style="paper")
    assert figure.get_figwidth() <= COLUMN and {text.get_fontfamily()[0] for text in texts(figure)} == {"STIXGeneral"}
    circuit.save(tmp_path / "t.pdf", style="paper")
    assert b"STIXGeneral" in (tmp_path / "t.pdf").read_bytes() and b"/Type3" not in (tmp_path / "t.pdf").read_bytes()


def test_the_numbers_of_a_heat_map_without_room_become_dots() -> None:
    cells = [{"layer": layer, "head": head} for layer in range(2) for head in range(16)]
    made = table(cells, np.ones((32, 96)))
    wide, narrow = made.plot(), made.plot(style="paper")
    assert len(wide.axes[0].texts) == 32 and not narrow.axes[0].texts and len(narrow.axes[0].collections) == 1


def test_a_style_holds_for_a_block_and_an_unknown_one_is_refused() -> None:
    with figures.styled("paper"):
        assert table().plot().get_figwidth() == COLUMN
    assert table().plot().get_figwidth() != COLUMN
    with pytest.raises(CircuitryError, match=r"no style 'papre' of figures; did you mean 'paper'[?]"):
        table().plot(style="papre")


def test_the_scores_of_seventy_nodes_fit_three_panels() -> None:
    figure = SCORES.plot()
    assert len(figure.axes) == 3 and figure.get_figheight() < 3
    assert (
        len(figure.axes[2].patches) == 70 and not figure.axes[2].get_yticklabels() and "70 nodes" in figure.axes[2].get_ylabel()
    )


def test_bars_with_long_names_are_the_largest_in_their_order() -> None:
    effect = np.array([[(-1) ** k * k] * 3 for k in range(70)], float)
    made = table([{"set": f"the circuit without node {k}"} for k in range(70)], effect).plot()
    names = [label.get_text() for label in made.axes[0].get_yticklabels()]
    assert names == [f"the circuit without node {k}" for k in range(30, 70)]
    assert "the 40 largest of 70 cells" in made.get_supxlabel().replace("\n", " ")


@pytest.mark.parametrize("size", (3e-6, 0.04))
@pytest.mark.parametrize("cells", ([{"layer": k} for k in range(6)], CELLS), ids=("bars", "heat map"))
def test_a_figure_of_small_effects_names_its_scale(cells: list[dict[str, Any]], size: float) -> None:
    figure = table(cells, size * np.arange(1, 13).reshape(6, 2) / 12).plot()
    figure.draw_without_rendering()
    shown = [text.get_text().replace("\u2212", "-") for text in texts(figure)]
    assert any(text.startswith("mean change of the logit, in 1e") for text in shown)
    assert not {"0.0", "0.00"} & set(shown)


# --- on a dark page --------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    linear = [((int(colour[i : i + 2], 16) / 255 + 0.055) / 1.055) ** 2.4 for i in (1, 3, 5)]
    return float(sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True)))


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ink", ("#000000", "#222222", "#444444", "#666666", AGAINST, TOWARDS))
def test_ink_has_contrast_on_both_pages(ink: str) -> None:
    dark = turned(ink)
    assert dark and contrast(ink, "#ffffff") >= 4.5 and contrast(dark, "#1b1d21") >= 4.5


def test_no_box_has_the_colour_of_an_arrow() -> None:
    """On a dark page an arrow's colour turns, and that of a box stays; a picture knows them only by their colour."""
    assert {fill(effect, 1.0) for effect in np.linspace(-1, 1, 20001)}.isdisjoint({AGAINST, TOWARDS})


def test_text_on_a_box_can_be_read_on_both_pages() -> None:
    for effect in (np.nan, *np.linspace(-1, 1, 1501)):
        box, ink = fill(effect, 1.0), box_ink(effect, 1.0)
        dark_box, dark_ink = fill_on_dark(box), ink if ink == "#040404" else turned(ink) if ink != "#ffffff" else ink
        assert dark_box and dark_ink and min(contrast(box, ink), contrast(dark_box, dark_ink)) >= 4.4, effect


def test_a_saved_picture_has_colours_for_a_dark_page_and_none_of_its_own_behind(tmp_path: Path) -> None:
    for name, value in {"map": table(), "bars": layers(1, -2)}.items():
        value.plot(tmp_path / f"{name}.svg")
        text = (tmp_path / f"{name}.svg").read_text()
        assert "light-dark(#000000, #e8e8e8)" in text and text.count("<svg") == 1
        first = re.search(r'<g id="patch_1">\s*<path[^>]*style="([^"]*)"', text)
        assert first and "fill: none" in first[1], "the page is seen through the picture"
    xml.parse(tmp_path / "map.svg")


def test_only_boxes_of_diagrams_turn_and_cells_keep_their_colours() -> None:
    """Cells have some colours that boxes have too, and others that they have not: all turn or none does."""
    stacked = PatchingTable.stack({"IO": table(), "S": table()}, "metric")
    cells, boxes = (figures.as_svg(drawn) for drawn in (split_cells(stacked, "metric"), MAMBA.draw()))
    rules = re.compile(r"(\S+) \[style\*='fill: (#\w{6})'\] \{ fill: light-dark")
    effects = {text: {part for part, colour in rules.findall(text) if fill_on_dark(colour)} for text in (cells, boxes)}
    inside = "[id$='boxes']"
    assert effects[boxes] == {inside} and effects[cells] <= {inside} and 'boxes"' not in cells
    for drawn in (boxes, embedded(MAMBA, "prefix")):
        assert len(re.findall(r'id="\S*boxes"', drawn)) == drawn.count("<svg"), (
            "the id is found in a page too, where it has a prefix"
        )


def test_text_on_cells_keeps_its_colour_and_other_text_turns() -> None:
    text = figures.as_svg(table().plot())
    rules = dict(re.findall(r"\[style\*='fill: (#\w{6})'\] \{ fill: light-dark\(\1, (#\w{6})", text))
    on_cells = set(re.findall(r"font-size: 6px[^\"]*text-anchor: middle; fill: (#\w{6})[^>]*>-?[\d.]+<", text))
    assert on_cells and not on_cells & set(rules) and rules, (on_cells, rules)


def test_png_and_pdf_stay_white(tmp_path: Path) -> None:
    from PIL import Image

    table().plot(tmp_path / "t.png")
    assert Image.open(tmp_path / "t.png").convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def test_the_command_line_has_the_style(tmp_path: Path) -> None:
    circuitry(
        "patch", "bundled:mamba", "ssm_state[{layer}] @ B+1 -> logits", "--examples", "4", "-o", "distance=8", "--baseline", "0", "--style",
        "paper", "--out", str(tmp_path / "t.svg"),
    )  # fmt: skip
    assert xml.parse(tmp_path / "t.svg").getroot().get("width") == f"{72 * COLUMN:g}pt"
    assert FontProperties(family="STIXGeneral").get_name() == "STIXGeneral"
