"""What the planner says of paths that cannot be run or would do nothing, word for word, and where its caret stands."""

from __future__ import annotations

from pathlib import Path

import pytest

import circuitry as ct
from circuitry.paths import Node
from circuitry.planning import plan

GRAPHS = {
    "mamba": ct.graph("mamba", layer=3, lag=3),
    "gpt_neox": ct.graph("gpt_neox", layer=3, head=2),
    "gpt2": ct.graph("gpt2", layer=2, head=2),
}
WHERE, LENGTH = {"A": [2, 3], "B": [5, 6], "END": [9, 9]}, 10

MESSAGES, TASK = Path(__file__).parent / "messages", "-with-a-task"


def blocks(graph: str, of: str = "") -> list[tuple[str, str]]:
    """Each block is one whole message; its second line, without the indent, is the path that was planned."""
    text = (MESSAGES / f"{graph}{of}.txt").read_text(encoding="utf-8")
    return [(graph, message) for message in text.strip("\n").split("\n\n")]


@pytest.mark.parametrize(("graph", "message"), blocks("mamba") + blocks("gpt_neox") + blocks("gpt2"))
def test_without_a_task_the_planner_says(graph: str, message: str) -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(message.split("\n")[1][4:], GRAPHS[graph])
    assert str(caught.value) == message


@pytest.mark.parametrize(("graph", "message"), blocks("mamba", TASK) + blocks("gpt_neox", TASK))
def test_with_a_task_the_planner_says(graph: str, message: str) -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(message.split("\n")[1][4:], GRAPHS[graph], where=WHERE, length=LENGTH, sweep=["A", "B"])
    assert str(caught.value) == message


def test_a_task_without_positions_knows_none() -> None:
    with pytest.raises(ct.PathError) as caught:
        plan("mlp[0] @ B -> logits", GRAPHS["gpt2"], where={})
    assert (caught.value.problem, caught.value.hint) == ("the task names no position 'B'", "known here: none")


def test_python_cannot_smuggle_in_an_index_below_zero() -> None:
    with pytest.raises(ct.PathError) as caught:
        plan(Node("mlp", (-1,)) >> Node("logits"), GRAPHS["gpt2"])
    assert caught.value.problem == "layer -1 of 'mlp' does not exist"


def test_the_caret_stands_under_the_canonical_text() -> None:
    """However the path was spaced or built, the message shows one spelling and points into it."""
    with pytest.raises(ct.PathError) as caught:
        plan("mlp [ 0 ]->(  logits,embed )", GRAPHS["gpt2"])
    assert str(caught.value).split("\n")[1:3] == ["    mlp[0] -> (logits, embed)", "                       ^"]
