"""Models with known circuits: they do their task, and patching finds what is built in, all of it, and nothing else.

Effects are total effects on the logits at END: the node takes its value on the corrupted prompt, everything after it is
recomputed. Each is measured by the answer's logit, by the answer less the foil, and by KL divergence.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry import content
from circuitry.compiled import NAMES, GroundTruth, TrueEdge, build, gated_delta, mamba, mamba2, rwkv, transformer, truth
from circuitry.compiled import ioi as written_ioi
from circuitry.errors import ModelError
from circuitry.models.model import wrap
from support.compiled import (
    DISTANCES,
    MUCH,
    NOTHING,
    SMALL,
    edge_effects,
    edges,
    induced,
    induction,
    ioi,
    possible_edges,
    where,
    wrong_nodes,
)

INDUCTION = tuple(name for name in NAMES if name != "ioi")
ROUTES = [(name, corruption) for name in NAMES for corruption in truth(name).corruptions]
EVERY = [(name, corruption) for name, corruption in ROUTES if name != "ioi" or corruption == "ABC"]
SAMPLED = [(name, "A") for name in INDUCTION] + [("ioi", corruption) for corruption in ("IO", "S1", "S2")]
MAKERS: dict[str, Callable[..., Any]] = {
    m.__name__.rpartition(".")[2]: m.build for m in (gated_delta, mamba, mamba2, rwkv, transformer)
}


@functools.cache
def whole(name: str) -> ct.Model:
    return ct.load(f"compiled:{name}")


@functools.cache
def small(name: str) -> ct.Model:
    """The same construction with a small vocabulary; IOI has one size."""
    return whole(name) if name == "ioi" else wrap(MAKERS[name](SMALL), name=name)


def task_of(name: str, corruption: str, **options: Any) -> ct.Task:
    return (ioi if name == "ioi" else induction)(corruption, **options)


@pytest.mark.parametrize("name", INDUCTION)
def test_every_token_is_found_again_at_every_distance(name: str) -> None:
    """All tokens as [A] at distances from 2 to 256, every distance in prompts that together hold the whole vocabulary."""
    for distance in DISTANCES:
        found = list(induced(whole(name), distance))
        assert {token for token, _, _ in found} == set(range(whole(name).hf.config.vocab_size))
        assert all(right for _, right, _ in found), distance
        assert min(margin for _, _, margin in found) > 9


@pytest.mark.parametrize("name", INDUCTION)
def test_prompts_of_the_task_are_answered(name: str) -> None:
    prompts = ct.task("induction", distance=256, examples=4).prompts(whole(name).vocabulary)
    with torch.no_grad():
        logits = whole(name).hf(torch.from_numpy(prompts.clean), use_cache=False, logits_to_keep=1).logits[:, -1]
    assert (logits.argmax(-1).numpy() == prompts.answer).all()


@pytest.mark.parametrize(("begin", "examples"), [("auto", 640), ("no", 64)])
def test_ioi_is_answered_for_every_name_and_wording(begin: str, examples: int) -> None:
    model = whole("ioi")
    prompts = ct.task("ioi", examples=examples, begin=begin).prompts(model.vocabulary)
    with torch.no_grad():
        logits = model.hf(torch.from_numpy(prompts.clean), use_cache=False).logits[np.arange(examples), prompts.where["END"]]
    assert (logits.argmax(-1).numpy() == prompts.answer).all()
    names = model.vocabulary.single(content.load("tasks", "ioi").NAMES)
    assert begin == "no" or set(prompts.answer.tolist()) == set(names.values()), "more examples are needed for every name"


@pytest.mark.parametrize(("name", "corruption"), EVERY)
def test_patching_finds_the_truth_and_nothing_else(name: str, corruption: str) -> None:
    assert wrong_nodes(small(name), task_of(name, corruption), truth(name)) == []


@pytest.mark.parametrize(("name", "corruption"), SAMPLED)
def test_the_truth_holds_in_the_whole_model(name: str, corruption: str) -> None:
    """With the whole vocabulary and another prompt: all nodes that matter, and a sample of those that do not."""
    options = {"distance": 6, "prefix": 3} if name != "ioi" else {"template": 1}
    model, task, rng = whole(name), task_of(name, corruption, examples=1, **options), np.random.default_rng(0)
    named = where(model, task)
    sites = {site for site in truth(name).sites(corruption, named) if site[0] != "logits"}
    nodes, end = [str(node) for node in model.graph.nodes(ports=True)], named["END"]
    others = {(nodes[rng.integers(len(nodes))], int(rng.integers(end + 1))) for _ in range(80)}
    paths = {
        f"{node} @ {at}": f"{node} @ {at} -> logits" for node, at in sorted(sites | others) if _possible(model, task, node, at)
    }
    table = ct.patch(model, task, paths, baseline=0).mean().abs()
    right = table[[f"{node} @ {at}" for node, at in sites]]
    assert right.min() > MUCH and table.drop(right.index).max() < NOTHING and len(table) > len(right) + 15


def _possible(model: ct.Model, task: ct.Task, node: str, at: int) -> bool:
    """Whether the planner takes the node as a source: it has two values there, and a change can arrive at the answer."""
    try:
        ct.explain(model, task, f"{node} @ {at} -> logits")
    except ct.PathError:
        return False
    return True


@pytest.mark.parametrize(("name", "corruption"), ROUTES)
def test_an_edge_carries_it_if_and_only_if_it_is_in_the_truth(name: str, corruption: str) -> None:
    """Every edge of the graph between two nodes that matter; an edge to any other node leads nowhere."""
    model, task = small(name), task_of(name, corruption)
    named = where(model, task)
    true = edges(truth(name), corruption, named, model.graph)
    measured = edge_effects(model, task, true | possible_edges(truth(name), corruption, named, model.graph))
    assert {edge for edge, (least, _) in measured.items() if least > MUCH} == true
    assert {edge for edge, (_, most) in measured.items() if most > NOTHING} == true


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_taken_up_where_they_are_built_in(name: str) -> None:
    options = {"distance": 8, "prefix": 2} if name != "ioi" else {}
    for token in {"ioi": ("IO",)}.get(name, ("A", "B")):
        found = ct.off_by_one(small(name), task_of(name, token, examples=12, **options), token).models[0]
        expected = truth(name).offsets.get(token)
        assert found.at == (() if expected is None else (expected,)), token


def wrong_key(_: str) -> Any:
    return mamba.build(SMALL, ((2, "spare"), (2, "out"), (3, "spare")))


def wrong_layer(_: str) -> Any:
    return mamba.build(SMALL, ((1, "out"), (2, "spare"), (3, "spare")))


def also_another_layer(_: str) -> Any:
    return mamba.build(SMALL, ((2, "spare"), (1, "out"), (1, "out")))


def wrong_shift(_: str) -> Any:
    return rwkv.build(SMALL, ((0, "spare"), (0, "out"), (1, "spare")))


def heads(layer: int, number: int, head: transformer.Head) -> Any:
    made = [list(row) for row in transformer.LAYERS]
    made[layer][number] = head
    return transformer.build(SMALL, tuple(map(tuple, made)))


def forgetful(_: str) -> Any:
    made = [list(row) for _, row in mamba2.LAYERS]
    made[1][2] = mamba2.Head(0, mamba2.FORGETS, "out")
    return mamba2.build(SMALL, tuple((lag, tuple(row)) for (lag, _), row in zip(mamba2.LAYERS, made, strict=True)))


def fades(_: str) -> Any:
    heads = gated_delta.Head(2), gated_delta.Head(1, into="out", memory=gated_delta.FORGETS), gated_delta.Head(3)
    return gated_delta.build(SMALL, (gated_delta.LAYERS[0], heads, gated_delta.LAYERS[2]))


UNABLE: dict[str, Callable[[str], Any]] = {
    "gated_delta": fades,
    "mamba": wrong_key,
    "rwkv": wrong_shift,
    "mamba2": forgetful,
    "transformer": lambda _: heads(0, 1, transformer.Head(2, "token", "previous")),
}


@pytest.mark.parametrize("name", UNABLE)
def test_the_test_of_accuracy_can_fail(name: str) -> None:
    broken = wrap(UNABLE[name](name), name=name)
    assert min(margin for _, _, margin in induced(broken, 16)) < 1


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("mamba", wrong_layer),
        ("mamba", also_another_layer),
        ("transformer", lambda _: heads(1, 2, transformer.Head("previous", "token", "out", unless="token"))),
        ("transformer", lambda _: heads(0, 0, transformer.Head(1, "token", "previous"))),
    ],
)
def test_the_test_of_the_truth_can_fail(name: str, broken: Callable[[str], Any]) -> None:
    model = wrap(broken(name), name=name)
    assert all(right for _, right, _ in induced(model, 8)), "this mutant does the task, by another circuit"
    assert wrong_nodes(model, induction("A"), truth(name))


def test_without_its_duplicate_token_head_the_ioi_model_is_another() -> None:
    layers = ((written_ioi.back(1), written_ioi.ANY_NAME, written_ioi.back(2)), *written_ioi.LAYERS[1:])
    broken = wrap(written_ioi.build(layers), written_ioi.tokenizer(), name="broken")
    table = [ct.patch(m, ioi("S2"), "head[0,1] @ S2 -> logits", baseline=0, lint=False) for m in (whole("ioi"), broken)]
    working, none = (abs(float(one.mean().iloc[0])) for one in table)
    assert working > MUCH and none < NOTHING


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_the_same_whenever_it_is_built(name: str) -> None:
    state = torch.get_rng_state()
    one, other = build(name)[0], build(f"compiled:{name}")[0]
    assert torch.equal(state, torch.get_rng_state()), "building must not change anybody's random numbers"
    assert all(torch.equal(a, b) and a.dtype == torch.float32 for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_plain_data(name: str) -> None:
    data = json.loads(json.dumps(truth(name).to_dict()))
    assert data["model"] == f"compiled:{name}"
    again = tuple(TrueEdge(**edge) for edge in data["edges"])
    assert again == truth(name).edges and isinstance(truth(name), GroundTruth)
    roles = {one.node: one.role for one in truth(name).components}
    assert {one.node for one in truth(name).nodes} >= set(roles)
    assert all(one.role == roles.get(one.node, "passes it on") for one in truth(name).nodes)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected a compiled model, got 'mambo'.*mamba"):
        build("mambo")
    with pytest.raises(ModelError, match="expected a compiled model"):
        truth("")
