"""Every edge of every graph against numbers: what a changed node moves is what the graph says that it reaches, at the same tokens."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import torch

from circuitry.architecture import Graph, Reach, definition
from circuitry.architecture.flow import Ways
from circuitry.errors import PathError
from circuitry.paths import Node
from circuitry.planning import plan
from support import tiny
from support.moved import Change, moved, values

TOKENS, AT = 7, 2
ROUNDING = 1e-11
"""Experts add up what they give in another order where tokens go elsewhere."""
KINDS: dict[str, dict[str, Any]] = {kind: {} for kind in (*tiny.CONFIGS, *tiny.OTHERS)}
KINDS |= {"mamba2-single": {"time_step_limit": (0.0, inf)}}  # a step size that is cut off at a limit does not move
KINDS |= {kind: {"seed": 2} for kind in KINDS if kind.startswith("falcon_h1")}
KINDS |= {kind: {"seed": 2, "time_step_min": 1e-6} for kind in KINDS if kind.startswith(("nemotron_h", "zamba2"))}
"""Seeds with which no state and no pattern of attention is so small that what moves it is lost in rounding."""
KINDS |= {"mimo_v2_flash": {"mlp_layer_types": ["dense", "sparse"]}, "lfm2_moe": {"layer_types": ["conv", "full_attention"]}}
KINDS |= {
    "phimoe": {"router_jitter_noise": 100.0}
}  # the weight of an expert that is far ahead of the next is 1, and does not move


def test_every_architecture_is_checked() -> None:
    assert {kind.split("-")[0] for kind in KINDS} >= {
        "gpt2",
        "gpt_neox",
        "llama",
        "mamba",
        "mamba2",
        "falcon_mamba",
        "jamba",
        "lfm2",
        "recurrent_gemma",
        "bamba",
        "falcon_h1",
        "granitemoehybrid",
        "nemotron_h",
        "zamba2",
        "rwkv",
    }


def reached(graph: Graph, change: Change) -> set[Change]:
    """Every node and token that a change of a node at a token arrives at, as the graph says."""
    node, at = change
    return {(n, q) for n, reach in graph.reach([node]).items() for q in range(TOKENS) if reach.reaches(q - at)}


def wrong_edges(model: Any, nodes: list[Node]) -> list[str]:
    """What moves and should not, and what should and does not."""
    ids = torch.randint(1, 61, (2, TOKENS), generator=torch.Generator().manual_seed(0))
    graph, base, found = model.graph, values(model, ids), []
    for node in nodes:
        patched, wanted = values(model, ids, (node, AT)), reached(graph, (node, AT))
        found += [f"{node} moves {n} @ {q - AT:+d}" for n, q in moved(graph, base, patched, ROUNDING) - wanted]
        found += [f"{node} does not move {n} @ {q - AT:+d}" for n, q in wanted - moved(graph, base, patched)]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_moves_is_what_the_graph_reaches(kind: str) -> None:
    model = tiny.model(kind, layers=4 if kind.startswith("jamba") else 2, **KINDS[kind])
    assert not wrong_edges(model, model.graph.nodes(ports=True))


FULL, SLIDING = "full_attention", "sliding_attention"


@pytest.mark.parametrize("layers", [(SLIDING, SLIDING), (FULL, SLIDING), (SLIDING, FULL)], ids="-".join)
@pytest.mark.parametrize("kind", sorted({*definition("llama").model_types} - {"iquestcoder"}))  # its config refuses a window
def test_a_sliding_window_is_as_wide_as_the_graph_says(kind: str, layers: tuple[str, ...]) -> None:
    """All settings that may mean a window are made, so that a type which does not heed one of them is seen too."""
    changes: dict[str, Any] = {"sliding_window": 2, "use_sliding_window": True, "layer_types": list(layers)}
    model = tiny.model(kind, layers=2, **KINDS[kind], **changes)
    chosen = ["embed", "head[0,1].k", "head[0,0].v", "head[1,0].k", "head[1,1].v", "head[1,0].q", "mlp[0]"]
    assert not wrong_edges(model, [model.graph.node(name) for name in chosen])


def test_recurrent_gemmas_window_is_as_wide_as_the_graph_says() -> None:
    model = tiny.model("recurrent_gemma", layers=2, attention_window_size=2, block_types=["attention", "recurrent"])
    assert not wrong_edges(model, [model.graph.node(name) for name in ("embed", "head[0,1].k", "head[0,0].v", "head[0,1].q")])
    assert model.graph.windows == {0: 2}


def test_windows_add_up_over_layers() -> None:
    """Two layers that see one token back each bring a token two on, and the logits three on do not move at all."""
    model = tiny.model("mistral", layers=2, sliding_window=2)
    assert "window=2" in repr(model.graph)
    assert model.graph.reach([Node("embed")])[Node("logits")] == Reach(((0, 2),))
    with pytest.raises(
        PathError, match=r"out of reach: from embed to logits information moves 0 to 2 tokens, and 6 is 3 after 3"
    ):
        plan("embed @ 3 -> logits @ 6", model.graph)
    with pytest.raises(PathError, match="information moves 0 to 1 tokens, and 5 is 2 after 3"):
        plan("embed @ 3 -> logits @ 5 freezing head[1]", model.graph)
    assert len(plan("embed @ {p} -> logits @ 6", model.graph, axes={"p": range(7)}).cells) == 3
    ids = torch.randint(1, 61, (2, 9), generator=torch.Generator().manual_seed(0))
    other = ids.clone()
    other[:, 3] += 1
    stock = tiny.stock("mistral", layers=2, sliding_window=2)
    with torch.no_grad():
        differs = (stock(ids).logits != stock(other).logits).any(-1).any(0)
    assert differs.nonzero()[:, 0].tolist() == [3, 4, 5]


def test_the_test_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph without one edge, and one with an edge too many, are noticed."""
    model = tiny.model("rwkv", layers=2)
    tap, value, key = Node("shift_tap", (1, 1), "value"), Node("wkv_in", (1,), "value"), Node("wkv_in", (1,), "key")
    graph = Graph(model.graph.architecture, model.graph.sizes)
    known = graph._flow.known
    monkeypatch.setattr(graph._flow, "ways", Ways.of([way for way in known if way[1] != (value, "")], graph._rank))
    monkeypatch.setattr(model, "graph", graph)
    assert f"{tap} moves {value} @ +0" in wrong_edges(model, [tap])
    more = Graph(graph.architecture, graph.sizes)
    wrong = (tap, ""), (key, ""), more.nx.edges[Node("wkv_in", (1,)), key]["rule"]
    monkeypatch.setattr(more._flow, "ways", Ways.of([*known, wrong], more._rank))
    monkeypatch.setattr(model, "graph", more)
    assert f"{tap} does not move {key} @ +0" in wrong_edges(model, [tap])


def test_parts_of_one_value_are_told_apart() -> None:
    """RWKV mixes key, value and receptance side by side: what a tap gives the value does not reach the key."""
    graph = tiny.model("rwkv").graph
    after = graph.descendants("shift_tap[1,0].value")
    assert {graph.node("wkv_in[1]"), graph.node("wkv_in[1].value"), graph.node("wkv_state[1]")} <= after
    assert not {graph.node("wkv_in[1].key"), graph.node("gate[1]")} & after
    assert graph.node("shift_tap[1,0].value") not in graph.ancestors("gate[1]")
    assert graph.node("shift_tap[1,0].receptance") in graph.ancestors("gate[1]")
    assert graph.node("shift_tap[1,0].value") in graph.ancestors("wkv_in[1]")
