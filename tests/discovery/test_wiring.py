"""The edges of a wiring are those of the graph: by hand for one layer, and by reachability for more."""

from __future__ import annotations

import itertools
from typing import Any

import networkx as nx
import pytest

import circuitry as ct
from circuitry.discovery.wiring import Edge, Wiring, edge
from circuitry.errors import CircuitryError
from support import tiny

SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"layer": 3, "head": 2},
    "gpt_neox": {"layer": 3, "head": 2},
    "llama": {"layer": 2, "head": 3},
    "gemma2": {"layer": 3, "head": 2},
    "mamba": {"layer": 3},
    "falcon_mamba": {"layer": 2},
    "mamba2": {"layer": 2, "head": 3},
    "rwkv": {"layer": 3},
    "qwen3_next": {"layer": 2, "head": 2, "state_head": 2, "layout": ("delta mlp", "attention mlp")},
    "rwkv7": {"layer": 3, "state_head": 2},
    "jamba": {"layer": 4, "head": 2, "layout": ("mamba mlp", "attention mlp")},
    "lfm2": {"layer": 4, "head": 2, "layout": ("conv mlp", "attention mlp")},
    "recurrent_gemma": {"layer": 4, "head": 2, "layout": ("recurrent mlp", "attention mlp")},
}
HEADS = [f"embed -> head[0,{head}].{port}" for head in (0, 1) for port in "kqv"]
OVER_STREAM = {
    "gpt2": [
        *HEADS,
        *(f"{source} -> mlp[0]" for source in ("embed", "head[0,0]", "head[0,1]")),
        *(f"{source} -> logits" for source in ("embed", "head[0,0]", "head[0,1]", "mlp[0]")),
    ],
    "gpt_neox": [
        *HEADS,
        "embed -> mlp[0]",
        *(f"{source} -> logits" for source in ("embed", "head[0,0]", "head[0,1]", "mlp[0]")),
    ],
    "mamba": ["embed -> conv_in[0]", "embed -> gate[0]", "embed -> logits", "mixer_out[0] -> logits"],
    "mamba2": [
        *(f"embed -> {target}" for target in ("conv_in[0]", "gate[0]", "delta[0,0]", "delta[0,1]", "logits")),
        "mixer_out[0] -> logits",
    ],
    "rwkv": [
        "embed -> shift_in[0]",
        *(f"{source} -> mlp_in[0]" for source in ("embed", "mixer_out[0]")),
        *(f"{source} -> logits" for source in ("embed", "mixer_out[0]", "mlp[0]")),
    ],
    "jamba": [
        *("embed -> conv_in[0]", "embed -> gate[0]", "embed -> mlp[0]", "mixer_out[0] -> mlp[0]"),
        *(f"{source} -> logits" for source in ("embed", "mixer_out[0]", "mlp[0]")),
    ],
}
OVER_STREAM["qwen3_next"] = [
    *(f"embed -> {target}" for target in ("conv_in[0]", "gate[0]", "beta[0,0]", "beta[0,1]", "decay[0,0]", "decay[0,1]")),
    *(f"{source} -> mlp[0]" for source in ("embed", "mixer_out[0]")),
    *(f"{source} -> logits" for source in ("embed", "mixer_out[0]", "mlp[0]")),
]
NO_SUMS = ("gemma2", "qwen3_next")
"""Where a norm comes after heads, or gates multiply them."""
OVER_STREAM["llama"] = OVER_STREAM["gpt2"]
OVER_STREAM["gemma2"] = [
    *HEADS,
    *(f"{source} -> mlp[0]" for source in ("embed", "attn[0]")),
    *(f"{source} -> logits" for source in ("embed", "attn[0]", "mlp[0]")),
]
NORMED = {f"head[0,{head}] -> attn[0]": "same position" for head in (0, 1)}
OVER_STREAM["recurrent_gemma"] = OVER_STREAM["jamba"]
OVER_STREAM["lfm2"] = ["embed -> conv_value[0]", "embed -> input_gate[0]", *OVER_STREAM["jamba"][1:]]
MAMBA = {
    **{f"conv_tap[0,{lag}] -> ssm_in[0]": "same position" for lag in range(4)},
    **{f"ssm_in[0].{port} -> ssm_state[0]": "same position" for port in ("value", "delta", "B")},
    **{f"ssm_in[0].{port} -> ssm_out[0]": "same position" for port in ("C", "skip")},
    "ssm_state[0].carry -> ssm_state[0]": "next position",
    "ssm_state[0].read -> ssm_out[0]": "same position",
    "ssm_out[0] -> mixer_out[0]": "same position",
    "gate[0] -> mixer_out[0]": "same position",
}
MAMBA2 = {
    **{f"conv_tap[0,{lag}] -> ssm_in[0]": "same position" for lag in range(4)},
    **{f"ssm_in[0].{port} -> ssm_state[0]": "same position" for port in ("value", "B")},
    **{f"ssm_in[0].{port} -> ssm_out[0]": "same position" for port in ("C", "skip")},
    **{f"delta[0,{head}] -> ssm_state[0,{head}]": "same position" for head in (0, 1)},
    **{f"ssm_state[0,{head}].carry -> ssm_state[0,{head}]": "next position" for head in (0, 1)},
    **{f"ssm_state[0,{head}].read -> ssm_out[0,{head}]": "same position" for head in (0, 1)},
    **{f"ssm_out[0,{head}] -> mixer_out[0]": "same position" for head in (0, 1)},
    "gate[0] -> mixer_out[0]": "same position",
}
DELTA = {
    **{f"conv_tap[0,{lag}] -> ssm_in[0]": "same position" for lag in range(4)},
    **{f"ssm_in[0].{port} -> ssm_state[0]": "same position" for port in ("value", "key", "erase")},
    "ssm_in[0].query -> ssm_out[0]": "same position",
    **{f"beta[0,{head}].{port} -> ssm_state[0,{head}]": "same position" for head in (0, 1) for port in ("write", "erase")},
    **{f"decay[0,{head}] -> ssm_state[0,{head}]": "same position" for head in (0, 1)},
    **{f"ssm_state[0,{head}].carry -> ssm_state[0,{head}]": "next position" for head in (0, 1)},
    **{f"ssm_state[0,{head}].read -> ssm_out[0,{head}]": "same position" for head in (0, 1)},
    **{f"ssm_out[0,{head}] -> mixer_out[0]": "same position" for head in (0, 1)},
    "gate[0] -> mixer_out[0]": "same position",
}
MIXED = ("key", "value", "receptance")
RWKV = {
    **{f"shift_tap[0,{lag}].{port} -> wkv_in[0].{port}": "same position" for lag in (0, 1) for port in MIXED},
    **{f"wkv_in[0].{port} -> wkv_state[0]": "same position" for port in ("key", "value")},
    "wkv_in[0].receptance -> gate[0]": "same position",
    "wkv_state[0].carry -> wkv_state[0]": "next position",
    "wkv_state[0].read -> wkv_out[0]": "next position",
    **{f"{source}[0] -> mixer_out[0]": "same position" for source in ("wkv_out", "gate")},
    **{f"mlp_tap[0,{lag}].key -> mlp_hidden[0]": "same position" for lag in (0, 1)},
    **{f"mlp_tap[0,{lag}].receptance -> mlp_gate[0]": "same position" for lag in (0, 1)},
    **{f"{source}[0] -> mlp[0]": "same position" for source in ("mlp_hidden", "mlp_gate")},
}
LFM2 = {
    **{f"{source}[0] -> conv_in[0]": "same position" for source in ("conv_value", "input_gate")},
    **{f"conv_tap[0,{lag}] -> conv_out[0]": "same position" for lag in range(3)},
    **{f"{source}[0] -> mixer_out[0]": "same position" for source in ("conv_out", "gate")},
}
GRIFFIN = {
    **{f"conv_tap[0,{lag}] -> ssm_in[0]": "same position" for lag in range(4)},
    **{f"ssm_in[0].{gate} -> {gate}[0]": "same position" for gate in ("input_gate", "recurrent_gate")},
    **{f"{source}[0] -> ssm_state[0]": "same position" for source in ("input_gate", "recurrent_gate")},
    "ssm_in[0].value -> ssm_state[0]": "same position",
    "ssm_state[0].carry -> ssm_state[0]": "next position",
    "ssm_state[0].read -> ssm_out[0]": "same position",
    **{f"{source}[0] -> mixer_out[0]": "same position" for source in ("ssm_out", "gate")},
}
INSIDE = {
    "gpt2": {},
    "gpt_neox": {},
    "llama": {},
    "gemma2": NORMED,
    "mamba": MAMBA,
    "mamba2": MAMBA2,
    "rwkv": RWKV,
    "jamba": MAMBA,
    "qwen3_next": DELTA,
}
INSIDE |= {"lfm2": LFM2, "recurrent_gemma": GRIFFIN}


def wiring(name: str, **sizes: int) -> Wiring:
    return Wiring(ct.graph(name, **(SIZES[name] | sizes)))


@pytest.mark.parametrize("name", OVER_STREAM)
def test_one_layer_by_hand(name: str) -> None:
    one = wiring(name, layer=1, **({"head": 2} if "head" in SIZES[name] else {}))
    inner = {str(each): one.rule(each).name for each in one.inner}
    assert sorted(map(str, one.edges)) == sorted([*OVER_STREAM[name], *inner])
    assert inner == INSIDE[name]
    assert len(set(one.edges)) == len(one.edges)
    assert {one.rule(each).name for each in one.edges if each not in one.inner} == {"same position"}


@pytest.mark.parametrize("name", SIZES)
def test_edges_are_reachability_over_the_stream(name: str) -> None:
    one = wiring(name)
    graph = one.graph.nx
    assert one.heads == one.sums or name in NO_SUMS
    stream = {node for node, data in graph.nodes(data=True) if data["role"] == "resid"}
    summing = {
        node for node in graph if any(graph.nodes[p]["role"] == "head" for p in graph.predecessors(node)) and not node.port
    }
    summing = {node for node in summing if graph.nodes[node]["role"] != "head" and name not in NO_SUMS}
    into = {node for stage in stream for node in graph.predecessors(stage)} - stream
    senders = (into - summing) | {p for node in into & summing for p in graph.predecessors(node)}
    readers = {node for stage in stream for node in graph.successors(stage)} - stream
    wanted = set()
    for source, target in itertools.product(senders, readers):
        between = graph.subgraph({source, target, *stream, *summing}).copy()
        between.remove_edges_from([(a, b) for a, b in between.edges if b in summing and a != source])
        if source != target and nx.has_path(between, source, target):
            wanted.add(Edge(source, target))
    assert set(one.edges) - set(one.inner) == wanted
    assert set(one.senders) == senders and set(one.readers) == readers


@pytest.mark.parametrize("name", [name for name in SIZES if INSIDE.get(name) != {}])
def test_every_way_through_a_block_has_an_inner_edge(name: str) -> None:
    one = wiring(name)
    cut = one.graph.nx.copy()
    cut.remove_nodes_from(one.stages)
    attention = {node for node in cut if one.graph.family(node.family).role == "head"}
    cut.remove_nodes_from({*attention, *(each.source for each in one.inner)})
    for reader, sender in itertools.product(set(one.readers) & set(cut), set(one.senders) & set(cut)):
        if reader != sender:
            assert not nx.has_path(cut, reader, sender), (str(reader), str(sender))


@pytest.mark.parametrize("name", SIZES)
def test_edges_come_in_order_of_their_targets(name: str) -> None:
    one = wiring(name)
    rank = {node: k for k, node in enumerate(one.graph.nodes(ports=True))}
    over = [each for each in one.edges if each not in one.inner]
    assert over == sorted(over, key=lambda each: (rank[each.target], rank[each.source]))
    assert [one.number[each] for each in one.edges] == list(range(len(one.edges)))


def test_stages_after_and_before() -> None:
    one = wiring("jamba")
    assert [str(stage) for stage in one.stages[:3]] == ["resid[0]", "resid_mid[0]", "resid[1]"]
    stage = {str(block): one.stage_after(block) for block in one.blocks}
    assert [stage[block] for block in ("mixer_out[0]", "mlp[0]", "attn[1]", "mlp[1]")] == [1, 2, 3, 4]
    assert one.layer_before(one.graph.node("ssm_state[2]")) == 4
    assert one.layer_before(one.graph.node("mlp[1]")) == 3


def test_find() -> None:
    one = wiring("gpt2")
    assert one.find("head[0,1].z -> head[1,0].k") == edge("head[0,1] -> head[1,0].k")
    with pytest.raises(CircuitryError, match=r"is not in the graph: mlp\[0\] reads embed, head\[0,0\], head\[0,1\]$"):
        one.find("mlp[1] -> mlp[0]")
    with pytest.raises(CircuitryError, match=r"no edge leads to attn\[0\]"):
        one.find("embed -> attn[0]")
    with pytest.raises(CircuitryError, match=r"mlp\[2\] reads .* and 3 more$"):
        one.find("logits -> mlp[2]")
    with pytest.raises(CircuitryError, match="has no node"):
        one.find("mlp[7] -> logits")
    for text in ("mlp[0]", "embed -> mlp[0] -> logits"):
        with pytest.raises(CircuitryError, match="is not an edge"):
            one.find(text)


def test_a_loaded_model_has_the_wiring_of_its_graph() -> None:
    model = tiny.model("jamba", 4)
    assert Wiring(model.graph).edges == wiring("jamba", head=4).edges


def test_nodes_and_blocks_by_hand() -> None:
    """Without the stream, the logits and attention patterns, whose change times a derivative would mean nothing."""
    one = wiring("gpt2", layer=1, head=1)
    assert [str(node) for node in one.nodes] == [
        "embed",
        "head[0,0].k",
        "head[0,0].q",
        "head[0,0].v",
        "head[0,0]",
        "attn[0]",
        "mlp[0]",
    ]
    assert [str(block) for block in one.blocks] == ["attn[0]", "mlp[0]"]
    assert {str(block): [str(head) for head in heads] for block, heads in one.sums.items()} == {"attn[0]": ["head[0,0]"]}
