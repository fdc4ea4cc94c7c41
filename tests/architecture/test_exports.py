"""Graphs and circuits as JSON, GraphML, DOT and Mermaid: complete, escaped, readable back."""

from __future__ import annotations

import json
import math

import networkx as nx
import pytest

import circuitry as ct
from circuitry.architecture import export
from circuitry.drawing.circuit import Circuit, CircuitEdge, CircuitNode
from support.drawn import ARCHITECTURES, EMPTY, MAMBA, TRANSFORMER, large

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
    with pytest.raises(ct.CircuitryError, match=r"this JSON does not describe a circuit .*Circuit\.to_json writes one"):
        Circuit.from_json(text)


def test_circuits_that_contradict_themselves_are_refused() -> None:
    node = CircuitNode("mlp[0]@A", "A", 0, 1.0)
    with pytest.raises(ct.CircuitryError, match=r"node 'mlp\[0\]@A' is in the circuit 2 times"):
        Circuit("t", ("A",), (node, node), ())
    with pytest.raises(ct.CircuitryError, match=r"position 'A' is in the circuit 2 times"):
        Circuit("t", ("A", "A"), (node,), ())
    with pytest.raises(ct.CircuitryError, match=r"mlp\[0\]@A is at an unknown position; known here: B"):
        Circuit("t", ("B",), (node,), ())
    with pytest.raises(
        ct.CircuitryError, match=r"an edge names 'mlp\[0\]@B', which is not a node .*; did you mean 'mlp\[0\]@A'\?"
    ):
        Circuit("t", ("A",), (node,), (CircuitEdge("mlp[0]@A", "mlp[0]@B", 1.0),))
    edge = CircuitEdge("mlp[0]@A", "x", 1.0, "k")
    with pytest.raises(ct.CircuitryError, match=r"edge 'mlp\[0\]@A -> x k' is in the circuit 2 times"):
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
