"""Freezing at a leg's own ends: a name without a port means all others, a port that is named is frozen there too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import circuitry as ct
from circuitry.planning import plan
from support import tiny
from support.agreement import both, model, ragged

PROMPTS = ragged()
EXACT = 1e-9
CLEAN, CORRUPTED = (torch.from_numpy(ids) for ids in (PROMPTS.clean, PROMPTS.corrupted))
ROWS, B, END = torch.arange(len(PROMPTS)), PROMPTS.where["B"], PROMPTS.where["END"]


def streams(hf: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The stream before layer 1 [example, pos, d_model] and its pattern [example, head, query, key], by transformers alone."""
    hf.set_attn_implementation("eager")
    with torch.no_grad():
        found = hf(ids, use_cache=False, output_hidden_states=True, output_attentions=True)
    return found.hidden_states[1], found.attentions[1]


def test_a_value_only_effect_into_a_head_is_what_arithmetic_says() -> None:
    """GPT-2 by hand: the patched stream's values, summed with the weights of the clean run."""
    hf = tiny.stock("gpt2")
    (clean, pattern), (corrupted, _) = streams(hf, CLEAN), streams(hf, CORRUPTED)
    clean[ROWS, B] = corrupted[ROWS, B]
    block = hf.transformer.h[1]
    with torch.no_grad():
        values = block.attn.c_attn(block.ln_1(clean))[..., 2 * 16 :].unflatten(-1, (2, 8))
    wanted = torch.einsum("bqk,bkd->bqd", pattern[:, 0], values[:, :, 0])[ROWS, END]
    for path in (
        "resid[1] @ B -> head[1,0] @ END freezing head[1,0].pattern",
        "resid[1] @ B -> head[1] @ END freezing head.pattern",
    ):
        first = both(model("gpt2"), path, PROMPTS)[0]
        assert (first.engine - wanted).abs().max() < EXACT and first.error < EXACT
        whole = both(model("gpt2"), path.split(" freezing")[0], PROMPTS)[0]
        assert (first.engine - whole.engine).abs().max() > 1e-3, "the pattern changes, and had no part in it"


@pytest.mark.parametrize(
    ("kind", "one", "others"),
    [
        ("mamba", "ssm_in[1].value", "ssm_in[1].delta, ssm_in[1].B, ssm_in[1].C, ssm_in[1].skip"),
        ("mamba", "ssm_in[1].C", "ssm_in[1].value, ssm_in[1].delta, ssm_in[1].B, ssm_in.skip except ssm_in[0], ssm_in[2]"),
        ("jamba", "ssm_in[2].delta", "ssm_in[2].value, ssm_in[2].B, ssm_in[2].C, ssm_in[2].skip"),
        ("mamba2", "ssm_in[1].value", "ssm_in[1].B, ssm_in[1].C, ssm_in[1].skip"),
        ("rwkv", "wkv_in[1].key", "wkv_in[1].value, wkv_in[1].receptance"),
        ("rwkv", "shift_tap[1,1].value", "shift_tap[1].key, shift_tap[1,1].receptance except shift_tap[1,0]"),
        ("rwkv", "mlp_tap[1,0].key", "mlp_tap[1,0].receptance"),
    ],
)
def test_a_node_whose_other_readers_are_frozen_is_its_one_reader(kind: str, one: str, others: str) -> None:
    whole = one.split(".")[0]
    (alone,), (rest) = (
        both(model(kind), f"{one} @ B -> logits @ B", PROMPTS),
        both(model(kind), f"{whole} @ B -> logits @ B freezing {others}", PROMPTS),
    )
    assert (alone.engine - rest[0].engine).abs().max() < EXACT and rest[0].error < EXACT
    assert alone.effect > 1e-6


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("gpt2", "head[1,0].q @ END -> logits freezing head[1,0].pattern"),
        ("gpt2", "head[1,0].q @ END -> logits freezing head.pattern"),
        ("gpt2", "head[1].k @ B -> logits freezing head[1].pattern"),
        ("gpt2", "head[1,0].v @ B -> logits freezing head.z"),
        ("mamba", "ssm_in[1] @ B -> logits freezing ssm_in[1].value, ssm_in[1].delta, ssm_in[1].B, ssm_in[1].C, ssm_in[1].skip"),
        ("mamba2", "ssm_in[1] @ B -> logits freezing ssm_in.value, ssm_in.B, ssm_in.C, ssm_in.skip"),
        ("rwkv", "wkv_in[1] @ B -> logits freezing wkv_in.key, wkv_in.value, wkv_in.receptance"),
    ],
)
def test_freezing_all_that_follows_an_end_is_refused_as_cut(kind: str, path: str) -> None:
    with pytest.raises(ct.PathError, match="cuts every path"):
        plan(path, model(kind).graph)


@pytest.mark.parametrize(
    ("kind", "path", "same"),
    [
        ("gpt2", "head[1,0].q @ END -> logits freezing head", "head[1,0].q @ END -> logits freezing head[0], head[1,1], head[2]"),
        ("gpt2", "head[1,0].q @ END -> logits freezing head[1]", "head[1,0].q @ END -> logits freezing head[1,1]"),
        ("gpt2", "head[1,0].q @ END -> logits freezing head.q", "head[1,0].q @ END -> logits freezing head[2].q"),
        ("gpt2", "mlp[0] @ B -> head[1,0].k @ B freezing head.k", "mlp[0] @ B -> head[1,0].k @ B freezing head[0].k"),
        ("mamba", "ssm_in[1] @ B -> logits freezing ssm_in", "ssm_in[1] @ B -> logits freezing ssm_in[2]"),
        ("mamba2", "ssm_state[1] @ B -> logits freezing ssm_state", "ssm_state[1] @ B -> logits freezing ssm_state[2]"),
    ],
)
def test_a_family_means_all_others(kind: str, path: str, same: str) -> None:
    (one,), (other,) = both(model(kind), path, PROMPTS), both(model(kind), same, PROMPTS)
    assert (one.engine - other.engine).abs().max() < EXACT and one.error < EXACT and one.effect > 1e-6


MESSAGES = """
head[1,0] is an end of this leg, which stays live, so freezing it does nothing
    head[1,0].q @ END -> logits freezing head[1,0]
                                         ^
drop it from 'freezing', or name the part of it to freeze, such as head[1,0].pattern

head[1] is an end of this leg, which stays live, so freezing it does nothing
    head[1] @ END -> logits freezing mlp, head[1]
                                          ^
drop it from 'freezing', or name the part of it to freeze, such as head[1].pattern

head[1,0].q is an end of this leg, which stays live, so freezing it does nothing
    head[1,0].q @ END -> logits freezing head[1,0].q
                                         ^
drop it from 'freezing'

mlp[{layer}] is an end of this leg, which stays live, so freezing it does nothing
    mlp[{layer}] -> logits freezing mlp[{layer}]
                                    ^
drop it from 'freezing'

'except' exempts all of head[1].k, so freezing it does nothing
    mlp[0] -> logits freezing head[1].k, mlp except head[1]
                              ^
drop it from both

'except' exempts all of head, so freezing it does nothing
    mlp[0] -> logits freezing head except head
                              ^
drop it from both

mlp[2] is not frozen on this leg, so there is nothing to exempt
    mlp[0] -> mlp[2] freezing head except mlp[2]
                                          ^
drop it from 'except'
"""


@pytest.mark.parametrize("message", MESSAGES.strip().split("\n\n"))
def test_a_freezing_that_does_nothing_is_refused(message: str) -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(message.split("\n")[1][4:], ct.graph("gpt2", layer=3, head=2))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "path",
    [
        "mlp[{a}] -> logits freezing mlp[{b}]",
        "mlp[{a}] -> logits freezing mlp except mlp[{b}]",
        "head[{layer},0].q -> logits freezing head[{layer}]",
        "ssm_state[0] -> logits freezing ssm_state",
        "ssm_in[0] -> logits freezing ssm_state except ssm_state[0]",
    ],
)
def test_what_holds_something_in_one_cell_stays_in_all(path: str) -> None:
    """A sweep keeps the cells in which a name happens to hold nothing, and a family may have no others in a small model."""
    graph = ct.graph("mamba", layer=1) if "ssm" in path else ct.graph("gpt2", layer=3, head=2)
    made = plan(path, graph)
    assert not made.skipped


def test_an_end_may_be_spared_by_name_where_it_is_frozen() -> None:
    graph = ct.graph("gpt2", layer=3, head=2)
    assert plan("mlp[0] -> logits freezing mlp except mlp[0]", graph).cells[0].passes[0].frozen == {
        ct.Node("mlp", (1,)),
        ct.Node("mlp", (2,)),
    }
    held = plan("head[1,0].q -> logits freezing head.pattern except head[1,0].pattern", graph).cells[0].passes[0].frozen
    assert ct.Node("head", (1, 0), "pattern") not in held and len(held) == 5
