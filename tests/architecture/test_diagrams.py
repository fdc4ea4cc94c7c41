"""Circuit pictures and architecture diagrams: complete, legible, the same every time."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch

import circuitry as ct
from circuitry.drawing.architecture import draw_layer
from circuitry.drawing.architecture_layer import collapse
from circuitry.drawing.circuit import Circuit, CircuitNode
from circuitry.drawing.circuit_layout import lay_out
from circuitry.drawing.figures import save
from circuitry.drawing.geometry import Box, sampled
from circuitry.drawing.layered import layered
from circuitry.drawing.routing import place_label, route
from support.drawn import ARCHITECTURES, EMPTY, MAMBA, TRANSFORMER, large


def svg_text(path: Path) -> list[str]:
    """The text of an SVG file, one entry an element."""
    elements = ElementTree.parse(path).getroot().iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()) for element in elements]


def ids(path: Path) -> set[str]:
    return {element.get("id", "") for element in ElementTree.parse(path).getroot().iter()}


def boxes(figure: Figure) -> list[tuple[str, Box]]:
    """Every named box of a drawing, with its name, in inches."""
    shapes = [patch for patch in figure.get_axes()[0].patches if isinstance(patch, FancyBboxPatch) and patch.get_gid()]
    return [(str(s.get_gid()), Box(s.get_x() + s.get_width() / 2, s.get_y() + s.get_height() / 2, s.get_width(), s.get_height())) for s in shapes]  # fmt: skip


def assert_legible(figure: Figure) -> None:
    """No text on another text or off the page, no box on another box, no arrow through a box that it does not join."""
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    texts = [text for text in figure.get_axes()[0].texts if text.get_text()]
    extents = [text.get_window_extent() for text in texts]
    page = figure.bbox
    for text, extent in zip(texts, extents, strict=True):
        assert page.x0 <= extent.x0 and extent.x1 <= page.x1 and page.y0 <= extent.y0 and extent.y1 <= page.y1, text
    for (text, one), (other, two) in itertools.combinations(zip(texts, extents, strict=True), 2):
        assert not one.shrunk(0.97, 0.9).overlaps(two.shrunk(0.97, 0.9)), (text.get_text(), other.get_text())
    for (a, first), (b, second) in itertools.combinations(boxes(figure), 2):
        assert not first.meets(second), (a, b)
    for patch in figure.get_axes()[0].patches:
        if isinstance(patch, PathPatch):
            ends = str(patch.get_gid()).removeprefix("edge ").split(" -> ")
            line = sampled(np.asarray(patch.get_path().vertices))
            crossed = [name for name, box in boxes(figure) if name.removeprefix("node ") not in ends and box.holds(line)]
            assert not crossed, (ends, crossed)


# --- pictures of circuits


@pytest.mark.parametrize("circuit", [MAMBA, TRANSFORMER, *map(large, range(2))], ids=lambda c: c.title)
def test_pictures_are_legible(circuit: Circuit) -> None:
    figure = circuit.draw()
    assert figure.get_size_inches()[0] <= 7.3
    assert min(float(text.get_fontsize()) for text in figure.get_axes()[0].texts) >= 6
    assert_legible(figure)


@pytest.mark.parametrize("circuit", [MAMBA, TRANSFORMER], ids=lambda c: c.title)
def test_every_node_and_edge_is_in_the_svg(circuit: Circuit, tmp_path: Path) -> None:
    circuit.save(tmp_path / "circuit.svg")
    texts, names = svg_text(tmp_path / "circuit.svg"), ids(tmp_path / "circuit.svg")
    for node in circuit.nodes:
        assert node.label in texts and f"node {node.name}" in names
    for edge in circuit.edges:
        number = f"{edge.effect:+.2f}".replace("-", "−")
        assert f"{edge.label} {number}".strip() in texts and f"edge {edge.source} -> {edge.target}" in names
    for word in (*circuit.positions, circuit.title, circuit.unit):
        assert word in texts


def test_svg_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        MAMBA.save(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert "<dc:date>" not in (tmp_path / "one.svg").read_text()


def test_columns_follow_the_text_and_rows_the_depth() -> None:
    places = {node.name: lay_out(MAMBA).boxes[node.name] for node in MAMBA.nodes}
    for one, two in itertools.permutations(MAMBA.nodes, 2):
        if MAMBA.positions.index(one.position) < MAMBA.positions.index(two.position):
            assert places[one.name].right < places[two.name].left
        if one.depth < two.depth:
            assert places[one.name].top < places[two.name].bottom


def test_colours_are_centred_at_zero_and_say_the_sign() -> None:
    figure = TRANSFORMER.draw()
    patches = [patch for patch in figure.get_axes()[0].patches if isinstance(patch, FancyBboxPatch) and patch.get_gid()]
    for node, patch in zip(TRANSFORMER.nodes, patches, strict=True):
        red, _, blue = to_rgb(patch.get_facecolor())
        assert (red > blue) == (node.effect < 0) or abs(node.effect) < 0.05
    stronger = {str(p.get_gid()): p.get_linewidth() for p in figure.get_axes()[0].patches if isinstance(p, PathPatch)}
    assert stronger["edge head[1,1]@END -> logits@END"] == max(stronger.values())
    assert stronger["edge head[1,3]@END -> logits@END"] < stronger["edge head[1,0]@END -> logits@END"]


@pytest.mark.parametrize("circuit", [EMPTY, Circuit("no position either", (), (), ())], ids=lambda c: c.title)
def test_empty_circuit_says_so(circuit: Circuit, tmp_path: Path) -> None:
    circuit.save(tmp_path / "empty.svg")
    assert "no node above the threshold" in svg_text(tmp_path / "empty.svg")
    assert_legible(circuit.draw())


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf", ".dot", ".mmd", ".json"])
def test_save_goes_by_the_suffix(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"circuit{suffix}"
    MAMBA.save(path)
    start = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".dot": b"digraph", ".mmd": b"---", ".json": b"{"}[suffix]
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize("name", ["circuit.docx", "circuit"])
def test_unknown_suffix_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ct.CircuitryError, match=r"a circuit cannot be saved as '(\.docx)?'; try \.svg, \.png, \.pdf, \.dot"):
        MAMBA.save(tmp_path / name)
    assert not (tmp_path / name).exists()


def test_picture_shrinks_onto_axes_of_ones_own() -> None:
    figure = Figure(figsize=(7, 3.2))
    left, right = figure.subplots(1, 2)
    assert MAMBA.draw(left) is figure and draw_layer(ct.graph("mamba"), ax=right) is figure
    assert (
        0
        < max(text.get_fontsize() for text in left.texts)
        < max(text.get_fontsize() for text in MAMBA.draw().get_axes()[0].texts)
    )
    part = figure.add_subfigure(figure.add_gridspec()[0])
    assert TRANSFORMER.draw(part.add_subplot()) is figure


def test_tokens_are_never_read_as_mathematics(tmp_path: Path) -> None:
    circuit = Circuit("$t$", ("$x_1", "<b>"), (CircuitNode("a_1$b$@$x_1", "$x_1", 0, 1.0), CircuitNode("c", "<b>", 0, -1.0)), ())
    circuit.save(tmp_path / "tokens.svg")
    assert {"$t$", "$x_1", "<b>", "a_1$b$"} <= set(svg_text(tmp_path / "tokens.svg"))


def test_drawing_leaves_global_state_alone(tmp_path: Path) -> None:
    code = f"""
import sys
from circuitry.drawing.circuit import Circuit
circuit = Circuit("t", ("A",), (), ())
circuit.to_dot(), circuit.to_json()
import matplotlib
settings = [name for name in matplotlib.rcParams if name != "backend"]  # reading that one would choose a backend
before = [matplotlib.rcParams[name] for name in settings]
circuit.save({str(tmp_path / "t.svg")!r})
assert before == [matplotlib.rcParams[name] for name in settings]
assert "matplotlib.pyplot" not in sys.modules and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# --- diagrams of architectures


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layer_diagram_is_legible_and_complete(name: str, tmp_path: Path) -> None:
    graph = ct.graph(name)
    figure = draw_layer(graph)
    assert figure.get_size_inches()[0] <= 7.3
    assert_legible(figure)
    save(figure, tmp_path / "layer.svg")
    texts, names = svg_text(tmp_path / "layer.svg"), ids(tmp_path / "layer.svg")
    for node in graph.nodes(layer=0, ports=True):
        assert any(text.startswith(f"{node.family}[l") and text.endswith(f".{node.port}" if node.port else "]") for text in texts)
    layer = collapse(graph)
    for edge in layer.edges:
        assert " -> ".join(map(layer.label, edge)) in names


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("mamba", {("conv_in[l]", "conv_tap[l,0..3]"): "lag 0..3", ("ssm_state[l].carry", "ssm_state[l]"): "next position"}),
        ("gpt2", {("head[l,0..11].k", "head[l,0..11].pattern"): "causal", ("head[l,0..11].v", "head[l,0..11]"): "causal"}),
    ],
)
def test_only_arrows_that_move_along_the_text_have_a_word(name: str, rules: dict[tuple[str, str], str]) -> None:
    layer = collapse(ct.graph(name))
    found = {tuple(map(layer.label, edge)): layer.rule(edge) for edge in layer.edges if layer.rule(edge)}
    assert found == rules
    texts = [text.get_text() for text in draw_layer(ct.graph(name)).get_axes()[0].texts]
    assert sorted(set(texts) & set(rules.values())) == sorted(set(rules.values()))


def test_parallel_and_sequential_layers_differ_in_the_stream() -> None:
    parallel, sequential = collapse(ct.graph("gpt_neox")), collapse(ct.graph("gpt_neox", parallel=0))
    assert [parallel.label(key) for key in parallel.nodes if parallel.in_stream(key)] == ["resid[l]", "resid[l+1]"]
    stream = [sequential.label(key) for key in sequential.nodes if sequential.in_stream(key)]
    assert stream == ["resid[l]", "resid_mid[l]", "resid[l+1]"]
    rows = {sequential.label(key): row for key, row in sequential.rows.items()}
    assert rows["attn[l]"] < rows["resid_mid[l]"] < rows["mlp[l]"] < rows["resid[l+1]"]


def test_every_layer_draws_and_no_other() -> None:
    graph = ct.graph("mamba", layer=2)
    for layer in (0, 1):
        assert len(collapse(graph, layer).nodes) == len(collapse(graph, 0).nodes)
    with pytest.raises(ct.CircuitryError, match="mamba has no layer 2; its layers are 0 to 1"):
        draw_layer(graph, 2)


def test_layer_diagram_is_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg"):
        save(draw_layer(ct.graph("mamba")), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


# --- the parts they share


def test_boxes_of_a_row_keep_their_distance_and_cross_no_more_than_they_must() -> None:
    rows = {"a": 0, "b": 0, "c": 1, "d": 1}
    placed = layered(rows, dict.fromkeys(rows, 1.0), [("a", "d"), ("b", "c")], gap=0.2)
    assert abs(placed.x["a"] - placed.x["b"]) >= 1.2 - 1e-9 and abs(placed.x["c"] - placed.x["d"]) >= 1.2 - 1e-9
    assert (placed.x["a"] < placed.x["b"]) == (placed.x["d"] < placed.x["c"])


def test_long_links_get_a_straight_lane_beside_the_boxes() -> None:
    rows = {"a": 0, "b": 1, "c": 2, "d": 3}
    placed = layered(rows, dict.fromkeys(rows, 1.0), [("a", "b"), ("b", "c"), ("c", "d"), ("a", "d")], gap=0.2)
    lanes = placed.lanes["a", "d"]
    assert len(lanes) == 2 and lanes[0] == lanes[1]
    assert all(abs(lane - placed.x[key]) > 0.5 for lane, key in zip(lanes, "bc", strict=True))


def test_arrow_goes_round_a_wall_that_no_single_bend_clears() -> None:
    walls = [Box(0, 1, 3, 0.3), Box(1.2, 2, 3, 0.3)]
    curve = route(np.array([0.0, 0.0]), np.array([0.0, 3.0]), walls, within=(-4, 4))
    assert len(curve) > 4 and not any(wall.holds(sampled(curve)) for wall in walls)


def test_second_label_moves_aside() -> None:
    straight = np.array([[0, 0], [1, 0], [2, 0], [3, 0]], float)
    first = place_label(straight, (0.5, 0.1), [], [])
    assert not place_label(straight, (0.5, 0.1), [], [first]).meets(first)
