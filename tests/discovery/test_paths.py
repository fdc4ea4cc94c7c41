"""Whole paths: in compiled models the true one comes first and carries everything; circuits that are drawn are what is scored."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import networkx as nx
import numpy as np
import pytest

import circuitry as ct
from circuitry.discovery.circuit import EdgeCircuit, edge_circuit
from circuitry.discovery.path_level import paths
from circuitry.discovery.routes import Routes
from circuitry.discovery.wiring import edge
from circuitry.drawing.circuit import Circuit
from circuitry.errors import CircuitryError
from support import asking

LATER = ("B", "B+1", "B+2", "B+3")

pytestmark = pytest.mark.filterwarnings("ignore:.*nothing to explain here:UserWarning")  # a model with random weights

TRUE = {
    ("transformer", "B"): "embed @ B -> head[1,0].v @ B directly -> head[1,0] @ END -> logits directly",
    ("transformer", "A"): "embed @ A -> head[0,1].v @ A directly -> head[0,1] @ B -> head[1,0].k @ B directly -> head[1,0] @ END -> "
    "logits directly",
    ("mamba", "B"): "embed @ B -> conv_in[1] @ B directly -> conv_tap[1,0] @ B -> ssm_in[1].value @ B -> ssm_state[1].read @ END -> "
    "ssm_out[1] @ END -> mixer_out[1] @ END -> logits directly",
    ("mamba2", "A"): "embed @ A -> conv_in[1] @ A directly -> conv_tap[1,1] @ B -> ssm_in[1].B @ B -> ssm_state[1,2].read @ END -> "
    "ssm_out[1,2] @ END -> mixer_out[1] @ END -> logits directly",
    ("rwkv", "B"): "embed @ B -> shift_in[1] @ B directly -> shift_tap[1,0].value @ B -> wkv_in[1].value @ B -> "
    "wkv_state[1].read @ END-1 -> wkv_out[1] @ END -> mixer_out[1] @ END -> logits directly",
}  # fmt: skip


@functools.cache
def found(name: str, corruption: str) -> Any:
    task = ct.task("induction", distance=8 if name == "transformer" else 4, prefix=1, examples=4, corruption=corruption)
    return ct.discover(ct.load(f"compiled:{name}"), task, verify=0, progress=False)


@pytest.mark.parametrize(("name", "corruption"), TRUE)
def test_the_true_path_comes_first_and_is_exact(name: str, corruption: str) -> None:
    frame = paths(found(name, corruption), count=3)
    assert frame["path"][0] == TRUE[name, corruption]
    # Without a key that matches, the head attends to all tokens alike, so one part in ``distance`` (8) of the answer is left.
    left = 1 / 8 if (name, corruption) == ("transformer", "A") else 0
    assert frame["normalized"][0] == pytest.approx(1 - left, abs=1e-3)
    assert (frame["normalized"][1:].abs() < left + 1e-3).all() and (frame["strength"].diff()[1:] <= 0).all()
    assert frame["path"].is_unique


def test_ways_that_can_have_no_effect_are_left_out() -> None:
    """Rounding gives the embedding at B a change of its own, though the prompts differ at A alone."""
    discovered = found("transformer", "A")
    assert not any(path.startswith("embed @ B ") for path in paths(discovered, count=8)["path"])


def test_without_positions_or_ways_there_is_no_path() -> None:
    model, task = asking.small("gpt2"), ct.task("induction", distance=4, examples=4)
    with pytest.raises(CircuitryError, match="a path needs its tokens"):
        paths(ct.discover(model, task, verify=0, positions=False, progress=False))
    with pytest.raises(CircuitryError, match="the best 1 edges join to no path"):
        paths(ct.discover(model, task, verify=0, progress=False), edges=1)


@functools.cache
def tiny() -> Any:
    return ct.discover(asking.small("gpt2"), ct.task("induction", distance=3, prefix=1, examples=6), verify=0, progress=False)


def test_a_circuit_survives_json() -> None:
    circuit = tiny().circuit(edges=30)
    read = EdgeCircuit.from_json(circuit.to_json())
    assert isinstance(read, EdgeCircuit) and read.cells == circuit.cells and len(read.cells) > 3
    assert read.to_json() == circuit.to_json()
    wiring, labels = tiny().question.wiring, tiny().question.labels.names
    np.testing.assert_array_equal(read.mask(wiring, labels), circuit.mask(wiring, labels))
    plain = Circuit(circuit.title, circuit.positions, circuit.nodes, circuit.edges)
    for text in (plain.to_json(), '{"title": 3}', "[]"):
        with pytest.raises(CircuitryError):
            EdgeCircuit.from_json(text)


def test_a_circuit_has_the_effects_of_its_cells_and_only_edges_on_a_way() -> None:
    discovered = tiny()
    circuit, whole = discovered.circuit(edges=40), discovered.circuit(edges=40, prune=False)
    assert set(circuit.cells) <= set(whole.cells) == {discovered.name(cell) for cell in discovered.cells(40)}
    wiring, mean = discovered.question.wiring, discovered.mean
    mask = circuit.mask(wiring, discovered.question.labels.names)
    assert mask.sum() == len(circuit.cells)
    drawn = [each.effect for each in circuit.edges if not math.isnan(each.effect)]
    assert sorted(drawn) == pytest.approx(sorted(mean[mask]))
    routes = Routes(wiring, discovered.question.labels)
    joined = routes.joined([(edge(text), position) for text, position in circuit.cells])
    assert routes.between(joined) == set(joined)
    assert {node.name for node in circuit.nodes} == {routes.name(*end) for end in joined}


def test_pruning_refuses_what_leads_nowhere() -> None:
    question = tiny().question
    effects = {("mlp[0] -> logits", "END"): 1.0}
    with pytest.raises(CircuitryError, match="no edge of this circuit is on a way"):
        edge_circuit(question.wiring, effects, question.labels, title="t", unit="logit")
    kept = edge_circuit(question.wiring, effects, question.labels, title="t", unit="logit", prune=False)
    assert kept.cells == (("mlp[0] -> logits", "END"),)
    with pytest.raises(CircuitryError, match="the circuit has an edge at 'END'"):
        kept.mask(question.wiring, ("B",))


def test_a_threshold_keeps_shares_of_the_whole_effect() -> None:
    discovered = tiny()
    sizes = np.sort(np.abs(discovered.mean).ravel())[::-1] / abs(discovered.whole)
    kept = discovered.circuit(threshold=float(sizes[9]) * 0.999, prune=False)
    assert len(kept.cells) == 10
    carried = np.sort((discovered.mean / discovered.whole).ravel())[::-1]
    towards = discovered.circuit(threshold=float(carried[4]) * 0.999, absolute=False, prune=False)
    assert len(towards.cells) == 5
    mask = towards.mask(discovered.question.wiring, discovered.question.labels.names)
    assert (discovered.mean[mask] / discovered.whole > 0).all()


def test_ways_are_in_order_of_their_weakest_edge() -> None:
    """All ways through a small circuit, against every simple way in its graph."""
    discovered = tiny()
    labels = discovered.question.labels.names
    routes = Routes(discovered.question.wiring, discovered.question.labels)
    scores: dict[Any, float] = {
        (discovered.question.items[item], labels[label]): float(discovered.mean[item, label])
        for item, label in discovered.cells(60)
    }
    joined = routes.joined(list(scores))
    step = {(routes.source(cell), routes.target(cell)): abs(value) for cell, value in scores.items()}
    starts = [end for end in joined if end[0].family == "embed"]
    stops = [end for end in joined if end[0].family == "logits"]
    every = [
        min(step[pair] for pair in itertools.pairwise(way) if pair in step)
        for start in starts for stop in stops for way in nx.all_simple_paths(joined, start, stop)
    ]  # fmt: skip
    got = [strength for _, strength in routes.ways(scores, 10_000)]
    assert got == pytest.approx(sorted(every, reverse=True)) and len(got) > 5


@pytest.mark.parametrize("dead_end", ["embed -> mlp[1]", "mlp[2] -> logits"])
def test_an_edge_that_begins_or_ends_nowhere_is_pruned(dead_end: str) -> None:
    question = ct.discover(
        ct.load("bundled:gpt_neox"), ct.task("induction", distance=4, examples=4), method="random", verify=0
    ).question
    routes = Routes(question.wiring, question.labels)
    way = [(edge("embed -> mlp[0]"), "END"), (edge("mlp[0] -> logits"), "END")]
    joined = routes.joined([*way, (edge(dead_end), "END")])
    assert {str(node) for node, _ in routes.between(joined)} == {"embed", "mlp[0]", "logits"}


def test_an_input_joins_the_taps_that_are_as_many_tokens_later_as_their_lag() -> None:
    question = ct.discover(
        ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4), method="random", verify=0
    ).question
    routes, taps = Routes(question.wiring, question.labels), range(4)
    cells = [(edge("embed -> conv_in[1]"), "B"), *((edge(f"conv_tap[1,{k}] -> ssm_in[1]"), at) for k in taps for at in LATER)]
    joined = routes.joined(cells)
    got = {(str(node), at) for node, at in joined.successors((edge("embed -> conv_in[1]").target, "B"))}
    assert got == {(f"conv_tap[1,{k}]", LATER[k]) for k in taps}
