"""The compiled gated delta rule on [A][C] ... [A][B] ... [A]: it erases [C] and writes [B], and each is found apart from the other."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import pytest
import torch

import circuitry as ct
from circuitry.compiled import TrueSetting, gated_delta, truth
from circuitry.compiled.gated_delta import LAYERS, Head, build, overwriting
from circuitry.errors import ModelError
from circuitry.models.model import wrap
from support.compiled import MUCH, NOTHING, SMALL, edge_effects, edges, effects, possible_edges, where, wrong_nodes

SETTINGS = [pytest.param(one, id=f"{one.node}@{one.position}={one.value}") for one in overwriting().settings]


def task(corruption: str = "A", **options: Any) -> ct.Task:
    return ct.task("overwrite", **{"distance": 3, "prefix": 1, "examples": 2, "corruption": corruption, **options})


@functools.cache
def model() -> ct.Model:
    return wrap(build(SMALL), name="gated_delta")


def layers(layer: int, head: int, **changes: Any) -> list[list[Head]]:
    """``LAYERS`` with one head changed."""
    made = [list(row) for row in LAYERS]
    made[layer][head] = replace(made[layer][head], **changes)
    return made


def answers(hf: Any, distance: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of stock forwards over prompts of the task: the logits of [B], of [C], and the most of any other token."""
    prompts = task(distance=distance, examples=16).prompts(ct.load("compiled:gated_delta").vocabulary)
    with torch.no_grad():
        logits = hf(torch.from_numpy(prompts.clean)).logits[:, -1]
    named = torch.from_numpy(prompts.answer)[:, None], torch.from_numpy(prompts.foil)[:, None]
    others = logits.scatter(1, torch.cat(named, 1), -torch.inf)
    return logits.gather(1, named[0]), logits.gather(1, named[1]), others.max(1).values


@pytest.mark.parametrize("distance", (2, 16, 128))
def test_the_newest_pair_is_the_answer(distance: int) -> None:
    new, old, other = answers(build(), distance)
    assert new.min() > 20 - 1e-3 and old.abs().max() < 1e-4 and other.max() < 1e-4


def test_a_head_that_adds_up_what_it_stores_has_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stock model with linear attention in the place of the delta rule: a pair that comes once is found as before."""
    from transformers.models.qwen3_next import modeling_qwen3_next as stock

    def adds_up(query: Any, key: Any, value: Any, g: Any, beta: Any, **_: Any) -> Any:
        scores = stock.l2norm(query) @ stock.l2norm(key).transpose(-1, -2)
        return (scores.tril() @ (value * beta[..., None])).transpose(1, 2), None

    def by_head(query: Any, key: Any, value: Any, g: Any, beta: Any, **_: Any) -> Any:
        return adds_up(*(one.transpose(1, 2) for one in (query, key, value, g, beta)))

    hf = build()
    monkeypatch.setattr(stock, "torch_chunk_gated_delta_rule", by_head)
    new, old, other = answers(hf, 16)
    assert (new - old).abs().max() < 1e-3 and new.min() > 14 and other.max() < 1e-4
    once = torch.arange(40).repeat(1, 2)[:, :-1]
    with torch.no_grad():
        assert hf(once).logits[0, -1].argmax() == 39


@pytest.mark.parametrize("corruption", overwriting().corruptions)
def test_patching_finds_the_truth_and_nothing_else(corruption: str) -> None:
    assert wrong_nodes(model(), task(corruption), overwriting()) == []


@pytest.mark.parametrize("corruption", overwriting().corruptions)
def test_an_edge_carries_it_if_and_only_if_it_is_in_the_truth(corruption: str) -> None:
    named = where(model(), task(corruption))
    true = edges(overwriting(), corruption, named, model().graph)
    measured = edge_effects(model(), task(corruption), true | possible_edges(overwriting(), corruption, named, model().graph))
    assert {edge for edge, (least, _) in measured.items() if least > MUCH} == true
    assert {edge for edge, (_, most) in measured.items() if most > NOTHING} == true


def test_what_is_erased_has_no_effect() -> None:
    """[C] is stored and carried to A, but the token [B] erases it: no node that differs with it is in the truth."""
    assert "C" not in overwriting().corruptions
    assert max(most for _, most in effects(model(), task("C")).values()) < NOTHING


def test_erase_and_key_do_different_things() -> None:
    """Writing under another key loses [B]; erasing another key leaves [C] beside it; both together leave [C] alone."""
    paths = {port: f"ssm_in[1]{port} @ B -> logits" for port in (".key", ".erase", "")}
    found = ct.patch(model(), task("A"), paths, metric=["logit", "logit_difference"], baseline=0, lint=False)
    mean = found.frame.groupby(["path", "metric"])["effect"].mean()
    wanted = {".key": (-20.0, -20.0), ".erase": (20 / 2**0.5 - 20, -20.0), "": (-20.0, -40.0)}
    for port, both in wanted.items():
        assert (mean[port, "logit"], mean[port, "logit_difference"]) == pytest.approx(both, abs=0.05), port


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_node_that_is_set_gives_the_logits_of_the_truth(setting: TrueSetting) -> None:
    assert reached(model(), setting) == pytest.approx(dict(setting.logits), abs=0.05)


def reached(measured: ct.Model, setting: TrueSetting) -> dict[str, float]:
    """The logits of [B] and [C] at END with a node set: on clean prompts they are 20 and 0."""
    found = ct.patch(
        measured, task("A"), f"{setting.node} @ {setting.position} -> logits", intervention=ct.given(setting.value),
        metric=["logit", "logit_difference"], baseline=0, lint=False,
    )  # fmt: skip
    change = found.frame.groupby("metric")["effect"].mean()
    new = 20 + change["logit"]
    return {"B": new, "C": new - (20 + change["logit_difference"])}


@pytest.mark.parametrize(
    "changed",
    [{"back": 2}, {"share": 0.5}, {"memory": gated_delta.FORGETS}, {"into": "spare"}],
    ids=lambda changed: next(iter(changed)),
)
def test_the_test_of_the_truth_can_fail(changed: dict[str, Any]) -> None:
    assert wrong_nodes(wrap(build(SMALL, layers(1, 1, **changed)), name="broken"), task("A"), overwriting())


def test_the_test_of_settings_can_fail() -> None:
    """Where another head does the work, setting this one does nothing."""
    made = layers(1, 1, into="spare")
    made[1][2] = Head(1, into="out")
    broken, setting = wrap(build(SMALL, made), name="broken"), overwriting().settings[0]
    assert reached(broken, setting) == pytest.approx({"B": 20, "C": 0}, abs=0.05)


def test_a_truth_is_given_by_task() -> None:
    assert truth("gated_delta", "overwrite") == overwriting() and truth("gated_delta", "induction") == truth("gated_delta")
    with pytest.raises(ModelError, match="a task whose circuit in compiled:mamba is known, got 'overwrite'"):
        truth("compiled:mamba", "overwrite")
