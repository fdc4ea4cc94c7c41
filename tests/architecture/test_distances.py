"""The distance over a set of targets: by hand from stock activations, and by the reference, in any order and with the logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import circuitry as ct
from circuitry import CircuitryError, PatchingTable
from circuitry.executing.activations import read
from circuitry.paths import Node
from circuitry.prompting import Prompts
from support.agreement import model
from support.patching import TASK, patched

Floats = NDArray[np.float64]
RAGGED = ct.task("ioi", examples=6, order="both")


def by_hand(kind: str, targets: dict[str, str | None], task: ct.Task) -> Floats:
    """The L2 distance [example] between corrupted and clean run over a set of targets, which is what patching every token gives.

    A target's position is a name, END for the logits, or None: every token of the prompt, and none of its padding.
    """
    ours = model(kind)
    prompts = task.prompts(ours.vocabulary)
    clean, corrupted = (read(ours, targets, ids) for ids in (prompts.clean, prompts.corrupted))
    total = np.zeros(len(prompts))
    for node, at in zip(clean, targets.values(), strict=True):
        squared = (corrupted[node] - clean[node]).pow(2).numpy()
        total += np.array([_part(squared[k], node, at, prompts, k) for k in range(len(prompts))])
    return np.sqrt(total)


def _part(squared: Any, node: Node, at: str | None, prompts: Prompts, example: int) -> float:
    end = int(prompts.where["END"][example])
    if at is None and node.family != "logits":
        return float(squared[: end + 1].sum())
    return float(squared[prompts.where[at or "END"][example]].sum())


def distances(table: PatchingTable) -> Any:
    return table.values()[0]


SETS: dict[str, tuple[str, str, dict[str, str | None]]] = {
    "logits last": ("gpt2", "(mlp[0] @ END, logits)", {"mlp[0]": "END", "logits": None}),
    "logits first": ("gpt2", "(logits, mlp[0] @ END)", {"mlp[0]": "END", "logits": None}),
    "every position": ("gpt2", "(logits, mlp[0], resid[1] @ END)", {"mlp[0]": None, "resid[1]": "END", "logits": None}),
    "a state": ("mamba", "(ssm_state[0], logits, ssm_state[1] @ END)", {"ssm_state[0]": None, "ssm_state[1]": "END", "logits": None}),
    "heads": ("llama", "(head[1,2].q, head[1,2].pattern, logits @ END)", {"head[1,2].q": None, "head[1,2].pattern": None, "logits": None}),
    "one": ("gpt2", "mlp[1]", {"mlp[1]": None}),
}  # fmt: skip


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("task", (TASK, RAGGED), ids=("one length", "mixed lengths"))
def test_a_distance_is_over_all_targets_and_every_token_of_each(name: str, task: ct.Task) -> None:
    kind, targets, parts = SETS[name]
    table = patched(f"embed -> {targets}", kind, task=task, executor=ct.executor(verify=1))
    wanted = by_hand(kind, parts, task)
    np.testing.assert_allclose(distances(table), wanted, rtol=1e-9)
    np.testing.assert_allclose(table.frame["source"], wanted, rtol=1e-9)
    assert table.unit == "L2 distance from the base run" and (table.frame["base"] == 0).all()
    assert "agree" in table.provenance["verified"]


@pytest.mark.parametrize("engine", ("rows", "reference"))
def test_logits_in_a_set_are_read_at_end_in_any_order(engine: str) -> None:
    texts = ("(mlp[0] @ B, logits)", "(mlp[0] @ B, logits @ END)", "(logits, mlp[0] @ B)", "(logits @ END, mlp[0] @ B)")
    found = [distances(patched(f"embed @ B -> {text}", executor=engine)) for text in texts]
    for one in found[1:]:
        np.testing.assert_allclose(one, found[0], rtol=1e-12)
    parts = [distances(patched(f"embed @ B -> {text}", executor=engine)) for text in ("mlp[0] @ B", "(logits @ B+2, logits)")]
    assert (found[0] > parts[0]).all(), "the logits are in it"
    assert (parts[1] > 0).all()


def test_two_positions_of_the_logits_are_a_set_too() -> None:
    ours = model("gpt2")
    prompts = TASK.prompts(ours.vocabulary)
    with torch.no_grad():
        change = [ours.hf(torch.from_numpy(ids), use_cache=False).logits for ids in (prompts.corrupted, prompts.clean)]
    squared, rows = (change[0] - change[1]).pow(2).sum(-1).numpy(), np.arange(len(prompts))
    wanted = np.sqrt(squared[rows, prompts.where["B"]] + squared[rows, prompts.where["END"]])
    np.testing.assert_allclose(distances(patched("embed -> (logits @ B, logits)")), wanted, rtol=1e-9)


def test_paths_that_end_at_the_logits_and_at_a_set_share_no_table() -> None:
    with pytest.raises(CircuitryError, match="the paths of one table must end alike; 'b' ends at logits and logits, not logits"):
        patched({"a": "embed -> logits", "b": "embed -> (logits, logits @ B)"})  # type: ignore[arg-type]


def test_the_reference_follows_distances_through_frozen_nodes_and_legs() -> None:
    for kind, path in (
        ("gpt2", "mlp[0] @ B -> (head[1,0].k, head[1,1].v @ B) -> (mlp[2], logits) freezing head[2]"),
        ("mamba", "ssm_in[0] @ B -> (ssm_state[1] @ B+2, mixer_out[1]) freezing gate"),
        ("rwkv", "wkv_in[0] @ B -> (wkv_state[1] @ B+2, logits)"),
        ("mamba2", "ssm_in[1].B @ B -> delta[2,3] @ B+1"),  # one number a token
    ):
        one, other = (patched(path, kind, **how) for how in ({"executor": ct.executor(verify=9)}, {"executor": "reference"}))
        np.testing.assert_allclose(distances(one), distances(other), rtol=1e-8)
        assert (distances(one) > 1e-6).all()
