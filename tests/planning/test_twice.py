"""What names one thing twice is refused, or left out of a sweep that nobody chose: an example that counts twice is no evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import circuitry as ct
from circuitry import CircuitryError, PatchingTable, PathError
from circuitry.planning import Sweep
from circuitry.suites.study import Study
from support.agreement import model
from support.patching import TASK, patched

STATES = "mlp[0] @ {position} -> logits"
ABBA = ct.task("ioi", examples=4, order="ABBA", template=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["B", "B+0", "1"], "{position} has 'B' and 'B+0', which are the same; name each value once, since a cell"),
        (["B", "B"], "{position} has 'B' twice; name each value once"),
        ([3, "3"], "{position} has 3 and '3', which are the same"),
        (["END", "B", "3"], "{position} has 'B' and '3', which are the same token in every example; name each token once"),
        (["A+1", "B"], "{position} has 'A+1' and 'B', which are the same token in every example"),
    ],
)
def test_chosen_positions_are_one_token_each(values: list[Any], message: str) -> None:
    """With prefix 2, B is token 3."""
    with pytest.raises(CircuitryError) as found:
        patched(STATES, axes={"position": values})
    assert str(found.value).startswith(message)


def test_positions_that_differ_in_one_example_are_two() -> None:
    both = ct.task("ioi", examples=4, order="both")
    table = patched(STATES, task=both, axes={"position": ["IO+2", "S1"]}, baseline=0)
    assert list(table.mean().index) == ["IO+2", "S1"]


def test_of_a_sweep_nobody_chose_the_plain_name_stays_and_the_other_is_listed() -> None:
    """In "IO and S1", IO+2 is S1."""
    study = Study(model("gpt2"), ABBA, options={})
    table = study.patch("t", STATES, position=["IO+2", "S1", "IO", "END-1", "S1+1", "IO+3"])
    assert list(table.mean().index) == ["S1", "IO", "END-1", "S1+1"]
    assert table.provenance["skipped"] == [
        "{'position': 'IO+2'}: IO+2 is S1 in every example",
        "{'position': 'IO+3'}: IO+3 is S1+1 in every example",
    ]
    (skipped,) = patched(STATES, axes={"position": Sweep(["B", "A+1"])}).provenance["skipped"]
    assert skipped == "{'position': 'A+1'}: A+1 is B in every example"


def test_a_pair_of_nodes_is_measured_once_whatever_its_order() -> None:
    table = patched("(mlp[{a}] @ B, mlp[{b}] @ B) -> logits", axes={"a": [0, 1], "b": [0, 1]}, baseline=0)
    assert list(table.mean().index) == [(0, 1)] and table.frame["example"].tolist() == [0, 1, 2, 3, 4]
    assert table.provenance["skipped"] == [
        "{'a': 0, 'b': 0}: mlp[0] @ B is in the set twice",
        "{'a': 1, 'b': 0}: the same experiment as {'a': 0, 'b': 1}",
        "{'a': 1, 'b': 1}: mlp[1] @ B is in the set twice",
    ]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("(mlp[0], mlp[0]) -> logits", "mlp[0] is in the set twice"),
        ("(head[1], head[1,0]) -> logits", "head[1,0] is part of head[1], which the set names already"),
        ("(head[1,0], head[1,0].z) -> logits", "head[1,0].z is head[1,0], which the set names already"),
        ("(resid[1] @ B, resid[1] @ 3) -> logits", "resid[1] @ 3 is resid[1] @ B, which the set names already"),
        ("(resid[1] @ B, resid[1]) -> logits", "resid[1] @ B is part of resid[1], which is at every position"),
        ("embed -> (mlp[1] @ B, mlp[1] @ A+1)", "mlp[1] @ A+1 is mlp[1] @ B, which the set names already"),
        ("embed -> (logits, logits @ END)", "logits @ END is logits, which the set names already"),
        ("embed -> (mlp[1], mlp[1]) -> logits", "mlp[1] is in the set twice"),
    ],
)
def test_a_set_names_each_site_once(path: str, problem: str) -> None:
    with pytest.raises(PathError) as found:
        patched(path)
    assert found.value.problem == problem and found.value.hint == "name each site once"


def test_sites_that_meet_in_some_examples_are_no_set_to_measure() -> None:
    both = ct.task("ioi", examples=4, order="both")
    with pytest.raises(
        PathError, match=r"resid\[2\] @ IO\+2 is resid\[2\] @ S1 in 2 of 4 examples, which a distance would count twice"
    ):
        patched("embed -> (resid[2] @ S1, resid[2] @ IO+2)", task=both)
    assert len(patched("(resid[2] @ S1, resid[2] @ IO+2) -> logits", task=both, baseline=0).frame) == 4, (
        "written once more: the same"
    )


def test_labels_of_one_experiment_are_refused() -> None:
    for other in ("mlp[0] @ B -> logits", "mlp[0] @ A+1 -> logits @ END", "mlp[0] @ 3 -> logits"):
        with pytest.raises(CircuitryError, match=r"^the paths 'a' and 'c' are the same experiment; name it once"):
            patched({"a": "mlp[0] @ B -> logits", "b": "mlp[1] @ B -> logits", "c": other})  # type: ignore[arg-type]


def test_a_table_has_each_cell_once() -> None:
    with pytest.raises(
        CircuitryError, match=r"^the table has a cell twice for one example: {'layer': 0, 'example': 0}; each cell"
    ):
        PatchingTable.of([{"layer": 0}, {"layer": 0}], np.ones((2, 4)), np.zeros(4), np.ones(4), "logit")
    one = PatchingTable.of([{"layer": 0}], np.ones((1, 4)), np.zeros(4), np.ones(4), "logit")
    with pytest.raises(CircuitryError, match="the table has a cell twice"):
        PatchingTable(pd.concat([one.frame, one.frame]), ("layer",), "logit")


def test_scores_measure_each_set_of_nodes_once() -> None:
    """Of a role with one node, leaving out the node and leaving out the role are one experiment."""
    found = ct.score(model("gpt2"), TASK, {"one": ["head[0,0]"], "two": ["head[1,0]", "head[1,1]"]}, random=0, subsets=0)
    labels = found.table.frame["set"].unique().tolist()
    assert "circuit without head[0,0]" not in labels and "circuit without two" not in labels
    assert len(found.table.frame.groupby("set")["effect"].apply(tuple).unique()) == len(labels)
    assert found.minimality["node"].tolist() == ["head[0,0]", "head[1,0]", "head[1,1]"]
    assert found.minimality["change"].notna().all()


def test_prompts_that_are_drawn_twice_are_counted() -> None:
    """Of a task with two prompts, 5 examples are 2: the caption says so, and patch warns."""
    from circuitry.prompting import Prompts, TaskDefinition
    from circuitry.prompting.task import task_of

    def make(vocabulary: Any, rng: Any, *, examples: int) -> Prompts:
        clean = np.array([[7, 4, 7], [9, 4, 9]])[np.arange(examples) % 2]
        corrupted = clean + np.array([1, 0, 0])
        where = {"START": np.zeros(examples, int), "END": np.full(examples, 2)}
        return Prompts(clean, corrupted, clean[:, 0], corrupted[:, 0], where, ("START",))

    task = task_of(TaskDefinition("two", "", make, ("START", "END"), ("START",)), {}, 5, 0)
    table = patched("embed @ START -> logits", task=task, metric="kl")
    assert "over 5 examples (2 different prompts)" in table.caption()
    with pytest.warns(UserWarning, match="only 2 of its 5 prompts are different, so intervals and stars rest on fewer prompts"):
        patched("embed @ START -> logits", task=task, metric="kl", lint=True)
    assert "different" not in patched(STATES).caption()
