"""Architecture graphs: what is in them, the questions they answer, and reach against the position-level graph."""

from __future__ import annotations

import functools
from collections.abc import Callable
from math import inf
from pathlib import Path

import networkx as nx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import circuitry as ct
from circuitry import content
from circuitry.architecture import CAUSAL, NEXT, SAME, Graph, Reach, definition, definition_for, lag, model_types, window
from circuitry.paths import Node
from support.position_graph import TOKENS, distances

ALL = [ct.graph(name) for name in content.names("graphs")]
SMALL = [
    ct.graph("mamba", layer=2, lag=3),
    ct.graph("gpt_neox", layer=2, head=2),
    ct.graph("gpt_neox", layer=2, head=1, parallel=0),
    ct.graph("gpt2", layer=2, head=1),
    ct.graph("mamba2", layer=2, lag=3, head=2),
    ct.graph("jamba", layer=2, head=1, lag=2, layout=("mamba mlp", "attention mlp")),
]


def named(graph: Graph) -> str:
    return repr(graph).split(";")[0].strip("<")


@pytest.mark.parametrize("graph", ALL, ids=named)
def test_a_graph_is_whole(graph: Graph) -> None:
    """One way in, one way out, every node between them, and no cycle but a state's to its own next position."""
    starts = [n for n, degree in graph.nx.in_degree() if degree == 0]
    stops = [n for n, degree in graph.nx.out_degree() if degree == 0]
    assert starts == [Node("embed")] and stops == [Node("logits")]
    assert graph.ancestors("logits") == set(graph.nx) - {Node("logits")}
    assert nx.is_directed_acyclic_graph(graph.unroll(3))
    for node in graph.nx:
        family = graph.family(node.family)
        assert len(node.indices) == len(family.indices)
        assert node.port is None or node.port in family.ports
        assert graph.node(node) == node == graph.node(str(node))


@pytest.mark.parametrize("graph", ALL, ids=named)
def test_every_node_has_a_place(graph: Graph) -> None:
    for node in graph.nodes(ports=True):
        place = graph.place(node)
        assert "{" not in place.module.replace("{lag}", "")
        assert graph.freezing_places(node)


@pytest.mark.parametrize("graph", ALL, ids=named)
def test_nodes_come_in_the_order_they_are_computed(graph: Graph) -> None:
    order = {node: rank for rank, node in enumerate(graph.nodes(ports=True))}
    assert len(order) == len(graph.nx)
    assert all(order[s] < order[t] for s, t, edge in graph.nx.edges(data=True) if edge["rule"] != NEXT)


def test_nodes_are_chosen_by_family_layer_and_port() -> None:
    graph = ct.graph("gpt_neox", layer=2, head=3)
    assert [str(n) for n in graph.nodes("head", layer=1)] == ["head[1,0]", "head[1,1]", "head[1,2]"]
    assert {n.port for n in graph.nodes("head", layer=1, ports=True)} == {None, "q", "k", "v", "pattern"}
    assert sorted(str(n) for n in graph.nodes(layer=0)) == ["attn[0]", *(f"head[0,{h}]" for h in range(3)), "mlp[0]", "resid[0]"]
    assert graph.nodes("resid", layer=2) == [Node("resid", (2,))] and graph.nodes("mlp", layer=2) == []


def test_roles_find_the_same_thing_everywhere() -> None:
    for graph in ALL:
        assert [f.name for f in graph.by_role("logits")] == ["logits"]
        assert [f.name for f in graph.by_role("embed")] == ["embed"]
        assert all(f.adds or f.feeds for f in graph.by_role("mixer")) and graph.by_role("mixer")
    assert [f.name for f in ct.graph("mamba").by_role("state")] == ["ssm_state"]
    assert ct.graph("mamba").by_role("head") == []


def test_ancestors_and_descendants() -> None:
    graph = ct.graph("mamba", layer=2, lag=2)
    assert {str(n) for n in graph.descendants("h[1]")} == {
        *("ssm_state[1].read", "ssm_state[1].carry", "ssm_out[1]", "mixer_out[1]", "resid[2]", "logits"),
    }
    assert {str(n) for n in graph.ancestors("conv_tap[0,1]")} == {"conv_in[0]", "resid[0]", "embed"}
    neox = ct.graph("gpt_neox", layer=1, head=1)
    assert {str(n) for n in neox.ancestors("head[0,0].pattern")} == {"head[0,0].q", "head[0,0].k", "resid[0]", "embed"}
    assert {str(n) for n in neox.descendants("head[0,0].z")} == {"attn[0]", "resid[1]", "logits"}


def test_parallel_and_sequential_blocks_differ() -> None:
    together, after = ct.graph("gpt_neox", layer=1, head=1), ct.graph("gpt_neox", layer=1, head=1, parallel=0)
    assert Node("mlp", (0,)) not in together.descendants("attn[0]")
    assert Node("mlp", (0,)) in after.descendants("attn[0]")
    assert "resid_mid" not in {f.name for f in together.families} and "resid_mid" in {f.name for f in after.families}


def test_short_names_and_renaming_ports_are_resolved() -> None:
    assert ct.graph("mamba").node("c[3].B") == Node("ssm_in", (3,), "B")
    assert ct.graph("gpt2").node("head[3,1].z") == Node("head", (3, 1))
    assert ct.graph("mamba").h == ct.graph("mamba").ssm_state == Node("ssm_state")


def test_tab_completion_and_hasattr() -> None:
    graph = ct.graph("gpt2")
    assert {"head", "mlp", "nodes", "reach"} <= set(dir(graph))
    assert hasattr(graph, "mlp") and not hasattr(graph, "ssm_state") and not hasattr(graph, "_nothing")


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (lambda: ct.graph("gpt2").ssm, "gpt2 has no node 'ssm'; known here: attn, embed, head, logits, mlp, resid, resid_mid"),
        (lambda: ct.graph("mamba").family("gte"), "mamba has no node 'gte'; did you mean 'gate'?"),
        (
            lambda: ct.graph("gpt2", layer=1, head=1).node("mlp[1]"),
            "<gpt2 graph: layer=1, head=1, parallel=0; 12 nodes, 15 edges> has no node mlp[1]; there is mlp[0]",
        ),
        (lambda: ct.graph("gpt2", layers=1), "gpt2 has no size 'layers'; did you mean 'layer'?"),
        (
            lambda: ct.graph(ct.graph("gpt2"), layer=1),
            "a loaded model has its own sizes; give sizes only with an architecture's name",
        ),
        (lambda: ct.graph("mamab"), "no definition 'mamab' in graphs: did you mean 'mamba'?"),
        (
            lambda: definition_for("t5"),
            f"no graph for models of type 't5': known here: {', '.join(sorted(model_types()))}. "
            "To add one, write a custom file that defines ARCHITECTURE: ct.load(..., graph='./mine.py')",
        ),
    ],
)
def test_a_question_without_answer_says_why(do: Callable[[], object], message: str) -> None:
    with pytest.raises(ct.CircuitryError) as caught:
        do()
    assert str(caught.value) == message


def test_every_model_type_has_one_definition() -> None:
    claimed = [kind for name in content.names("graphs") for kind in definition(name).model_types]
    assert len(claimed) == len(set(claimed)) == len(model_types())


def test_a_definition_of_your_own_is_a_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text((content.folder("graphs") / "gpt2.py").read_text().replace('name="gpt2"', 'name="mine"'))
    assert ct.graph(str(mine), layer=1, head=1).name == "mine"
    mine.write_text("ARCHITECTURE = 3")
    with pytest.raises(ct.CircuitryError, match=r"ARCHITECTURE in .*mine\.py is int, not an Architecture"):
        ct.graph(str(mine))
    mine.write_text("")
    with pytest.raises(ct.CircuitryError, match=r"mine\.py defines no ARCHITECTURE; see the files in graphs/ for examples"):
        ct.graph(str(mine))
    with pytest.raises(ct.CircuitryError, match=r"no file .*absent\.py"):
        ct.graph("./absent.py")


def test_reaches_add_up_and_join() -> None:
    assert Reach.of(lag(1)).then(lag(2)) == Reach(((3, 3),))
    assert Reach.of(SAME).then(CAUSAL).reaches(1000) and not Reach.of(NEXT).then(CAUSAL).reaches(0)
    gaps = Reach.of(lag(0)).joined(Reach.of(lag(3)))
    assert [gaps.reaches(k) for k in (-1, 0, 1, 3, 4)] == [False, True, False, True, False]
    assert gaps.then(window(2)).joined(Reach.of(lag(2))) == Reach(((0, 4),))
    assert gaps.joined(Reach.of(lag(7)).then(CAUSAL)).joined(Reach.of(lag(9))).ranges == ((0, 0), (3, 3), (7, inf))
    assert [str(r) for r in (gaps, Reach.of(NEXT), Reach.of(CAUSAL), Reach.of(window(3)), gaps.joined(Reach(((7, inf),))))] == [
        "0 or 3", "exactly 1", "at least 0", "0 to 2", "0 or 3 or 7 or more",
    ]  # fmt: skip


def test_unrolling_puts_an_edge_at_every_distance_of_its_rule() -> None:
    graph = ct.graph("mamba", layer=1, lag=3)
    full = graph.unroll(4)
    assert len(full) == 4 * len(graph.nx)
    for source, target, edge in graph.nx.edges(data=True):
        edges = {(p, q) for p in range(4) for q in range(4) if full.has_edge((source, p), (target, q))}
        assert edges == {(p, q) for p in range(4) for q in range(4) if edge["rule"].reaches(q - p)}


@pytest.mark.parametrize(
    ("graph", "source", "target", "least", "most"),
    [
        (SMALL[1], "head[0,0].q", "head[0,0]", 0, 0),
        (SMALL[1], "head[0,0].k", "head[0,0].pattern", 0, inf),
        (SMALL[1], "head[0,0].v", "head[0,0]", 0, inf),
        (SMALL[1], "head[0,0].pattern", "attn[0]", 0, 0),
        (SMALL[1], "mlp[0]", "resid[1]", 0, 0),
        (SMALL[0], "conv_in[0]", "ssm_in[0]", 0, 2),
        (SMALL[0], "conv_in[0]", "conv_tap[0,1]", 1, 1),
        (SMALL[0], "conv_tap[0,2]", "ssm_in[0]", 0, 0),
        (SMALL[0], "ssm_in[0].delta", "ssm_out[0]", 0, inf),
        (SMALL[0], "ssm_in[0].C", "ssm_out[0]", 0, 0),
        (SMALL[0], "ssm_in[0].skip", "ssm_out[0]", 0, 0),
        (SMALL[0], "ssm_state[0].read", "ssm_out[0]", 0, 0),
        (SMALL[0], "ssm_state[0].carry", "ssm_out[0]", 1, inf),
        (SMALL[0], "ssm_state[0]", "mixer_out[0]", 0, inf),
        (SMALL[0], "gate[0]", "mixer_out[0]", 0, 0),
    ],
)
def test_how_far_a_change_moves(graph: Graph, source: str, target: str, least: float, most: float) -> None:
    rule = graph.reach([graph.node(source)])[graph.node(target)]
    assert (rule.least, rule.most) == (least, most)


@pytest.mark.parametrize("graph", SMALL, ids=named)
@given(data=st.data())
@settings(max_examples=120)
def test_reach_is_what_the_unrolled_graph_reaches(graph: Graph, data: st.DataObject) -> None:
    nodes = st.sampled_from(graph.nodes(ports=True))
    source, without = data.draw(nodes), data.draw(st.sets(nodes, max_size=6))
    reach, seen = graph.reach([source], without), distances(graph, source, without)
    assert {node for node, rule in reach.items() if rule.least < TOKENS} == set(seen)
    for node, found in seen.items():
        assert found == {k for k in range(TOKENS) if reach[node].reaches(k)}


@pytest.mark.parametrize("graph", SMALL, ids=named)
@given(data=st.data())
@settings(max_examples=40)
def test_reach_of_several_sources_is_that_of_each(graph: Graph, data: st.DataObject) -> None:
    nodes = st.sampled_from(graph.nodes(ports=True))
    one, other = data.draw(nodes), data.draw(nodes)
    without = data.draw(st.sets(nodes, max_size=4))
    assume(not {one, other} & without)
    both, single = graph.reach([one, other], without), [graph.reach([n], without) for n in (one, other)]
    for node, rule in both.items():
        ranges: list[Reach] = [r[node] for r in single if node in r]
        assert rule == functools.reduce(Reach.joined, ranges)
    assert set(both) == set(single[0]) | set(single[1])


def test_a_test_of_reach_can_fail() -> None:
    """The oracle tells a convolution of three taps from one of two."""
    graph, narrow = ct.graph("mamba", layer=1, lag=3), ct.graph("mamba", layer=1, lag=2)
    x, c = Node("conv_in", (0,)), Node("ssm_in", (0,))
    assert distances(graph, x, set())[c] == {0, 1, 2} and distances(narrow, x, set())[c] == {0, 1}


def test_a_graph_is_found_by_a_type_of_model_that_uses_it() -> None:
    assert ct.graph("mistral", layer=1).name == "llama" and ct.graph("qwen3_5_text", layer=1).name == "qwen3_next"
    with pytest.raises(ct.ModelError, match=r"^models of type 'zamba' are refused: its shared attention block gives"):
        ct.graph("zamba")
    with pytest.raises(ct.CircuitryError, match=r"^no definition 'mistrel' in graphs"):
        ct.graph("mistrel")
