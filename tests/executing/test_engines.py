"""The nnsight engine and the independent reference give the same numbers, and a broken engine does not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from circuitry import Node, PathError, parse
from circuitry.executing import trace
from circuitry.executing.copies import ALL, Copy, joined, units_frozen
from circuitry.executing.rows import driver
from circuitry.executing.rows import schedule as rows_schedule
from circuitry.executing.rows.executor import run_plan
from circuitry.executing.rows.schedule import _Layout, schedule
from circuitry.planning import Plan, absolute, plan
from circuitry.planning.frozen import matching
from circuitry.planning.metrics import metric
from circuitry.prompting import Prompts
from support import agreement, tiny
from support.agreement import both, disagreement, model, ragged
from support.breaking import drop_freezing_place
from support.drawn_paths import drawn
from support.paths_by_kind import FAMILIES

EXACT = 1e-10
PROMPTS = ragged()

EVERY = [(kind, path) for kind, paths in FAMILIES.items() for path in paths]


@pytest.mark.parametrize(("kind", "path"), EVERY)
def test_engines_agree(kind: str, path: str) -> None:
    found = both(model(kind), path, PROMPTS)
    assert max(cell.error for cell in found) < EXACT
    assert max(cell.effect for cell in found) > 1e-5, "a path without an effect tests nothing"


@pytest.mark.parametrize(("kind", "path"), EVERY[::6])
def test_engines_agree_on_denoising(kind: str, path: str) -> None:
    found = both(model(kind), path, PROMPTS, "denoising")
    assert max(cell.error for cell in found) < EXACT < max(cell.effect for cell in found)


def test_every_type_is_tested() -> None:
    assert FAMILIES.keys() >= tiny.CONFIGS.keys()


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_engines_agree_on_a_node_of_every_layer(kind: str) -> None:
    """Of every family and port, in each layer another head or lag; paths with open indices go through all of them."""
    graph, tried = model(kind).graph, set[tuple[str, str | None]]()
    for node in graph.nodes(ports=True):
        layer, *rest = node.indices or (0,)
        if node.family != "logits" and rest == [layer % (1 + max(at[1] for at in graph.indices(node.family))) for _ in rest]:
            (cell,) = both(model(kind), f"{node} -> logits", PROMPTS)
            assert cell.error < EXACT < cell.effect, node
            tried.add((node.family, node.port))
    assert tried == {(node.family, node.port) for node in graph.nodes(ports=True)} - {("logits", None)}


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_engines_agree_on_every_frozen_family(kind: str) -> None:
    graph, free = model(kind).graph, agreement.by_reference(model(kind), parse("embed -> logits"), PROMPTS)[2]
    for family in graph.families:
        for port in family.freezable:
            node = Node(family.name, (), port or None)
            if family.role in ("embed", "resid"):
                continue  # the one is the source, the others are the only way from it
            (cell,) = both(model(kind), f"embed -> logits freezing {node}", PROMPTS)
            assert cell.error < EXACT, node
            assert (cell.reference - free).abs().max() > 1e-6, f"freezing {node} does nothing"


@pytest.mark.parametrize(
    ("kind", "path"), [("mamba", "ssm_state[{layer}] @ {pos} -> logits"), ("gpt2", "head[{layer},0].k @ {pos} -> logits")]
)
def test_cells_left_out_have_no_effect(kind: str, path: str) -> None:
    at = {"pos": ["A", "END", "END+1", "END+2"]}
    short = ragged(length=8)
    prompts = replace(short, where={**short.where, "END": short.where["END"] - 2})
    made = plan(path, model(kind).graph, where=agreement.where(prompts), length=prompts.length, axes=at)
    assert {dict(cell.values)["pos"] for cell, _ in made.skipped} == {"END+1", "END+2"}
    for cell, _ in made.skipped:
        base, _, patched = agreement.by_reference(model(kind), cell.path, prompts)
        assert (patched == base).all()


# --- paths drawn at random -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ("gpt_neox", "gpt2", "llama", "mamba", "jamba"))
@given(data=st.data())
@settings(max_examples=80)
def test_engines_agree_on_any_path(kind: str, data: st.DataObject) -> None:
    """What the planner accepts, both engines answer alike; what it refuses as without effect has none."""
    path = data.draw(drawn(model(kind).graph))
    try:
        found = both(model(kind), str(path), PROMPTS)
    except PathError as error:
        alone = len(path.sources) == len(path.legs) == 1
        if alone and ("exactly zero" in error.problem or "nothing flows" in error.problem):
            base, _, patched = agreement.by_reference(model(kind), path, PROMPTS)
            assert (patched - base).abs().max() < 1e-12
        return
    assert max(cell.error for cell in found) < EXACT


# --- broken engines --------------------------------------------------------------------------------------------------------

Mutate = Callable[[_Layout, Copy], Copy]


def is_hold(layout: _Layout, copy: Copy) -> bool:
    return bool(np.isin(copy.source, layout.base).all())


def off_by_one(layout: _Layout, copy: Copy) -> Copy:
    return replace(copy, position=np.where(copy.position == ALL, ALL, (copy.position + 1) % layout.prompts.length))


def next_head(layout: _Layout, copy: Copy) -> Copy:
    return replace(copy, unit=np.where(copy.unit == ALL, ALL, (copy.unit + 1) % layout.graph.sizes.get("head", 1)))


def swapped(_: _Layout, copy: Copy) -> Copy:
    return replace(copy, to=copy.source, source=copy.to)


def held_at_other(layout: _Layout, copy: Copy) -> Copy:
    return replace(copy, source=copy.source + 1) if is_hold(layout, copy) else copy


def written_from_base(layout: _Layout, copy: Copy) -> Copy:
    return replace(copy, source=copy.source - 1) if np.isin(copy.source, layout.base + 1).all() else copy


def next_example(_: _Layout, copy: Copy) -> Copy:
    return replace(copy, source=np.roll(copy.source, 1))


COPIES: dict[str, tuple[Mutate, str, str]] = {
    "position off by one": (off_by_one, "gpt2", "mlp[0] @ B -> logits"),
    "head off by one": (next_head, "gpt2", "head[0,1] @ B -> logits"),
    "frozen head off by one": (next_head, "llama", "embed @ B -> logits freezing head[1,2]"),
    "source and target swapped": (swapped, "gpt_neox", "mlp[0] @ B -> logits"),
    "frozen at the other input": (held_at_other, "gpt_neox", "mlp[0] @ B -> logits freezing head[1]"),
    "base and other swapped": (written_from_base, "mamba", "ssm_in[1] @ B -> logits"),
    "next example": (next_example, "mamba", "ssm_in[1] @ B -> logits"),
}


@pytest.mark.parametrize("name", COPIES)
def test_mutant_of_a_copy_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate, kind, path = COPIES[name]
    assert disagreement(model(kind), path, PROMPTS) < EXACT
    put = _Layout._put
    monkeypatch.setattr(_Layout, "_put", lambda self, place, stop, copy: put(self, place, stop, mutate(self, copy)))
    assert disagreement(model(kind), path, PROMPTS) > 1e-6


@pytest.mark.parametrize("path", ("mlp[0] @ B -> logits freezing head[1]", "mlp[0] @ END -> logits directly"))
def test_mutant_that_drops_a_freeze_is_caught(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_schedule, "units_frozen", lambda *known: dict(list(units_frozen(*known).items())[1:]))
    assert disagreement(model("gpt2"), path, PROMPTS) > 1e-6


@pytest.mark.parametrize("dropped", range(3))
def test_mutant_that_holds_two_of_three_parts_of_a_state_is_caught(dropped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    drop_freezing_place(monkeypatch, dropped)
    assert disagreement(model("mamba"), "embed @ B -> logits freezing ssm_state", PROMPTS) > 1e-6


@pytest.mark.parametrize("path", ("ssm_state[1] @ B+1 -> logits", "ssm_state[0].carry @ A -> logits"))
def test_mutant_that_writes_the_next_state_is_caught(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put = _Layout._put
    later: Callable[..., None] = lambda self, place, stop, copy: put(self, place, None if stop is None else stop + 1, copy)  # noqa: E731
    monkeypatch.setattr(_Layout, "_put", later)
    assert disagreement(model("mamba"), path, PROMPTS) > 1e-6


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        ("gpt2", "mlp[0] @ B -> logits @ END-1"),
        ("mamba", "embed @ B -> ssm_state[1] @ B+1"),
        ("llama", "embed -> head[1,1].q @ B+1"),
    ],
)
def test_mutant_that_reads_the_next_position_is_caught(kind: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "absolute", lambda at, where: [p + 1 for p in absolute(at, where)])
    assert disagreement(model(kind), path, PROMPTS) > 1e-6


def test_mutant_that_freezes_its_own_ends_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    everything: Callable[..., set[Node]] = lambda graph, _, __, leg: {n for p in leg.frozen for n in matching(graph, p)}  # noqa: E731
    monkeypatch.setattr(importlib.import_module("circuitry.planning.plan"), "frozen_nodes", everything)
    assert disagreement(model("mamba"), "ssm_in[1] @ B -> logits freezing ssm_in", PROMPTS) > 1e-6


def test_mutant_that_follows_legs_in_the_wrong_order_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "joined", lambda copies: joined(copies)[::-1])
    assert disagreement(model("gpt2"), "resid[1] @ B -> (resid[1] @ B, mlp[1] @ B) -> logits", PROMPTS) > 1e-6


# --- what must hold of any patch -------------------------------------------------------------------------------------------

KINDS = ("gpt_neox", "gpt_neox-sequential", "gpt2", "llama", "mamba")


def compiled(kind: str, path: str) -> Plan:
    return plan(path, model(kind).graph, where=agreement.where(PROMPTS), length=PROMPTS.length, sweep=agreement.SWEEP)


def values(kind: str, path: str, prompts: Prompts) -> list[Tensor]:
    """What the last leg reads first: in the base run, the other run, and the patched run of the first cell."""
    made = compiled(kind, path)
    laid = schedule(made, made.cells[:1], prompts)
    read = driver.run(model(kind), laid, prompts)[0]
    return [read[torch.from_numpy(rows)] for rows in (laid.reading.base, laid.reading.source, laid.reading.rows[0])]


def effects(kind: str, path: str, prompts: Prompts, memory: int = 1 << 30) -> np.ndarray[Any, Any]:
    return run_plan(model(kind), compiled(kind, path), prompts, [metric("logit")], memory=memory)[0].effect


some_path = st.sampled_from([pair for pair in EVERY if pair[0] in KINDS])
several = st.integers(1, 5)
seeds = st.integers(0, 1000)


@given(some_path, several, seeds)
@settings(max_examples=40)
def test_patching_nothing_changes_nothing(pair: tuple[str, str], examples: int, seed: int) -> None:
    prompts = ragged(examples, seed=seed)
    base, _, patched = values(*pair, replace(prompts, corrupted=prompts.clean))
    assert (patched - base).abs().max() < 1e-12


@given(st.sampled_from(KINDS), st.integers(0, 3), several, seeds)
@settings(max_examples=40)
def test_patching_the_whole_stream_gives_the_other_run(kind: str, layer: int, examples: int, seed: int) -> None:
    prompts, cuts = ragged(examples, seed=seed), ["embed", f"resid[{layer}]"]
    if layer < 3 and any(family.name == "resid_mid" for family in model(kind).graph.families):
        cuts.append(f"resid_mid[{layer}]")
    for cut in cuts:
        base, other, patched = values(kind, f"{cut} -> logits", prompts)
        assert (patched - other).abs().max() < EXACT < (other - base).abs().max()


@given(some_path, seeds, st.permutations(range(4)))
@settings(max_examples=15)
def test_examples_do_not_see_each_other(pair: tuple[str, str], seed: int, order: list[int]) -> None:
    prompts = ragged(4, seed=seed)
    whole, alone = effects(*pair, prompts), effects(*pair, prompts.take(np.array(order[:1])))
    np.testing.assert_allclose(effects(*pair, prompts.take(np.array(order))), whole[:, order], atol=EXACT)
    np.testing.assert_allclose(alone, whole[:, order[:1]], atol=EXACT)


@pytest.mark.parametrize(("kind", "path"), [pair for pair in EVERY if "{" in pair[1] and pair[0] in KINDS])
@given(memory=st.integers(1, 20).map(lambda rows: rows * 20_000))
@settings(max_examples=1)
@example(memory=1)
def test_small_batches_give_the_same_effects(kind: str, path: str, memory: int) -> None:
    whole = effects(kind, path, PROMPTS)
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(effects(kind, path, PROMPTS, memory), whole, atol=EXACT)


@given(st.sampled_from(KINDS), st.integers(0, 2), st.integers(0, 9))
@settings(max_examples=40)
def test_nothing_flows_back_in_the_text(kind: str, layer: int, at: int) -> None:
    """Examples whose answer is predicted before the patched token do not change: rows of a batch may be rounded differently."""
    everywhere = replace(PROMPTS, corrupted=(PROMPTS.clean + 7) % 61)
    effect = effects(kind, f"resid[{layer}] @ {at} -> logits", everywhere)[0]
    changed = np.abs(effect) > EXACT
    assert (changed == (everywhere.where["END"] >= at)).all()


def test_cells_that_read_different_sites_share_no_batch() -> None:
    made = compiled("gpt2", "embed -> mlp[{layer}]")
    with pytest.raises(ValueError, match="these cells read different sites"):
        schedule(made, made.cells, PROMPTS)


def test_a_source_after_the_answer_is_refused() -> None:
    with pytest.raises(PathError, match=r"END comes before END\+1: nothing flows back in the text"):
        plan("mlp[0] @ END+1 -> logits", model("gpt2").graph, where={"END": [3, 5]}, length=8)


@given(st.sampled_from(KINDS), st.permutations(range(3)), seeds)
@settings(max_examples=30)
def test_what_goes_directly_to_the_stream_adds_up(kind: str, layers: list[int], seed: int) -> None:
    """With everything between held, the end of the stream is linear in what is added to it."""
    families = ("mixer_out", "mixer_out") if "mamba" in kind else ("attn", "mlp")
    sites = [f"{family}[{layer}] @ B+1" for family, layer in zip(families, layers, strict=False)]
    read = [values(kind, f"{sites} -> resid[3] @ B+1 directly", ragged(seed=seed)) for sites in (*sites, f"({', '.join(sites)})")]
    change = [patched - base for base, _, patched in read]
    assert (change[0] + change[1] - change[2]).abs().max() < EXACT < change[2].abs().max()
