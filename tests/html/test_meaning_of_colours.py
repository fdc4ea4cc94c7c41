"""What carries the behaviour has one hue, and what works against it another, wherever an effect is drawn."""

from __future__ import annotations

import colorsys
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from circuitry import PatchingTable
from circuitry.colours import MEANING
from circuitry.drawing.circuit import Circuit, CircuitEdge, CircuitNode
from circuitry.drawing.figures import as_svg
from circuitry.reports import write_comparison, write_report
from circuitry.results.split_cells import split_cells
from support.outputs import Output
from support.run_folders import run_folder, text_of

EXPLORER = Path(__file__).parents[2] / "circuitry" / "explorer" / "templates" / "explorer.css"


def hues(css: str) -> set[str]:
    """Blue or red, for every colour of a value: those of a light and those of a dark page."""
    found = set()
    for colour in re.findall(r"#[0-9a-f]{6}", css):
        hue = colorsys.rgb_to_hsv(*to_rgb(colour))[0]
        found.add("blue" if 0.5 < hue < 0.7 else "red" if hue < 0.1 or hue > 0.93 else colour)
    return found


def table(sign: int, *axes: str, carried: float = 0.7) -> PatchingTable:
    """Two cells, which carry ``carried`` and minus that of an effect that lowers (-1) or raises (1) the metric."""
    cells = [{axis: n if axis == "layer" else "B" for axis in axes} for n in (0, 1)]
    whole = sign * 4.0
    effects = whole * carried * np.array([[1.0], [-1.0]]) * np.linspace(0.99, 1.01, 32)
    return PatchingTable.of(cells, effects, np.full(32, 1.0), np.full(32, 1.0 + whole), "change of the logit", {"path": "a -> b"})


def circuit(whole: float | None) -> Circuit:
    """The same effects as boxes and arrows, normalized, or in the unit of a metric whose whole effect is given."""
    strong, weak = 0.7 * (whole or 1.0), -0.6 * (whole or 1.0)
    nodes = CircuitNode("carries", "B", 0, strong), CircuitNode("against", "B", 1, weak), CircuitNode("logits", "B", 2, np.nan)
    edges = CircuitEdge("carries", "logits", strong), CircuitEdge("against", "logits", weak)
    return Circuit("c", ("B",), nodes, edges, "logit" if whole else "normalized effect", whole=whole)


def of_table(html: str) -> list[set[str]]:
    """Hues of the two cells of a table, in metric's unit and normalized, or of its two bars."""
    cells = re.findall(r'style="--f:([^;]*);--i:[^;]*;--fs:([^;]*);', html)
    return [hues(" ".join(pair)) for pair in cells] or [
        hues(bar) for bar in re.findall(r'class="bar" style="[^"]*colou?r:([^"]*)"', html)
    ]


def of_drawing(svg: str, part: str) -> list[set[str]]:
    """Hues of a circuit's two boxes ("fill") or two arrows ("stroke")."""
    names = {"fill": ("node carries", "node against"), "stroke": ("edge carries -&gt; logits", "edge against -&gt; logits")}[part]
    return [hues(re.search(rf'<g id="{name}">\s*<path[^>]*?{part}: (#\w+)', svg)[1]) for name in names]  # type: ignore[index]


def of_picture(image: Any) -> list[set[str]]:
    """Hues of the two rows of a matplotlib picture, or of its two bars."""
    colours = image.to_rgba(image.get_array().ravel()) if hasattr(image, "to_rgba") else [bar.get_facecolor() for bar in image]
    return [hues("#" + "".join(f"{round(255 * channel):02x}" for channel in colour[:3])) for colour in colours]


BOTH = [{"blue"}, {"red"}]
"""Of what carries the behaviour, and of what works against it."""


@pytest.mark.parametrize("sign", [1, -1])
def test_a_notebook_table(sign: int) -> None:
    for axes in (("layer", "at"), ("layer",)):
        shown = table(sign, *axes)._repr_html_()
        assert of_table(shown) == BOTH and MEANING in Output(shown).text


@pytest.mark.parametrize("sign", [1, -1])
def test_a_report_and_its_heat_map(sign: int, tmp_path: Path) -> None:
    page = text_of(write_report(run_folder(tmp_path, {"map": table(sign, "layer", "at")})))
    assert of_table(page) == BOTH and f"<span>{MEANING}</span>" in page
    legend = re.search(r'of-effect">([^<]*)<span class="ramp" style="[^"]*"></span>([^<]*)<', page)
    assert legend and [text.strip() for text in legend.groups()] == (["−2.80", "+2.80"] if sign > 0 else ["+2.80", "−2.80"])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_saved_picture_of_a_table(sign: int) -> None:
    shown = table(sign, "layer", "at").plot()
    assert of_picture(shown.axes[0].images[0]) == BOTH and MEANING in shown.get_supxlabel().replace("\n", " ")
    top = [text.get_text() for text in shown.axes[1].get_yticklabels()][-2]
    assert top.startswith("-") == (sign < 0), "the numbers are the metric's, and blue is at the top"
    bars = table(sign, "layer").plot()
    assert of_picture(bars.axes[0].containers[0].patches) == BOTH and MEANING in bars.get_supxlabel().replace("\n", " ")


def test_a_picture_of_cells_in_two_halves() -> None:
    """What carries one half may raise its metric, and what carries the other lower it: then the scale has sizes."""
    halves = PatchingTable.stack({"IO": table(-1, "layer", "at"), "S": table(1, "layer", "at")}, "metric")
    drawn = split_cells(halves, "metric")
    assert of_picture(drawn.axes[0].collections[0]) == [*BOTH, *BOTH]
    assert "-" not in "".join(text.get_text() for text in drawn.axes[1].get_yticklabels())


@pytest.mark.parametrize("whole", [None, 4.0, -4.0])
def test_a_circuit_in_every_format(whole: float | None) -> None:
    drawn = circuit(whole)
    svg = as_svg(drawn.draw())
    assert of_drawing(svg, "fill") == BOTH and of_drawing(svg, "stroke") == BOTH
    assert f"{MEANING[1:]}." in svg, "the legend says it"
    assert [hues(colour) for colour in re.findall(r'fillcolor="(#\w+)"', drawn.to_dot())[:2]] == BOTH
    assert [hues(colour) for colour in re.findall(r' color="(#\w+)"', drawn.to_dot())] == BOTH
    assert [hues(colour) for colour in re.findall(r"fill:(#\w+)", drawn.to_mermaid())[:2]] == BOTH
    assert Circuit.from_json(drawn.to_json()).whole == whole


def test_a_circuit_says_nothing_of_the_behaviour_if_it_does_not_know_the_whole_effect() -> None:
    assert MEANING[1:] not in as_svg(replace(circuit(None), unit="change of logit").draw())


def test_chips_of_a_comparison(tmp_path: Path) -> None:
    for name, sign in (("one", 1), ("two", -1)):
        tables = {name: table(sign, "layer", "at")}
        run_folder(tmp_path / name, tables, model=name)
        (tmp_path / name / "circuit.json").write_text(circuit(4.0 * sign).to_json())
    page = text_of(write_comparison(tmp_path / "one", tmp_path / "two", tmp_path / "out"))
    chips = dict(re.findall(r'class="chip" style="background:([^;]*);[^>]*><code>(\w+)</code>', page))
    assert {frozenset(hues(colour)) for colour, name in chips.items() if name == "carries"} == {frozenset({"blue"})}
    assert {frozenset(hues(colour)) for colour, name in chips.items() if name == "against"} == {frozenset({"red"})}
    alone = re.findall(r'class="chip" style="background:([^;]*);[^>]*title="[^"]*normalized effect: (−?)70 %', page)
    assert len(alone) == 4 and all(hues(colour) == ({"red"} if minus else {"blue"}) for colour, minus in alone)


def test_the_explorer() -> None:
    css = EXPLORER.read_text(encoding="utf-8")
    for name, hue in (("carries", "blue"), ("against", "red")):
        colours = re.findall(rf"--{name}: ([^;]*);", css)
        assert colours and all(hues(colour) == {hue} for colour in colours)


def test_a_circuit_of_lists_is_drawn() -> None:
    """And drawn again, which looks up where everything stood."""
    drawn = circuit(None)
    listed = Circuit(drawn.title, list(drawn.positions), list(drawn.nodes), list(drawn.edges), drawn.unit)  # type: ignore[arg-type]
    assert listed == Circuit(drawn.title, drawn.positions, drawn.nodes, drawn.edges, drawn.unit)
    assert as_svg(listed.draw()) == as_svg(listed.draw())
