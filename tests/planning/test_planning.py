"""From a path to a plan: cells, what is frozen, what is written and read, and how that is explained."""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import circuitry as ct
from circuitry.architecture import Graph
from circuitry.paths import Node, Path, Position, Site
from circuitry.planning import Intervention, Pass, Write, cells, explain, kind, plan
from circuitry.planning.frozen import frozen_by_name, frozen_nodes
from circuitry.planning.values import MADE

MAMBA = ct.graph("mamba", layer=3, lag=3)
NEOX = ct.graph("gpt_neox", layer=3, head=2)
GPT2 = ct.graph("gpt2", layer=2, head=2)
WHERE, LENGTH = {"A": [2, 3], "B": [5, 6], "END": [9, 9]}, 10


def first_pass(path: str, graph: Graph) -> Pass:
    return plan(path, graph).cells[0].passes[0]


def frozen(path: str, graph: Graph) -> list[str]:
    return sorted(map(str, first_pass(path, graph).frozen))


@pytest.mark.parametrize(
    ("path", "graph", "expected"),
    [
        ("mlp[{layer}] -> logits", NEOX, ["mlp[0] -> logits", "mlp[1] -> logits", "mlp[2] -> logits"]),
        ("resid[{layer}] -> logits", GPT2, ["resid[0] -> logits", "resid[1] -> logits", "resid[2] -> logits"]),
        # An axis runs over what every family that uses it has: the stream has one layer more than the MLPs.
        ("mlp[{l}] -> resid[{l}]", GPT2, ["mlp[0] -> resid[0]", "mlp[1] -> resid[1]"]),
        ("head[{l},{h}].q -> logits", ct.graph("gpt2", layer=1, head=3), [f"head[0,{h}].q -> logits" for h in range(3)]),
        ("mlp[0] @ {p}+1 -> logits", NEOX, ["mlp[0] @ A+1 -> logits", "mlp[0] @ B+2 -> logits"]),
        ("mlp[0] @ {p}-1 -> logits @ {p}", NEOX, ["mlp[0] @ A-1 -> logits @ A", "mlp[0] @ B -> logits @ B+1"]),
        ("c[0] @ {p} -> logits freezing h except h[{l}]", ct.graph("mamba", layer=1, lag=2),
         ["c[0] @ A -> logits freezing h except h[0]", "c[0] @ B+1 -> logits freezing h except h[0]"]),
        ("(mlp[{l}], head[{l},0]) -> logits", GPT2, ["(mlp[0], head[0,0]) -> logits", "(mlp[1], head[1,0]) -> logits"]),
        ("embed -> logits", GPT2, ["embed -> logits"]),
    ],
)  # fmt: skip
def test_cells_fill_in_every_axis(path: str, graph: Graph, expected: list[str]) -> None:
    assert [str(cell.path) for cell in cells(ct.parse(path), graph, ["A", "B+1"])] == expected


def test_cells_come_in_the_order_of_the_axes() -> None:
    made = cells(ct.parse("head[{layer},{head}] @ {pos} -> logits"), GPT2, ["A", "B"], {"head": [1], "pos": ["B", 7]})
    assert [cell.values for cell in made] == [
        (("layer", layer), ("head", 1), ("pos", pos)) for layer in (0, 1) for pos in ("B", "7")
    ]


def test_chosen_positions_need_no_task() -> None:
    assert len(plan("mlp[0] @ {p} -> logits @ 9", GPT2, axes={"p": [0, 1, 2]}).cells) == 3
    assert [c.values for c in cells(ct.parse("mlp[0] @ {p} -> logits"), GPT2, [], {"p": "B+1"})] == [(("p", "B+1"),)]


@pytest.mark.parametrize(
    ("do", "message"),
    [
        (
            lambda: plan("mlp[{l}] @ {p} -> logits", GPT2),
            "{p} is an open position, and without a task there is none to fill it with",
        ),
        (lambda: plan("mlp[{l}] -> logits", GPT2, axes={"x": [1]}), "the path has no open axis 'x'; it has: l"),
        (lambda: plan("mlp[0] -> logits", GPT2, axes={"x": [1]}), "the path has no open axis 'x'; it has: none"),
        (lambda: plan("mlp[{l}] -> logits", GPT2, axes={"l": [0, 2]}), "l=2 is out of range; {l} has values 0 to 1"),
        (lambda: plan("mlp[{l}] -> logits", GPT2, axes={"l": [-1]}), "l=-1 is out of range; {l} has values 0 to 1"),
        (lambda: plan("mlp[{l}] -> logits", GPT2, axes={"l": "x"}), "l='x' is out of range; {l} has values 0 to 1"),
        (
            lambda: plan("mlp[{l}] -> logits", GPT2, axes={"l": []}),
            "no values for {l}; name at least one, or leave it out of axes for all",
        ),
        (
            lambda: plan("mlp[0] -> logits", GPT2, intervention="average"),
            "no intervention 'average'; known here: given, mean, resample, zero",
        ),
        (
            lambda: plan("mlp[0] -> logits", GPT2, direction="both"),  # type: ignore[arg-type]
            "expected direction 'noising' or 'denoising', got 'both'",
        ),
        (
            lambda: plan("mlp[0] @ {p} -> logits", GPT2, where=WHERE, axes={"p": ["Z"]}),
            "the task names no position 'Z'\n    mlp[0] @ Z -> logits\n             ^\nknown here: A, B, END",
        ),
        (
            lambda: plan("mlp[0] @ {p} -> logits", GPT2, axes={"p": ["B+"]}),
            "expected a whole number, found the end\n    B+\n      ^\nfor example: B+1",
        ),
    ],
)
def test_a_request_that_cannot_be_planned_says_why(do: Callable[[], object], message: str) -> None:
    with pytest.raises(ct.CircuitryError) as caught:
        do()
    assert str(caught.value) == message


def test_cells_without_effect_are_left_out_with_the_reason() -> None:
    made = plan("mlp[{a}] -> mlp[{b}]", GPT2)
    assert [c.values for c in made.cells] == [(("a", 0), ("b", 1))]
    assert [(dict(cell.values), why) for cell, why in made.skipped] == [
        ({"a": 0, "b": 0}, "mlp[0] is both the start and the end of this leg"),
        ({"a": 1, "b": 0}, "nothing flows from mlp[1] to mlp[0]"),
        ({"a": 1, "b": 1}, "mlp[1] is both the start and the end of this leg"),
    ]
    assert explain(made).endswith("(3 cells are left out; the first: mlp[0] is both the start and the end of this leg)")


@pytest.mark.parametrize("source", ["mlp[0] @ A", "(embed, mlp[0] @ A)", "(mlp[0] @ A, embed)"])
@pytest.mark.parametrize("changed", [None, [(0,), (0,)]], ids=["not known", "known"])
def test_a_source_without_effect_in_some_examples_is_refused_beside_any_other(
    source: str, changed: list[tuple[int, ...]] | None
) -> None:
    """Whether or not it is known where prompts differ, of which a source at every position would be the only one to ask."""
    with pytest.raises(ct.PathError, match=r"nothing flows from mlp\[0\] @ A to logits @ B in 1 of 2 examples"):
        plan(f"{source} -> logits @ B", GPT2, where={**WHERE, "B": [5, 2]}, length=[10, 10], changed=changed)


def test_where_no_cell_has_an_effect_the_first_reason_is_raised() -> None:
    with pytest.raises(ct.PathError, match=r"no unfrozen node between gate\[0\] and logits"):
        plan("gate[{l}] @ {p} -> logits directly", MAMBA, where=WHERE, length=LENGTH, sweep=["A", "B"])


@pytest.mark.parametrize(
    ("path", "graph", "expected"),
    [
        ("h[1] @ 4 -> logits freezing h", MAMBA, "ssm_state[0] ssm_state[2]"),
        ("h[1] @ 4 -> logits freezing h[0]", MAMBA, "ssm_state[0]"),
        ("c[1] @ 4 -> logits freezing h except h[1]", MAMBA, "ssm_state[0] ssm_state[2]"),
        ("c[1] @ 4 -> logits freezing ssm_in", MAMBA, "ssm_in[0] ssm_in[2]"),
        ("c[1] -> logits freezing c.B, x[2]", MAMBA, "conv_in[2] ssm_in[0].B ssm_in[1].B ssm_in[2].B"),
        ("x[0] -> logits freezing conv_tap[0] except conv_tap[0,1]", MAMBA, "conv_tap[0,0] conv_tap[0,2]"),
        # A name without a port means all others: the ends of a leg stay live, whichever of their ports is meant ...
        ("head[0,0] -> head[1,0].q freezing head", NEOX, "head[0,1] head[1,1] head[2,0] head[2,1]"),
        ("head[0,0].v -> logits freezing head", NEOX, "head[0,1] head[1,0] head[1,1] head[2,0] head[2,1]"),
        ("head[0,0] -> logits freezing head[1].k", NEOX, "head[1,0].k head[1,1].k"),
        # ... and a port that is named is held on the ends too, unless it is the end.
        (
            "head[1,0].q -> logits freezing head[1].k, head[1].q, head[0]",
            GPT2,
            "head[0,0] head[0,1] head[1,0].k head[1,1].k head[1,1].q",
        ),
        ("head[1].q -> logits freezing head.q, head[0].k", GPT2, "head[0,0].k head[0,0].q head[0,1].k head[0,1].q"),
        ("head[0,0] -> head[1,0] freezing head[1].pattern", GPT2, "head[1,0].pattern head[1,1].pattern"),
        ("head[0,0] -> head[1] freezing head, head[1,1].pattern", GPT2, "head[0,1] head[1,1].pattern"),
        (
            "head[0,0] -> head[1,0].v freezing head.v, head.z",
            GPT2,
            "head[0,0].v head[0,1] head[0,1].v head[1,0] head[1,1] head[1,1].v",
        ),
        ("c[1] -> h[1] freezing c.B except c[1]", MAMBA, "ssm_in[0].B ssm_in[2].B"),
        (
            "head[0,0] -> logits freezing head.q, head.k except head[1], head[2]",
            NEOX,
            "head[0,0].k head[0,0].q head[0,1].k head[0,1].q",
        ),
        (
            "head[0,0] -> logits freezing head.q, head.k except head[1].q",
            GPT2,
            "head[0,0].k head[0,0].q head[0,1].k head[0,1].q head[1,0].k head[1,1].k",
        ),
        ("(mlp[0], mlp[1]) -> (logits, resid[2]) freezing mlp, resid except resid[1], resid[3]", NEOX, "mlp[2] resid[0]"),
        ("head[0,0] -> logits freezing mlp, mlp[0]", GPT2, "mlp[0] mlp[1]"),
    ],
)
def test_freezing_holds(path: str, graph: Graph, expected: str) -> None:
    assert frozen(path, graph) == expected.split()


@pytest.mark.parametrize(
    ("path", "graph", "expected"),
    [
        ("embed -> logits directly", GPT2, "attn[0] attn[1] mlp[0] mlp[1]"),
        ("resid[1] -> logits directly", GPT2, "attn[1] mlp[1]"),
        ("resid_mid[0] -> logits directly", GPT2, "attn[1] mlp[0] mlp[1]"),
        # A node's own way into the stream stays live: a head's block, a state's read-out.
        ("head[0,1] -> logits directly", GPT2, "attn[1] mlp[0] mlp[1]"),
        ("head[0,1].k -> head[1,0].q directly", GPT2, "mlp[0]"),
        ("mlp[0] -> resid[1] directly", GPT2, ""),
        ("mlp[0] -> mlp[1] directly", GPT2, "attn[1]"),
        # Attention and MLP of one layer run side by side here, so neither lies between the other and what follows.
        ("head[0,1] -> logits directly", NEOX, "attn[1] attn[2] mlp[1] mlp[2]"),
        ("head[0,1] -> mlp[2] directly", NEOX, "attn[1] mlp[1]"),
        ("h[0] -> h[2] directly", MAMBA, "mixer_out[1]"),
        ("c[0].delta -> logits directly except mixer_out[1]", MAMBA, "mixer_out[2]"),
        ("(gate[0], gate[1]) -> logits directly", MAMBA, "mixer_out[2]"),
        ("h[0] -> logits directly freezing gate[1]", MAMBA, "gate[1] mixer_out[1] mixer_out[2]"),
    ],
)
def test_directly_holds(path: str, graph: Graph, expected: str) -> None:
    assert frozen(path, graph) == expected.split()


def test_passes_hand_what_a_leg_read_to_the_next() -> None:
    made = plan("head[0,1].z @ A -> (head[1,0].q, head[1,1].k @ B) freezing head -> logits", GPT2)
    q, k = Node("head", (1, 0), "q"), Node("head", (1, 1), "k")
    first, second = made.cells[0].passes
    assert first.writes == (Write(Node("head", (0, 1)), Position("A"), "source"),)
    assert first.reads == (Site(q), Site(k, Position("B"))) and first.frozen == {Node("head", (0, 0))}
    assert second.writes == (Write(q, None, 0), Write(k, Position("B"), 0))
    assert second.reads == (Site(Node("logits"), Position("END")),) and not second.frozen


def test_direction_and_intervention() -> None:
    made = plan("h[0] -> logits", MAMBA, direction="denoising", intervention="zero")
    assert (made.base, made.source, made.cells[0].passes[0].writes[0].value) == ("corrupted", "clean", MADE)


def test_a_path_may_be_text_or_value() -> None:
    built: Path = MAMBA.ssm_state[1] @ "B" + 1 >> MAMBA.logits
    assert plan(built, MAMBA).cells == plan("ssm_state[1] @ B+1 -> logits", MAMBA).cells


EXPLAINED = [
    (
        NEOX,
        """
head[0,1] @ B -> head[1,0].k @ B freezing head -> logits
  table      1 cell
  clean      record what is frozen
  corrupted  record head[0,1] @ B
  pass 1     on the clean input: write head[0,1] @ B from corrupted; freeze head (4 of 6) at clean; read head[1,0].k @ B
  pass 2     on the clean input: write head[1,0].k @ B from pass 1; read logits @ END
  kind       path patching through live nodes: everything but head is recomputed
""",
    ),
    (
        MAMBA,
        """
ssm_in[{layer}] @ {pos} -> logits freezing ssm_state except ssm_state[{layer}]
  table      6 cells over layer, pos
  clean      record what is frozen
  corrupted  record ssm_in[0] @ A
  pass 1     on the clean input: write ssm_in[0] @ A from corrupted; freeze ssm_state (2 of 3) at clean; read logits @ END
  kind       path patching through live nodes: everything but ssm_state is recomputed
(passes are those of the first cell, layer=0, pos=A)
""",
    ),
    (
        GPT2,
        """
embed @ A -> head[1,0].k @ A directly
  table      1 cell
  clean      record what is frozen
  corrupted  record embed @ A
  pass 1     on the clean input: write embed @ A from corrupted; freeze attn (1 of 2), mlp (1 of 2) at clean; read head[1,0].k @ A
  kind       one edge: only the residual stream itself connects the two ends
""",
    ),
    (
        GPT2,
        """
(head[0,0] @ 3, mlp[0]) -> logits
  table      1 cell
  clean      the baseline
  corrupted  record head[0,0] @ 3, mlp[0]
  pass 1     on the clean input: write head[0,0] @ 3, mlp[0] from corrupted; read logits @ END
  kind       total effect (activation patching): nothing is frozen, everything downstream is recomputed
""",
    ),
]


@pytest.mark.parametrize(("graph", "text"), EXPLAINED)
def test_explain(graph: Graph, text: str) -> None:
    made = plan(text.strip().split("\n")[0], graph, where=WHERE, length=LENGTH, sweep=["A", "B"])
    assert explain(made) == text.strip()


@pytest.mark.parametrize(
    ("intervention", "value"),
    [
        ("zero", "zeros (zero ablation)"),
        ("mean", "its mean over the corrupted prompts (mean ablation)"),
        (ct.given(2.0), "a given value"),
    ],
    ids=str,
)
def test_explain_says_what_is_put_in(intervention: Intervention | str, value: str) -> None:
    lines = explain(plan("mlp[0] -> logits", GPT2, intervention=intervention), {"cost": "little"}).split("\n")
    assert lines[3:5] == [
        f"  value      {value}",
        f"  pass 1     on the clean input: write mlp[0] from {intervention}; read logits @ END",
    ]
    assert lines[-1] == "  cost       little"


def test_kind_looks_at_every_leg() -> None:
    assert kind(plan("mlp[0] -> mlp[1] directly -> logits directly", GPT2)).startswith("one edge")
    assert kind(plan("mlp[0] -> mlp[1] directly -> logits", ct.graph("gpt2", layer=3, head=1))).startswith("path patching")


def patterns(graph: Graph) -> st.SearchStrategy[tuple[Node, ...]]:
    """Families, parts of families and single nodes that can be held."""
    names = {Node(n.family, n.indices[:k], n.port) for n in graph.nodes(ports=True) for k in range(len(n.indices) + 1)}
    allowed = [n for n in names if (n.port or "") in graph.family(n.family).freezable]
    return st.lists(st.sampled_from(sorted(allowed, key=str)), max_size=3).map(tuple)


@pytest.mark.parametrize("graph", [MAMBA, ct.graph("gpt_neox", layer=2, head=2), GPT2], ids=lambda graph: graph.name)
@given(data=st.data())
@settings(max_examples=80)
def test_a_path_is_refused_exactly_where_the_unrolled_graph_has_none(graph: Graph, data: st.DataObject) -> None:
    """The oracle knows no rules: held nodes are taken out of the position-level graph, and networkx looks for a way."""
    nodes, tokens = st.sampled_from(graph.nodes(ports=True)), st.integers(0, 5)
    source, target, start, stop = data.draw(st.tuples(nodes, nodes, tokens, tokens))
    assume(source != target and source.family != "logits")
    path = source @ start >> target @ stop
    if frozen := data.draw(patterns(graph)):
        path = path.freezing(*frozen)
    path = path.directly() if data.draw(st.booleans()) else path
    unrolled = graph.unroll(6)
    assume(all(frozen_by_name(graph, pattern, [source, target]) for pattern in frozen))
    holds = frozen_nodes(graph, [source], [target], path.legs[0])
    unrolled.remove_nodes_from([(node, p) for node in holds for p in range(6)])
    connected = nx.has_path(unrolled, (source, start), (target, stop))
    try:
        made = plan(path, graph, where={}, length=6)
    except ct.PathError as error:
        assert not connected, error
    else:
        assert connected
        assert made.cells[0].passes[0].frozen == holds
