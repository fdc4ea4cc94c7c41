"""Where every head has a state: a layer named without its heads is all of them, in paths, suites, scores and random nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.paths import Node
from circuitry.planning import plan
from support import tiny
from support.agreement import both, model, ragged
from support.moved import values

EXACT = 1e-10
PROMPTS = ragged()


@pytest.mark.parametrize("rest", ("@ B+1 -> logits freezing ssm_state", "-> resid[3] @ END", "@ B -> h[2] @ END freezing delta"))
def test_a_name_without_its_head_is_all_heads(rest: str) -> None:
    heads = ", ".join(f"ssm_state[1,{n}] {rest.split('->')[0].strip()}".strip() for n in range(4))
    layer, written = (
        both(model("mamba2"), f"ssm_state[1] {rest}", PROMPTS),
        both(model("mamba2"), f"({heads}) ->{rest.split('->')[1]}", PROMPTS),
    )
    assert len(layer) == len(written) and layer[0].effect > 1e-5
    assert all(torch.equal(one.engine, other.engine) and one.error < EXACT for one, other in zip(layer, written, strict=True))


def test_a_table_over_layers_of_heads() -> None:
    task = ct.task("induction", distance=8, examples=4)
    path = "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"
    table = ct.patch(model("mamba2"), task, path, executor=ct.executor(verify=2), lint=False, baseline=0)
    assert table.axes == ("layer",) and list(table.mean().index) == [0, 1, 2] and (table.mean() != 0).all()
    by_head = ct.patch(
        model("mamba2"), task, path.replace("{layer}", "{layer},{head}"), executor=ct.executor(verify=2), lint=False
    )
    assert by_head.axes == ("layer", "head") and len(by_head.mean()) == 12
    only = ct.patch(model("mamba2"), task, "ssm_in[1] @ B -> logits freezing h except h[1,2]", lint=False, baseline=0)
    assert only.mean().abs().max() > 0


def test_a_step_size_is_made_of_the_stream_and_writes_one_head() -> None:
    graph = ct.graph("mamba2", layer=1, head=2)
    assert {str(node) for node in graph.ancestors("delta[0,1]")} == {"resid[0]", "embed"}
    assert {str(node) for node in graph.descendants("delta[0,1]")} == {
        *(f"ssm_state[0,1]{port}" for port in ("", ".read", ".carry")),
        *("ssm_out[0,1]", "mixer_out[0]", "resid[1]", "logits"),
    }
    with pytest.raises(ct.PathError, match=r"nothing flows from ssm_in\[0\] to delta\[0,1\]"):
        plan("ssm_in[0] @ 3 -> delta[0,1] @ 3", graph)


# --- suites and evidence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suite", "options"), [("induction", {"distances": [8], "distance": 8}), ("ioi", {})])
def test_suites_find_nothing_in_a_random_model(suite: str, options: dict[str, Any]) -> None:
    found = ct.run(suite, tiny.model("mamba2", layers=2, dtype=torch.float32), examples=16, **options)
    assert found.summary.architecture == "mamba2" and found.summary.components == []
    assert set(found.tables["state_by_position"].frame["layer"]) == {0, 1}


def test_where_a_token_is_taken_up_is_asked_by_layer() -> None:
    found = ct.off_by_one(tiny.model("mamba2", layers=2), ct.task("induction", distance=8, examples=16), "B")
    assert set(found.frame["layer"]) == {0, 1, "all"} and found.models[0].architecture == "mamba2"


def test_a_circuit_of_heads_is_scored() -> None:
    task = ct.task("induction", distance=8, examples=4)
    found = ct.score(tiny.model("mamba2", layers=2), task, ["h[0,1]", "h[1,3]"], random=2, subsets=1)
    assert list(found.minimality["node"]) == ["ssm_state[0,1]", "ssm_state[1,3]"] and len(found.random) == 2


@pytest.mark.parametrize(("suite", "options"), [("induction", {"distances": [8], "distance": 8}), ("ioi", {})])
def test_suites_take_layers_of_heads_apart(suite: str, options: dict[str, Any]) -> None:
    """With so few examples a share is enough to be named, also of nothing."""
    found = ct.run(suite, tiny.model("mamba2", layers=3, dtype=torch.float32), examples=4, **options)
    states = [one.node for one in found.summary.components if one.role == "state"]
    assert states and set(states) <= {f"ssm_state[{n}]" for n in range(3)}
    if suite == "induction":
        assert set(found.tables["write_ports"].frame["reader"]) == {"all", "value", "B", "delta"}
    else:
        assert any("ssm_state" in str(label) for label in found.tables["scores"].frame["set"])


def test_a_circuit_of_whole_layers_is_scored() -> None:
    task = ct.task("induction", distance=8, examples=4)
    whole = ct.score(tiny.model("mamba2"), task, ["h[1]"], random=2, subsets=1)
    heads = ct.score(tiny.model("mamba2"), task, [f"h[1,{n}]" for n in range(4)], random=2, subsets=1)
    assert whole.roles == {"node": ["ssm_state[1]"]} and len(whole.random) == len(whole.outsiders) == 2
    assert whole.faithfulness == pytest.approx(heads.faithfulness)
    with pytest.raises(ct.CircuitryError, match="expected nodes of one kind, got 2 kinds"):
        ct.score(tiny.model("mamba2"), task, ["h[1]", "h[2,0]"])


def test_random_nodes_of_a_layer_are_those_of_a_layer() -> None:
    task = ct.task("induction", distance=8, examples=4)
    path = "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"
    table = ct.patch(tiny.model("mamba2"), task, path, baseline=4, lint=False)
    assert table.random is not None
    assert {name.split(" @")[0] for name in table.random["node"]} <= {f"ssm_state[{layer}]" for layer in range(3)}
    written = ", ".join(f"ssm_state[1,{n}] @ B+1" for n in range(4))
    one_by_one = ct.patch(tiny.model("mamba2"), task, f"({written}) -> logits", baseline=4, lint=False)
    assert one_by_one.random is not None
    assert {name.split(" @")[0] for name in one_by_one.random["node"]} <= {f"ssm_state[{layer}]" for layer in range(3)}


# --- what the heads of a layer do not all do ------------------------------------------------------------------------------


def by_hooks(path_source: str, target: Node, at_source: Tensor, at_target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Clean, corrupted and patched value of a target, by hooks alone: the whole place of the source is written at its positions."""
    ours, rows = model("mamba2"), torch.arange(len(PROMPTS))
    clean, corrupted = (values(ours, torch.from_numpy(ids)) for ids in (PROMPTS.clean, PROMPTS.corrupted))
    place, graph = ours.graph.place(ours.graph.node(path_source)), ours.graph

    def write(_: object, __: object, out: Tensor) -> Tensor:
        new = out.clone()
        new[rows, at_source] = corrupted[place][rows, at_source]
        return new

    handle = ours.hf.get_submodule(place.module).register_forward_hook(write)
    patched = values(ours, torch.from_numpy(PROMPTS.clean))
    handle.remove()
    read = graph.place(target)
    return tuple(found[read][rows, at_target].select(1, int(target.indices[-1])) for found in (clean, corrupted, patched))  # type: ignore[return-value, arg-type]


def test_a_layer_is_one_source_though_not_all_its_heads_reach_the_target() -> None:
    b, end = (torch.from_numpy(PROMPTS.where[name]) for name in ("B", "END"))
    clean, _, wanted = by_hooks("delta[0,0]", Node("ssm_out", (0, 0)), b, end)
    (whole,) = both(model("mamba2"), "delta[0] @ B -> ssm_out[0,0] @ END", PROMPTS)
    assert (whole.engine - wanted).abs().max() < EXACT and whole.error < EXACT and (wanted - clean).abs().max() > 1e-3
    (alone,) = both(model("mamba2"), "delta[0,0] @ B -> ssm_out[0,0] @ END", PROMPTS)
    assert (whole.engine - alone.engine).abs().max() < EXACT
    assert plan("embed @ B -> ssm_state[0] @ B -> ssm_out[0,3] @ END", model("mamba2").graph).cells
    with pytest.raises(ct.PathError, match=r"nothing flows from delta\[0,1\] to ssm_out\[0,0\]"):
        plan("(delta[0,0] @ B, delta[0,1] @ B) -> ssm_out[0,0] @ END", model("mamba2").graph)
    with pytest.raises(ct.PathError, match=r"nothing flows from delta\[1\] to ssm_out\[0,0\]"):
        plan("delta[1] @ B -> ssm_out[0,0] @ END", model("mamba2").graph)


def test_a_distance_of_a_node_that_is_one_number() -> None:
    """A step size is a number a token: the distance is the size of its change; over all heads and tokens the root of their squares."""
    task = ct.task("induction", distance=8, examples=4)
    ours = tiny.model("mamba2")
    prompts = task.prompts(ours.vocabulary)
    place, b = ours.graph.place(Node("delta", (0, 1))), int(prompts.where["B"][0])
    clean, corrupted = (values(ours, torch.from_numpy(ids))[place] for ids in (prompts.clean, prompts.corrupted))
    differs = clean - corrupted

    def effects(path: str, **options: Any) -> Tensor:
        found = ct.patch(ours, task, path, lint=False, baseline=0, **options)
        return torch.tensor(found.frame["effect"].tolist(), dtype=torch.float64)

    assert torch.allclose(effects("embed @ B -> delta[0,1] @ B"), differs[:, b, 1].abs(), atol=1e-12)
    assert torch.allclose(effects("embed @ B -> delta[0] @ B"), differs[:, b].norm(dim=-1), atol=1e-12)
    assert torch.allclose(effects("embed -> delta[0,1]"), differs[:, :, 1].norm(dim=-1), atol=1e-12)
    path = "delta[0,1] @ B -> delta[1,1] @ B+1"
    zero, given = effects(path, intervention="zero"), effects(path, intervention=ct.given(0.0))
    assert torch.equal(zero, given) and (zero > 0).all()
