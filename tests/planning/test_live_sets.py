"""Live sets against paths through the graph unrolled over positions: no token is left out, and none is there for nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitry.executing.suffix.rows import Leg
from circuitry.planning.live import End, LiveSets, positions
from circuitry.planning.regions import Region
from support import tiny
from support.agreement import model, planned, ragged
from support.random_paths import experiment, few
from support.unrolled import legs_of, live, runs_of

seeds = st.integers(0, 10**9)


def found(leg: Leg, example: int) -> dict[Region | str, set[int]]:
    """What the live sets say of one example."""
    low = int(leg.low[leg.examples.tolist().index(example)])
    every: list[tuple[Region | str, int]] = [*leg.live.tokens.items(), *leg.live.states.items()]
    return {name: {low + offset for offset in positions(bits)} for name, bits in every}


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@given(seed=seeds)
@few(25)
def test_live_tokens_are_those_between_what_is_written_and_what_is_read(kind: str, seed: int) -> None:
    graph, drawn = model(kind).graph, experiment(model(kind), seed, length=9)
    for leg, example, earliest in legs_of(runs_of(drawn.plan, drawn.prompts)):
        assert found(leg, example) == live(graph, leg, drawn.prompts, example, earliest), (str(drawn.plan.path), example)


@given(seed=seeds)
@few(25)
def test_live_tokens_within_a_window(seed: int) -> None:
    ours = model("mistral", sliding_window=3)
    drawn = experiment(ours, seed, length=9)
    for leg, example, earliest in legs_of(runs_of(drawn.plan, drawn.prompts)):
        assert found(leg, example) == live(ours.graph, leg, drawn.prompts, example, earliest), (str(drawn.plan.path), example)


@pytest.mark.parametrize(("window", "wanted"), [(3, [1, 3]), (64, [1, 2, 3, 4, 5])])
def test_a_window_leaves_tokens_out(window: int, wanted: list[int]) -> None:
    """A change at the first token gets to the fifth over two layers with a window of three only by the third one."""
    ours, prompts = model("mistral", sliding_window=window), ragged(1)
    (leg,) = runs_of(planned(ours, ["embed @ 1 -> resid[2] @ 5"], prompts), prompts).legs
    assert sorted(found(leg, 0)[Region(0, "model.layers.0.self_attn")]) == wanted


def test_ends_at_other_distances_are_other_live_sets() -> None:
    """One shape is asked for at several distances, and each answer is its own."""
    ours = model("gpt2")
    (leg, *_) = runs_of(planned(ours, ["mlp[0] @ B -> logits"], ragged(1)), ragged(1)).legs
    sets, source, end = LiveSets(ours.graph, 10), (ours.graph.node("mlp[0]"),), (ours.graph.node("logits"),)
    for at, stop in ((0, 5), (3, 5), (0, 9), (5, 5)):
        one = sets.of(leg.plan, [End(source, at)], [End(end, stop)])
        assert positions(one.tokens[Region(1, "transformer.h.1.attn")]) == list(range(at, stop + 1))
        assert positions(one.tokens[Region(2, "transformer.h.2.mlp")]) == [stop]
