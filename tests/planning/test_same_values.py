"""Sources that have the same value in both prompts: refused, left out of sweeps, and told from all others by numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry.planning import given, plan
from circuitry.prompting import Prompts
from support.agreement import model, ragged, where
from support.moved import moved, values

PROMPTS = ragged()
WHERE: dict[str, Any] = {"where": where(PROMPTS), "length": PROMPTS.length, "changed": PROMPTS.differing}
KINDS = ("gpt2", "gpt_neox", "mistral", "mamba", "mamba2", "rwkv", "jamba")


def corrupted_at(*positions: int) -> Prompts:
    """One pair of prompts of nine tokens that differ at these positions."""
    clean = np.random.default_rng(0).integers(1, 61, (1, 9))
    corrupted = clean.copy()
    corrupted[:, positions] = clean[:, positions] % 60 + 1
    return Prompts(clean, corrupted, clean[:, 0], clean[:, 1], {"END": np.array([8])}, ())


@pytest.mark.parametrize("positions", [(2,), (1, 6)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_called_the_same_is_the_same(kind: str, positions: tuple[int, ...]) -> None:
    """Every node at every position: the planner takes it as a source if, and only if, plain hooks see two values."""
    ours, prompts = (
        model(kind, layers=4 if kind == "jamba" else 2, **({"sliding_window": 3} if kind == "mistral" else {})),
        corrupted_at(*positions),
    )
    clean, corrupted = (values(ours, torch.from_numpy(ids)) for ids in (prompts.clean, prompts.corrupted))
    differ = moved(ours.graph, clean, corrupted)
    for node in ours.graph.nodes(ports=True):
        if node.family == "logits":
            continue
        for position in range(8):
            problem = ""
            try:
                plan(node @ position >> ours.graph.logits, ours.graph, where=prompts.where, length=9, changed=prompts.differing)
            except ct.PathError as error:
                problem = error.problem
            assert (
                ("is the same in both" not in problem) == ((node, position) in differ)
                or "out of reach" in problem
                or "no unfrozen" in problem
            )


MESSAGES = """
no token in which the prompts differ reaches mlp[0] @ 0: its value is the same in both, so the effect would be exactly zero
    mlp[0] @ 0 -> logits
             ^
the prompts differ at A, B; from there to mlp[0] information moves at least 0 tokens

no token in which the prompts differ reaches embed @ B+1: its value is the same in both, so the effect would be exactly zero
    embed @ B+1 -> logits
            ^
the prompts differ at A, B; from there to embed information moves exactly 0 tokens

no token in which the prompts differ reaches resid[1] @ A-1: its value is the same in both, so the effect would be exactly zero
    (resid[1] @ A-1, head[0,0].q @ B+1) -> logits
                ^
the prompts differ at A, B; from there to resid[1] information moves at least 0 tokens
"""


@pytest.mark.parametrize("message", MESSAGES.strip().split("\n\n"))
def test_a_source_with_one_value_is_refused(message: str) -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(message.split("\n")[1][4:], model("gpt2").graph, **WHERE)
    assert str(caught.value) == message


def test_the_rule_is_for_resampling_alone() -> None:
    """Zeros, a mean or a given value are not what the clean prompt has."""
    for intervention in ("zero", "mean", given(1.0)):
        assert plan("embed @ B+1 -> logits", model("gpt2").graph, intervention=intervention, **WHERE).cells
    with pytest.raises(ct.PathError, match="is the same in both"):
        plan("embed @ B+1 -> logits", model("gpt2").graph, direction="denoising", **WHERE)


def test_one_example_or_one_member_that_differs_is_enough() -> None:
    graph = model("gpt2").graph
    early = int(PROMPTS.where["A"].min())
    assert plan(f"mlp[0] @ {early} -> logits", graph, **WHERE).cells, "only in the first example a token has changed by then"
    assert plan("(mlp[0] @ B+1, mlp[0] @ B) -> logits", graph, **WHERE).cells
    assert plan("mlp[0] -> logits", graph, **WHERE).cells
    only_b = WHERE | {"changed": [(at,) for at in PROMPTS.where["B"].tolist()]}
    with pytest.raises(ct.PathError, match=r"nothing flows into mlp\[1\] @ A on this leg"):
        plan("(embed @ A, embed @ B) -> (logits, mlp[1] @ A)", graph, **only_b)


@pytest.mark.parametrize("kind", ["gpt2", "mamba", "mistral", "rwkv"])
def test_a_source_at_every_position_has_an_effect_only_after_the_change(kind: str) -> None:
    """With all of a node patched, what is read changes where plain hooks see it change in the corrupted run, and nowhere else."""
    ours, prompts = model(kind, layers=2, **({"sliding_window": 2} if kind == "mistral" else {})), corrupted_at(3)
    clean, corrupted = (values(ours, torch.from_numpy(ids)) for ids in (prompts.clean, prompts.corrupted))
    differ = moved(ours.graph, clean, corrupted)
    for target in ("resid[1]", "resid[2]", "logits"):
        node = ours.graph.node(target)
        for position in range(9):
            try:
                found = bool(
                    plan(
                        ct.Node("embed") >> node @ position, ours.graph, where=prompts.where, length=9, changed=prompts.differing
                    ).cells
                )
            except ct.PathError as error:
                found = False
                assert error.problem.startswith(
                    f"nothing in which the prompts differ reaches {target} @ {position} by way of embed"
                )
            assert found == ((node, position) in differ), (target, position)


def test_the_example_that_differs_must_be_one_in_which_it_arrives() -> None:
    """In the first example the source differs and lies after the target, in the second it does not differ."""
    graph = ct.graph("gpt2", layer=2, head=1)
    given: dict[str, Any] = {"where": {"X": [4, 2], "Y": [3, 5], "END": [6, 6]}, "length": 7}
    assert plan("mlp[0] @ X -> mlp[1] @ Y", graph, changed=[(1,), (1,)], **given).cells
    with pytest.raises(ct.PathError):
        plan("mlp[0] @ X -> mlp[1] @ Y", graph, changed=[(1,), (6,)], **given)


def test_a_sweep_leaves_such_cells_out_and_says_so() -> None:
    task, ours = ct.task("induction", distance=8, examples=4), ct.load("bundled:mamba")
    path = "ssm_in[{layer}] @ {position} -> logits freezing ssm_state except ssm_state[{layer}]"
    table = ct.patch(ours, task, path)
    there = set(map(tuple, table.frame[["layer", "position"]].drop_duplicates().to_numpy()))
    assert there == {(n, f"B+{k}" if k else "B") for n in range(4) for k in range(6)} - {(0, "B+4"), (0, "B+5")}
    said = ct.explain(ours, task, path)
    assert "cells are left out; the first: no token in which the prompts differ reaches ssm_in[0] @ A" in said
    grid = table.pivot()
    assert list(grid.columns) == ["B", "B+1", "B+2", "B+3", "B+4", "B+5"] and grid.isna().sum().sum() == 2
    assert set(ct.patch(ours, task, path, intervention="zero").frame["position"]) == {*grid.columns, "A"}


def test_random_nodes_have_values_that_differ_too() -> None:
    task, ours = ct.task("induction", distance=8, examples=4), ct.load("bundled:gpt_neox")
    table = ct.patch(ours, task, "mlp[{layer}] @ B -> logits", baseline=30, lint=False)
    assert table.random is not None and (table.random.groupby("node")["effect"].apply(lambda e: e.abs().max()) > 0).all()


def test_holes_do_not_change_the_order_of_columns() -> None:
    cells = [{"layer": n, "position": p} for n, ps in ((0, "ACD"), (1, "ABCDE")) for p in ps]
    table = ct.PatchingTable.of(cells, np.ones((8, 2)), np.zeros(2), np.ones(2), "logit")
    assert list(table.pivot().columns) == list("ABCDE")
