"""What the suffix executor does not compute: tokens that each block is given are counted by plain hooks on its matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from circuitry.executing.constants import constant_values
from circuitry.executing.places import execution_order
from circuitry.executing.rows.executor import Rows
from circuitry.executing.suffix import guarded
from circuitry.executing.suffix.batches import counts
from circuitry.executing.suffix.executor import Suffix
from circuitry.executing.suffix.rows import Job
from circuitry.models import mamba, mamba2, rwkv, rwkv7, stretches
from circuitry.planning import METRICS, Intervention, Plan
from circuitry.planning import given as given_value
from circuitry.planning.interventions import RESAMPLE
from circuitry.planning.live import LiveSets
from circuitry.planning.regions import Region, regions_of
from circuitry.prompting import Prompts
from support import tiny
from support.agreement import model, planned, ragged
from support.random_paths import PLENTY, SOME, alike, experiment, few, paths
from support.unrolled import legs_of, live, runs_of, total

PROMPTS = ragged(3)
FILLER = 1
"""A layer after the last that is read is given one token, since no layer can be left out."""


@pytest.fixture(autouse=True)
def no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have runs of their own."""
    monkeypatch.setattr(guarded, "guards_of", lambda *_: iter(()))


@contextmanager
def counting(ours: Any) -> Iterator[dict[str, int]]:
    """Within: how many tokens the first product of each block was given, by the block's module."""
    execution_order(ours)  # found once a model, by a run of its own
    counts: dict[str, int] = {}
    hooks = []

    def count(block: str) -> Any:
        def hook(_: Any, args: tuple[Tensor, ...]) -> None:
            counts.setdefault(block, args[0].numel() // args[0].shape[-1])

        return hook

    for block in regions_of(ours.graph).blocks:
        for module in ours.hf.get_submodule(block).modules():
            if getattr(getattr(module, "weight", None), "dim", lambda: 0)() == 2:
                hooks.append(module.register_forward_pre_hook(count(block)))
    try:
        yield counts
    finally:
        for one in hooks:
            one.remove()


@contextmanager
def tokens_in_layers(ours: Any) -> Iterator[list[int]]:
    """Within: how many tokens each layer computed, layer after layer; the one token that fills a layer counts for nothing."""
    execution_order(ours)
    counts: list[int] = []
    layers = [ours.hf.get_submodule(name) for name in regions_of(ours.graph).layers]
    hooks = [layer.register_forward_hook(lambda _, __, out: counts.append(_tokens(out))) for layer in layers]
    try:
        yield counts
    finally:
        for one in hooks:
            one.remove()


def _tokens(out: Any) -> int:
    value = out[0] if isinstance(out, tuple) else out
    tokens = value.numel() // value.shape[-1]
    return tokens if tokens > FILLER else 0


def counted(ours: Any, made: Plan, prompts: Prompts) -> dict[str, int]:
    """By block, in one pass: tokens of the two whole runs and of what is patched."""
    with counting(ours) as counts:
        assert Suffix(ours, memory=PLENTY).cost(made, prompts, [METRICS["logit"]]).batches == 1
        Suffix(ours, memory=PLENTY).run(made, prompts, [METRICS["logit"]])
    return counts


def patched(kind: str, path: str) -> dict[str, int]:
    """The same without the whole runs, for an experiment that reads the logits."""
    whole = 2 * int(PROMPTS.stops.sum())
    return {block: count - whole for block, count in counted(model(kind), planned(model(kind), [path], PROMPTS), PROMPTS).items()}


# --- by hand ---------------------------------------------------------------------------------------------------------------

EACH = len(PROMPTS)
TO_END = int((PROMPTS.stops - 2).sum()) - int(PROMPTS.where["A"].sum()) + EACH
"""Tokens from B to END of all prompts: B follows A."""


def gpt2(attention: tuple[int, ...], mlp: tuple[int, ...]) -> dict[str, int]:
    both = zip(attention, mlp, strict=True)
    return {
        f"transformer.h.{layer}.{name}": n for layer, two in enumerate(both) for name, n in zip(("attn", "mlp"), two, strict=True)
    }


def test_a_head_whose_readers_are_frozen_has_one_token_in_mlps_and_none_in_attention() -> None:
    assert patched("gpt2", "head[0,1] @ END -> logits freezing head") == gpt2((EACH, 0, 0), (EACH, EACH, EACH))
    assert patched("gpt2", "head[1,1] @ END -> logits freezing head") == gpt2((0, EACH, 0), (0, EACH, EACH))


def test_what_goes_directly_to_the_logits_has_no_token_in_any_block() -> None:
    """Nor in its own, whose output is what is written."""
    assert set(patched("gpt2", "mlp[0] @ END -> logits directly").values()) == {0}
    assert set(patched("llama", "attn[1] @ END -> logits directly").values()) == {0}


def test_from_a_token_on_all_others_are_live_but_in_the_last_layer() -> None:
    """There the keys of all are live, and nothing but END in the MLP."""
    assert patched("gpt2", "mlp[0] @ B -> logits") == gpt2((0, TO_END, TO_END), (0, TO_END, EACH))


def test_a_layer_before_the_source_has_no_patched_token() -> None:
    found = patched("mamba", "ssm_in[1] @ END -> logits")
    assert list(found.values()) == [0, EACH, EACH]


def test_after_the_last_layer_that_is_read_nothing_is_computed() -> None:
    made = planned(model("gpt2"), ["embed @ B -> mlp[0] @ B+1"], PROMPTS)
    found = counted(model("gpt2"), made, PROMPTS)
    assert {count for block, count in found.items() if ".h.0." not in block} == {FILLER}
    assert all(count > FILLER for block, count in found.items() if ".h.0." in block)


def test_runs_that_begin_alike_share_their_first_layers() -> None:
    """Up to the layer in which one of them is written otherwise, or is read."""
    first, *more = ["(mlp[0] @ B, mlp[1] @ END) -> logits", "(mlp[0] @ B, mlp[2] @ END) -> logits", "mlp[0] @ B -> logits"]
    alone = counted(model("gpt2"), planned(model("gpt2"), [first], PROMPTS), PROMPTS)
    every = counted(model("gpt2"), planned(model("gpt2"), [first, *more], PROMPTS), PROMPTS)
    assert {block: count - alone[block] for block, count in every.items()} == gpt2((0, TO_END, 2 * TO_END), (0, TO_END, 2 * EACH))


def test_a_run_that_is_there_already_is_not_run_again() -> None:
    made = planned(model("mamba"), ["ssm_in[1] @ B -> logits"], PROMPTS)
    twice = replace(made, cells=made.cells * 2)
    assert counted(model("mamba"), twice, PROMPTS) == counted(model("mamba"), made, PROMPTS)
    (one,) = Suffix(model("mamba"), memory=PLENTY).run(twice, PROMPTS, [METRICS["logit"]])
    assert one.effect[0].tolist() == one.effect[1].tolist() and one.effect.all()


@pytest.mark.parametrize("draw", [paths, alike])
@pytest.mark.parametrize("memory", [SOME, PLENTY])
def test_the_cost_is_what_is_given_to_the_layers(draw: Any, memory: int) -> None:
    """By counting hooks on layers, over all batches."""
    ours = model("gpt2")
    for seed in range(6):
        drawn = experiment(ours, seed, draw=draw, intervention="resample")
        with tokens_in_layers(ours) as counts:
            Suffix(ours, memory=memory).run(drawn.plan, drawn.prompts, [METRICS["logit"]])
        assert sum(counts) == Suffix(ours, memory=memory).cost(drawn.plan, drawn.prompts, [METRICS["logit"]]).token_layers


@pytest.mark.parametrize(
    ("path", "tokens"),
    [
        ("mlp[0] @ B -> logits", EACH + 2 * TO_END),  # the first layer has the tokens that are written, and computes none of them
        ("head[1,1] @ END -> logits freezing head", 2 * EACH),
        ("mlp[2] @ END -> logits directly", EACH),
    ],
)
def test_the_cost_counts_each_token_of_a_layer_once(path: str, tokens: int) -> None:
    """However many of its blocks compute it."""
    cost = Suffix(model("gpt2"), memory=PLENTY).cost(planned(model("gpt2"), [path], PROMPTS), PROMPTS, [METRICS["logit"]])
    assert cost.token_layers == 3 * 2 * int(PROMPTS.stops.sum()) + tokens


def test_the_whole_runs_have_no_more_tokens_after_all_layers_than_in_them() -> None:
    """However many jobs read there."""
    made = planned(model("gpt2"), ["head[{layer},{head}] @ {pos} -> logits"], PROMPTS)
    jobs = [Job(number, cell, np.arange(EACH)) for number, cell in enumerate(made.cells)]
    assert len(jobs) > PROMPTS.length
    whole, _ = counts(made, jobs, PROMPTS, LiveSets(made.graph, PROMPTS.length))
    assert whole[:, 0, -1].tolist() == whole[:, 0, 0].tolist() == (2 * PROMPTS.stops).tolist()


@pytest.mark.parametrize(
    ("kind", "module", "name", "state"),
    [
        ("mamba", mamba, "scan_packed", "ssm_state"),
        ("mamba2", mamba2, "ssd_packed", "ssm_state"),
        ("rwkv", rwkv, "wkv_packed", "wkv_state"),
        ("rwkv7", rwkv7, "delta_rule_packed", "wkv_state"),
    ],
)
def test_a_frozen_state_is_scanned_in_no_patched_run(
    kind: str, module: Any, name: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of the scan, over all rows: those of the two whole runs, and where the state is free, of the patched ones from B on."""
    steps: list[int] = []
    scan, whole = getattr(module, name), 2 * int(PROMPTS.stops.sum())

    def counting_steps(*args: Any) -> Any:
        inside = next(one for one in args if hasattr(one, "scanned"))
        every = stretches.steps(inside.tokens, inside.scanned)
        steps.append(sum(one.tokens.size for one in every if isinstance(one, stretches.Stretch)))
        return scan(*args)

    monkeypatch.setattr(module, name, counting_steps)
    patched(kind, f"embed @ B -> logits freezing {state}")
    assert steps == [whole, whole, whole]
    steps.clear()
    patched(kind, f"embed @ B -> logits freezing {state}[1]")
    assert steps[1] == whole and steps[0] > whole + EACH and steps[2] > whole + EACH


# --- on any path -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", tiny.CONFIGS)
@given(seed=st.integers(0, 10**9))
@few(5)
def test_every_block_computes_its_live_tokens_and_the_whole_runs(kind: str, seed: int) -> None:
    """Live by brute force (``unrolled``); whole as far as the last token that any leg reads."""
    ours, drawn = model(kind), experiment(model(kind), seed, intervention="resample")
    runs, regions = runs_of(drawn.plan, drawn.prompts), regions_of(ours.graph)
    where = [live(ours.graph, leg, drawn.prompts, example, first) for leg, example, first in legs_of(runs)]
    last = max(regions.of(site.node).layer for cell in drawn.plan.cells for one in cell.passes for site in one.reads)
    wanted = {}
    for block, node in regions.blocks.items():
        layer = regions.of(node).layer
        whole = 2 * int(runs.stops.sum()) if layer <= last else FILLER
        wanted[block] = whole + total(where, Region(layer, block))
    assert counted(ours, drawn.plan, drawn.prompts) == wanted, str(drawn.plan.path)


# --- what interventions run beforehand -------------------------------------------------------------------------------------

HEADS = "head[{layer},{head}] @ {pos} -> logits"
MADE: dict[str, tuple[str | Intervention, int]] = {
    "a mean": ("mean", EACH),
    "a mean of one's own": (Intervention("doubled", "twice its mean", lambda source, _: 2 * source.mean()), EACH),
    "a given tensor": (given_value(torch.zeros(8)), 1),
    "a given number": (given_value(0.5), 0),
    "zero": ("zero", 0),
}


@contextmanager
def passes(ours: Any) -> Iterator[list[tuple[int, ...]]]:
    """Within: the shapes of the ids of every forward pass."""
    execution_order(ours)  # found once a model, by a run of its own
    found: list[tuple[int, ...]] = []
    hook = ours.hf.get_input_embeddings().register_forward_pre_hook(lambda _, args: found.append(tuple(args[0].shape)))
    try:
        yield found
    finally:
        hook.remove()


@pytest.mark.parametrize("memory", [1, PLENTY])
@pytest.mark.parametrize("opener", [Suffix, Rows])
@pytest.mark.parametrize("name", MADE)
def test_the_cost_counts_what_an_intervention_runs_beforehand(
    name: str, opener: Any, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each prompt goes through the model once for all values of a plan: those passes, and those that patch, are what is predicted."""
    monkeypatch.setattr("circuitry.executing.rows.guarded.check", lambda *_: None)
    ours, (how, examples) = model("gpt2"), MADE[name]
    made = planned(ours, [HEADS], PROMPTS, intervention=how)
    assert len({write for cell in made.cells for write in cell.passes[0].writes}) > EACH
    executor, metrics = opener(ours, memory=memory), [METRICS["logit"]]
    with passes(ours) as ran:
        values = constant_values(ours, made, PROMPTS, memory)
        before = list(ran)
        executor.run(made, PROMPTS, metrics)
    assert len(values) > EACH and sum(rows for rows, _ in before) == examples
    said, layers = executor.cost(made, PROMPTS, metrics), ours.graph.sizes["layer"]
    plain = executor.cost(replace(made, intervention=RESAMPLE), PROMPTS, metrics)
    assert said.token_layers - plain.token_layers == layers * sum(rows * length for rows, length in before)
    assert said.batches == len(ran) - len(before)
