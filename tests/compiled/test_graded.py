"""Graded models: they do their task, and patching finds what is built in, with a clear effect, and nothing else.

Effects are total effects on the logits at END in float64, as shares of the whole effect of the corruption.
"""

from __future__ import annotations

import dataclasses
import functools
import json

import pytest
import torch

import circuitry as ct
from circuitry.architecture.definitions import definition_for
from circuitry.architecture.graph import Graph
from circuitry.compiled.graded import FAMILIES, Graded, catalogue, graded
from circuitry.errors import ModelError
from circuitry.prompting.vocabulary import Vocabulary
from support.compiled import edges, induction
from support.graded import idle, loaded, wrong_edges, wrong_nodes

FEW = 16
"""Tokens of a vocabulary that is large enough for a short prompt: the construction is the same."""
FIRST = (("gpt_neox", 4), ("gpt2", 1), ("mamba", 3), ("mamba2", 5), ("rwkv", 1), ("jamba", 3))
SECOND = (("gpt_neox", 2), ("gpt2", 5), ("mamba", 2), ("mamba2", 3), ("rwkv", 5), ("jamba", 5))
"""Two of each family, chosen so that together they have every redundancy, and values with and without [A]."""
CASES = [(*model, "A") for model in FIRST + SECOND] + [(*model, "B") for model in FIRST]


@functools.cache
def made(family: str, seed: int) -> tuple[Graded, ct.Model]:
    one = graded(family, seed, tokens=FEW)
    return one, loaded(one)


def prompts(corruption: str) -> ct.Task:
    return induction(corruption, distance=3)


def margin(one: Graded, distance: int) -> float:
    """The least distance of the answer's logit to any other."""
    drawn = ct.task("induction", distance=distance, prefix=1, examples=6).prompts(Vocabulary.of(None, one.hf.config.vocab_size))
    with torch.no_grad():
        logits = one.hf(torch.from_numpy(drawn.clean), use_cache=False).logits[:, -1]
    answer = torch.from_numpy(drawn.answer)[:, None]
    return float((logits.gather(1, answer)[:, 0] - logits.scatter(1, answer, -torch.inf).max(1).values).min())


@pytest.mark.parametrize(("family", "seed"), catalogue())
def test_every_model_answers_and_its_truth_is_in_its_graph(family: str, seed: int) -> None:
    one = graded(family, seed)
    assert all(margin(one, distance) > 1 for distance in (3, 12, 32))
    architecture = definition_for(one.hf.config.model_type)
    graph = Graph.of(architecture, one.hf.config)
    for corruption in "AB":
        assert edges(one.truth, corruption, {"A": 1, "B": 2, "END": 6}, graph)


def test_the_catalogue_has_every_redundancy_of_every_family_and_models_that_differ() -> None:
    assert len(set(catalogue())) == 42
    kinds: dict[str, set[str]] = {}
    for family, seed in catalogue():
        kinds.setdefault(family, set()).add(graded(family, seed, tokens=FEW).redundancy)
    assert kinds == {family: set(names) for family, names in FAMILIES.items()}
    drawn = [graded("mamba", seed, tokens=FEW) for seed in range(7)]
    assert len({one.layers for one in drawn}) > 2 and len({one.softness for one in drawn}) == 7


@pytest.mark.parametrize(("family", "seed", "corruption"), CASES)
def test_patching_finds_the_truth_and_nothing_else(family: str, seed: int, corruption: str) -> None:
    one, model = made(family, seed)
    assert wrong_nodes(model, prompts(corruption), one) == {}
    assert idle(model, prompts(corruption), one) == {}


@pytest.mark.parametrize("family", ["gpt_neox", "mamba", "rwkv"])
def test_a_hard_model_has_its_truth_too(family: str) -> None:
    one = graded(family, 1, softness=0.0, redundancy="and", tokens=FEW)
    assert wrong_nodes(loaded(one), prompts("A"), one) == {}


@pytest.mark.parametrize(("family", "seed"), [("gpt2", 1), ("mamba2", 5), ("rwkv", 5)])
def test_an_edge_carries_it_if_and_only_if_it_is_in_the_truth(family: str, seed: int) -> None:
    one, model = made(family, seed)
    for copy in one.copies:
        assert wrong_edges(model, prompts("A"), copy) == set()


def test_what_one_copy_has_alone_is_not_needed_for_the_answer() -> None:
    one, model = made("mamba", 3)
    alone, other = one.redundant("A", {"A": 1, "B": 2, "END": 4})
    assert ("ssm_state[0]", 2) in alone and ("ssm_state[1]", 2) in other
    assert one.redundant("B", {"A": 1, "B": 2, "END": 4}) == (set(), set()), "the backup answers only if no key is found"
    paths = {"alone": "ssm_state[0] @ B -> logits", "both": "(ssm_state[0] @ B, ssm_state[1] @ B) -> logits"}
    table = ct.patch(model, prompts("A"), paths, baseline=0, lint=False)
    single, both = table.mean().abs()
    assert single < 1e-3 and both > 10


def test_the_test_of_the_truth_can_fail() -> None:
    one, model = made("mamba2", 5)
    half = dataclasses.replace(one, truth=one.copies[0], copies=one.copies[:1])
    assert ("conv_tap[1,1]", 2) in wrong_nodes(model, prompts("A"), half), "the other copy has an effect that this truth lacks"
    parts = [dataclasses.replace(one.truth, nodes=one.copies[0].nodes[part]) for part in (slice(6), slice(6, 12))]
    assert idle(model, prompts("A"), dataclasses.replace(one, copies=tuple(parts))), "two halves of a copy are not two copies"
    backup, other = made("mamba", 3)
    assert wrong_nodes(other, prompts("A"), dataclasses.replace(backup, copies=(backup.truth,))), "alone, a copy has no effect"


def test_softness_takes_from_the_answer() -> None:
    for family in ("gpt2", "mamba", "rwkv"):
        answers = [margin(graded(family, 0, softness=softness), 8) for softness in (0.0, 0.4, 0.8)]
        assert answers == sorted(answers, reverse=True) and answers[0] - answers[2] > 2, family


def test_the_same_seed_makes_the_same_model_and_changes_no_random_numbers() -> None:
    state = torch.get_rng_state()
    one, other = (graded("jamba", 5, tokens=FEW) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert one.truth == other.truth
    assert all(torch.equal(a, b) for a, b in zip(one.hf.parameters(), other.hf.parameters(), strict=True))
    assert json.loads(json.dumps(one.truth.to_dict()))["model"] == "graded:jamba:5"


def test_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ModelError, match=r"expected a family of graded models, got 'mambo'.*mamba"):
        graded("mambo", 0)
    with pytest.raises(ModelError, match=r"expected a redundancy of gpt2, got 'backup'"):
        graded("gpt2", 0, redundancy="backup")
    with pytest.raises(ModelError, match=r"softness must be at least 0 and below 1, got 1"):
        graded("gpt2", 0, softness=1)
