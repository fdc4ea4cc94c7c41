"""Graph exports, circuit pictures and architecture diagrams: complete, readable back, legible, the same every time."""

import itertools
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch

import circuitry as ct
from circuitry.architecture import export
from circuitry.results.architecture_diagram import draw_layer
from circuitry.results.architecture_layer import collapse
from circuitry.results.circuit import Circuit, CircuitEdge, CircuitNode
from circuitry.results.circuit_layout import lay_out
from circuitry.results.figures import save
from circuitry.results.geometry import Box, sampled
from circuitry.results.layered import layered
from circuitry.results.routing import place_label, route

ARCHITECTURES = ("mamba", "gpt_neox", "gpt2", "llama")

MAMBA = Circuit(
    "Induction in a 4-layer Mamba",
    ("A", "B", "B+1", "...", "END"),
    (
        CircuitNode("conv_in[1]@A", "A", 1.0, -1.92, "conv_input"),
        CircuitNode("conv_in[1]@B", "B", 1.0, -2.31, "conv_input"),
        CircuitNode("ssm_in[1]@B+1", "B+1", 1.2, -3.4, "write_input"),
        CircuitNode("ssm_state[1]@B+1", "B+1", 1.4, -3.62, "state"),
        CircuitNode("ssm_state[2]@B+1", "B+1", 2.4, 0.41, "state"),
        CircuitNode("logits@END", "END", 4.0, math.nan, "logits"),
    ),
    (
        CircuitEdge("conv_in[1]@A", "ssm_in[1]@B+1", -1.7, "lag 2"),
        CircuitEdge("conv_in[1]@B", "ssm_in[1]@B+1", -2.2, "lag 1"),
        CircuitEdge("ssm_in[1]@B+1", "ssm_state[1]@B+1", -3.1),
        CircuitEdge("ssm_state[1]@B+1", "ssm_state[2]@B+1", 0.2),
        CircuitEdge("ssm_state[1]@B+1", "logits@END", -3.6),
        CircuitEdge("ssm_state[2]@B+1", "logits@END", 0.4),
    ),
)
EFFECTS = (-0.4, -2.1, 0.35, -0.02)
TRANSFORMER = Circuit(
    "Induction in a 2-layer Transformer",
    ("A", "B", "B+1", "...", "END"),
    (
        CircuitNode("head[0,1]@B", "B", 0, -2.9, "head"),
        *(CircuitNode(f"head[1,{h}]@END", "END", 1, effect, "head") for h, effect in enumerate(EFFECTS)),
        CircuitNode("logits@END", "END", 2, -3.3, "logits"),
    ),
    (
        *(CircuitEdge("head[0,1]@B", f"head[1,{h}]@END", effect / 2, "k") for h, effect in enumerate(EFFECTS)),
        *(CircuitEdge(f"head[1,{h}]@END", "logits@END", effect) for h, effect in enumerate(EFFECTS)),
    ),
    "change of logit difference",
)
EMPTY = Circuit("Nothing", ("A", "B", "END"), (), ())


def large(seed: int) -> Circuit:
    """About as much as a picture should hold: 20 heads in 6 layers and 30 arrows, as in indirect object identification."""
    rng, positions = random.Random(seed), ("IO", "S1", "S2", "END")
    places = rng.sample([(layer, head) for layer in range(6) for head in range(12)], 20)
    nodes = [CircuitNode(f"head[{a},{b}]", rng.choice(positions), a, rng.gauss(0, 1), "head") for a, b in places]
    pairs = [(s, t) for s, t in itertools.permutations(nodes, 2) if s.depth < t.depth]
    edges = [CircuitEdge(s.name, t.name, rng.gauss(0, 1), rng.choice("qkv")) for s, t in rng.sample(pairs, 30)]
    return Circuit(f"Random circuit {seed}", positions, tuple(nodes), tuple(edges))


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


# --- exports of graphs


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_json_and_graphml_are_read_back_whole(name: str) -> None:
    graph = ct.graph(name, layer=2)
    from_json = nx.node_link_graph(json.loads(export.to_json(graph)), edges="edges")
    from_graphml = nx.parse_graphml(export.to_graphml(graph))
    for back in (from_json, from_graphml):
        assert back.is_directed() and not back.is_multigraph()
        assert set(back) == {str(node) for node in graph.nx}
        assert {(s, t): d["rule"] for s, t, d in back.edges(data=True)} == {
            (str(s), str(t)): d["rule"].name for s, t, d in graph.nx.edges(data=True)
        }
    assert dict(from_json.nodes(data=True)) == dict(from_graphml.nodes(data=True))
    assert {(s, t): d for s, t, d in from_json.edges(data=True)} == {(s, t): d for s, t, d in from_graphml.edges(data=True)}


def test_exported_attributes_say_what_a_node_is() -> None:
    back = nx.parse_graphml(export.to_graphml(ct.graph("mamba", layer=2)))
    assert back.nodes["ssm_state[1]"]["family"] == "ssm_state" and back.nodes["ssm_state[1]"]["layer"] == 1
    assert back.nodes["ssm_state[1]"]["role"] == "state" and back.nodes["ssm_state[1]"]["ports"] == "read carry"
    assert back.nodes["ssm_state[1].carry"]["port"] == "carry" and "shape" not in back.nodes["ssm_state[1].carry"]
    assert back.nodes["conv_tap[1,3]"]["index"] == "1,3"
    assert back.edges["conv_in[1]", "conv_tap[1,3]"] == {"rule": "lag 3", "least": 3, "most": 3}
    assert "most" not in nx.parse_graphml(export.to_graphml(ct.graph("gpt2", layer=1))).edges["head[0,0].v", "head[0,0]"]
    assert "layer" not in back.nodes["resid[2]"] and "layer" not in back.nodes["logits"]


def test_exported_json_is_strict() -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(export.to_json(ct.graph("gpt2", layer=1)), parse_constant=refuse)


def dot_statements(text: str) -> list[str]:
    """DOT without its strings, in statements; a stand-in for a parser."""
    assert text.count("{") == text.count("}") and text.startswith("digraph ") and text.rstrip().endswith("}")
    return [line.strip() for line in text.splitlines()[1:-1] if line.strip()]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_dot_of_a_graph_has_every_node_and_edge(name: str) -> None:
    graph = ct.graph(name, layer=2)
    lines = dot_statements(export.to_dot(graph))
    assert all(line.endswith((";", "{", "}")) for line in lines)
    for node in graph.nx:
        assert sum(line.startswith(f'"{node}" [') for line in lines) == 1
    assert sum(" -> " in line for line in lines) == graph.nx.number_of_edges()
    moving = [d["rule"].name for _, _, d in graph.nx.edges(data=True) if d["rule"].name != "same position"]
    assert sum("label=" in line and " -> " in line for line in lines) == len(moving) > 0


def test_dot_strings_escape_what_would_end_them() -> None:
    assert export.quoted('say "no" \\ twice') == '"say \\"no\\" \\\\ twice"'


# --- circuits as values


@pytest.mark.parametrize("circuit", [MAMBA, TRANSFORMER, EMPTY, large(0)], ids=lambda c: c.title)
def test_circuit_survives_json(circuit: Circuit) -> None:
    assert Circuit.from_json(circuit.to_json()).to_json() == circuit.to_json()
    assert "NaN" not in circuit.to_json()


def test_circuit_json_keeps_what_was_not_measured() -> None:
    assert math.isnan(Circuit.from_json(MAMBA.to_json()).nodes[-1].effect)
    assert Circuit.from_json(TRANSFORMER.to_json()) == TRANSFORMER


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"title": "t", "positions": [], "nodes": [{"name": 1}], "edges": [], "unit": ""}']
)
def test_other_json_is_no_circuit(text: str) -> None:
    with pytest.raises(ct.CircuitryError, match=r"this JSON is no circuit .*Circuit\.to_json writes one"):
        Circuit.from_json(text)


def test_circuits_that_contradict_themselves_are_refused() -> None:
    node = CircuitNode("mlp[0]@A", "A", 0, 1.0)
    with pytest.raises(ct.CircuitryError, match=r"node 'mlp\[0\]@A' stands 2 times"):
        Circuit("t", ("A",), (node, node), ())
    with pytest.raises(ct.CircuitryError, match=r"position 'A' stands 2 times"):
        Circuit("t", ("A", "A"), (node,), ())
    with pytest.raises(ct.CircuitryError, match=r"mlp\[0\]@A is at no known position: known here: B"):
        Circuit("t", ("B",), (node,), ())
    with pytest.raises(ct.CircuitryError, match=r"an edge names 'mlp\[0\]@B', no node: did you mean 'mlp\[0\]@A'\?"):
        Circuit("t", ("A",), (node,), (CircuitEdge("mlp[0]@A", "mlp[0]@B", 1.0),))
    edge = CircuitEdge("mlp[0]@A", "x", 1.0, "k")
    with pytest.raises(ct.CircuitryError, match=r"edge 'mlp\[0\]@A -> x k' stands 2 times"):
        Circuit("t", ("A",), (node, CircuitNode("x", "A", 1, 1.0)), (edge, edge))


def test_label_leaves_out_what_the_column_says() -> None:
    assert CircuitNode("h[1]@B+1", "B+1", 0, 0).label == CircuitNode("h[1] @ B+1", "B+1", 0, 0).label == "h[1]"
    assert CircuitNode("h[1]@B", "B+1", 0, 0).label == "h[1]@B"
    assert CircuitNode("@A", "A", 0, 0).label == "@A"


def test_circuit_dot_has_every_node_and_edge() -> None:
    lines = dot_statements(MAMBA.to_dot())
    for node in MAMBA.nodes:
        assert sum(line.startswith(f'"{node.name}" [label="{node.label}') for line in lines) == 1
    for edge in MAMBA.edges:
        assert sum(line.startswith(f'"{edge.source}" -> "{edge.target}" [') for line in lines) == 1
    assert [line.split('"')[1] for line in lines if line.startswith("subgraph")] == list(MAMBA.positions)


def test_mermaid_has_every_node_and_edge_and_no_bare_quote() -> None:
    lines = MAMBA.to_mermaid().splitlines()
    assert lines[:4] == ["---", 'title: "Induction in a 4-layer Mamba (change of logit)"', "---", "flowchart BT"]
    assert '    n3["ssm_state[1]<br/>−3.62"]' in lines and '  n0 -->|"lag 2<br/>−1.70"| n2' in lines
    assert sum("-->" in line for line in lines) == len(MAMBA.edges)
    awkward = Circuit("t", ('"#<',), (CircuitNode("x", '"#<', 0, 1.0),), ()).to_mermaid()
    assert '["#quot;#35;#lt;"]' in awkward


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
    with pytest.raises(ct.CircuitryError, match=r"a circuit is not saved as '(\.docx)?'; use one of \.svg, \.png, \.pdf, \.dot"):
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
from circuitry.results.circuit import Circuit
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
