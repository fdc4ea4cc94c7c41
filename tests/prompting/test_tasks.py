"""Tasks: what the induction prompts are made of, what the linter refuses, and definitions of one's own."""

from __future__ import annotations

import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import circuitry as ct
from circuitry import CircuitryError, TaskError
from circuitry.models import Vocabulary
from circuitry.prompting import Prompts, Task, english, lint, record
from support.own_task import OWN

VOCABULARY = Vocabulary(np.arange(10, 90))


def made(**options: Any) -> Prompts:
    return ct.task("induction", **options).prompts(VOCABULARY)


# --- induction -------------------------------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(0, 20), st.integers(1, 9), st.sampled_from("AB"), st.integers(0, 1000))
def test_induction_is_a_pair_and_its_first_half_again(
    distance: int, prefix: int, examples: int, corruption: str, seed: int
) -> None:
    prompts = made(distance=distance, prefix=prefix, examples=examples, corruption=corruption, seed=seed)
    a, b, end = (prompts.where[name] for name in ("A", "B", "END"))
    rows = np.arange(examples)
    assert (len(prompts), prompts.length) == (examples, prefix + distance + 1)
    assert (a == prefix).all() and (b == prefix + 1).all() and (end == prefix + distance).all()
    assert (prompts.clean[rows, end] == prompts.clean[rows, a]).all()
    assert (prompts.clean[rows, b] == prompts.answer).all()
    assert np.isin(prompts.clean, VOCABULARY.ordinary).all()
    for row in prompts.clean:
        assert len(set(row[:-1])) == prompts.length - 1, "nothing but the pair predicts the answer"
    changed = {"A": a, "B": b}[corruption]
    assert (np.argwhere(prompts.clean != prompts.corrupted) == np.stack([rows, changed], 1)).all()
    assert (prompts.corrupted[rows, changed] == prompts.foil).all()
    assert not np.any([np.isin(foil, row) for foil, row in zip(prompts.foil, prompts.clean, strict=True)])
    assert prompts.changed == (corruption,)


@given(st.integers(1, 9), st.integers(0, 20), st.sampled_from("AB"), st.integers(0, 1000))
def test_a_repeated_sequence_repeats_what_is_before_the_pair(prefix: int, more: int, corruption: str, seed: int) -> None:
    options: dict[str, Any] = {"distance": prefix + 2 + more, "prefix": prefix, "corruption": corruption, "seed": seed}
    repeated, pair = (made(form=form, examples=3, **options) for form in ("repeated", "pair"))
    distance = options["distance"]
    assert (repeated.clean[:, distance:] == repeated.clean[:, : prefix + 1]).all(), "the last tokens are the first ones again"
    assert (repeated.clean[:, :distance] == pair.clean[:, :distance]).all()
    assert (repeated.clean != repeated.corrupted).sum() == 3
    for part in ("answer", "foil"):
        assert (getattr(repeated, part) == getattr(pair, part)).all()
    for name, at in pair.where.items():
        assert (repeated.where[name] == at).all()


@pytest.mark.parametrize("corruption", "AB")
@pytest.mark.parametrize("distance", [2, 40])
def test_names_are_a_text_in_which_a_person_is_named_twice(distance: int, corruption: str) -> None:
    vocabulary = ct.load("bundled:gpt_neox").vocabulary
    prompts = ct.task("induction", form="names", distance=distance, corruption=corruption, examples=20).prompts(vocabulary)
    names, rows = set(vocabulary.single(english.NAMES).values()), np.arange(20)
    a, b, end = (prompts.where[name] for name in ("A", "B", "END"))
    assert (b == a + 1).all() and (end - a >= distance).all()
    assert len(set((end - a).tolist())) > 1, "texts differ in length"
    assert (prompts.clean[rows, end] == prompts.clean[rows, a]).all() and (prompts.clean[rows, b] == prompts.answer).all()
    for row, at in enumerate(end):
        ids = prompts.clean[row, : at + 1].tolist()
        assert [token for token in ids if token in names] == [ids[a[row]], ids[b[row]], ids[a[row]]], "no other name"
        assert prompts.foil[row] in names - set(ids)
    changed = {"A": a, "B": b}[corruption]
    assert (np.argwhere(prompts.clean != prompts.corrupted) == np.stack([rows, changed], 1)).all()
    assert (prompts.clean[:, 0] == vocabulary.front[0]).all(), "the text begins as in training"


def test_same_seed_same_prompts() -> None:
    one, again, other = made(seed=3), made(seed=3), made(seed=4)
    assert (one.clean == again.clean).all() and (one.corrupted == again.corrupted).all()
    assert (one.clean != other.clean).any()
    assert (made(seed=3, examples=7).clean == one.clean[:7]).all(), "more examples add to the same ones"


def test_corruptions_share_their_clean_prompts() -> None:
    one, other = made(corruption="A"), made(corruption="B")
    assert (one.clean == other.clean).all() and (one.corrupted != other.corrupted).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"distance": 1}, "distance must be at least 2, to leave room for [B] between the two [A], got 1"),
        ({"prefix": -1}, "prefix must be at least 0, got -1"),
        ({"form": "text"}, "expected form pair, repeated, names, got 'text'"),
        (
            {"form": "repeated", "prefix": 0},
            "with form='repeated', prefix must be at least 1: these are the tokens that are repeated before [A]",
        ),
        ({"form": "repeated", "distance": 8}, "with form='repeated', distance must be at least prefix + 2 = 9, got 8"),
        ({"form": "names"}, "form='names' makes English text, and this model has no tokenizer; use form='pair' or 'repeated'"),
        ({"corruption": "C"}, "expected corruption 'B' ([A][B'] ... [A]) or 'A' ([A'][B] ... [A]), got 'C'"),
        ({"distance": 500}, "distance 500 needs 508 different tokens; the model has 80"),
        ({"distance": "8"}, "distance='8': expected int, such as 32"),
        ({"distance": 8.5}, "distance=8.5: expected int, such as 32"),
        ({"distance": True}, "distance=True: expected int, such as 32"),
        ({"corruption": 1}, "corruption=1: expected str, such as 'B'"),
        ({"examples": 0}, "examples must be at least 1, got 0"),
        ({"examples": "all"}, "examples='all': expected int, such as 128"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": None}, "seed=None: expected int, such as 0"),
    ],
)
def test_induction_says_what_it_cannot_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError) as found:
        made(**options)
    assert str(found.value) == message
    with pytest.raises(TaskError):
        ct.task("induction").but(**options).prompts(VOCABULARY)


def test_options_may_be_numpy_numbers() -> None:
    assert made(distance=np.int64(8), prefix=np.int64(1)).length == 10


# --- tasks -----------------------------------------------------------------------------------------------------------------


def test_a_task_shows_its_options() -> None:
    task = ct.task("induction", distance=8, examples=5)
    assert repr(task) == "<task induction: distance=8, corruption='B', prefix=7, form='pair', examples=5, seed=0>"
    assert (
        repr(task.but(seed=2, corruption="A"))
        == "<task induction: distance=8, corruption='A', prefix=7, form='pair', examples=5, seed=2>"
    )
    assert task.but() == task and task.name == "induction"


def test_a_record_is_plain_data_and_its_words_are_the_tasks_own() -> None:
    task = ct.task("induction", distance=np.int64(8), examples=5)
    data = json.loads(json.dumps(task.record))
    assert data == task.record and record.text(data) == repr(task)
    assert (
        record.text(data, without=["distance", "seed"]) == "<task induction: corruption='B', prefix=7, form='pair', examples=5>"
    )


def test_positions_are_values_with_completion() -> None:
    positions = ct.task("induction").positions
    assert dir(positions) == ["A", "B", "END"]
    assert str(positions.B + 1) == "B+1" and str(positions.END - 2) == "END-2"
    with pytest.raises(CircuitryError, match="the task names no position 'C'; known here: A, B, END"):
        positions.C  # noqa: B018


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("inductoin", {}, "no definition 'inductoin' in tasks: did you mean 'induction'?"),
        ("induction", {"distanse": 3}, "task 'induction' has no option 'distanse'; did you mean 'distance'?"),
        ("induction", {"nodes": 3}, "task 'induction' has no option 'nodes'; known here: corruption, distance, form, prefix"),
    ],
)
def test_unknown_names_say_what_is_known(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CircuitryError) as found:
        ct.task(name, **options)
    assert str(found.value) == message


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "copying.py"
    path.write_text(OWN)
    return path


def test_a_task_of_your_own_by_its_path(own: Path) -> None:
    for name in (str(own), own):
        task = ct.task(name, gap=2, examples=4)
        assert isinstance(task, Task) and task.name == "copy" and task.prompts(VOCABULARY).length == 4
    with pytest.raises(CircuitryError, match="task 'copy' has no option 'distance'; known here: gap"):
        ct.task(own, distance=2)


def test_a_task_of_your_own_is_patched_like_any(own: Path) -> None:
    from support import tiny

    table = ct.patch(tiny.model("gpt2", layers=2), ct.task(own, examples=3), "resid[{layer}] @ {pos} -> logits", lint=False)
    assert table.axes == ("layer", "pos") and set(table.frame["pos"]) == {"START"}


def test_a_file_that_was_changed_is_read_again(own: Path) -> None:
    import os

    ct.task(own)
    own.write_text(OWN.replace('"copy"', '"changed"'))
    os.utime(own, (1, 1))
    assert ct.task(own).name == "changed"


def test_a_file_may_define_a_dataclass(own: Path) -> None:
    """Its annotations are not text, as they would be with the future imports of the module that runs it."""
    own.write_text("from dataclasses import dataclass\n@dataclass\nclass Pair:\n    first: int\n" + OWN)
    assert ct.task(str(own)).name == "copy"


def test_an_edit_within_a_second_that_keeps_the_size_is_read(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python keeps bytecode by the second and the size of a file."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    second = 1_700_000_000_000_000_000
    for gap in (3, 4):
        own.write_text(OWN.replace('"gap": 3', f'"gap": {gap}'))
        os.utime(own, ns=(second + gap, second + gap))
        assert ct.task(str(own)).options["gap"] == gap
    assert not (own.parent / "__pycache__").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "FILE defines no TASK; see the files in tasks/ for examples"),
        ("TASK = 3", "expected a TaskDefinition as TASK in FILE, got int"),
        (None, "no file FILE"),
    ],
)
def test_a_file_without_a_task_says_so(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CircuitryError) as found:
        ct.task(str(path))
    assert str(found.value) == message.replace("FILE", str(path))


# --- the linter ------------------------------------------------------------------------------------------------------------

IDS = np.array([[5, 6, 7, 5], [8, 9, 4, 8]])
GOOD = Prompts(
    clean=IDS,
    corrupted=np.array([[5, 3, 7, 5], [8, 2, 4, 8]]),
    answer=np.array([6, 9]),
    foil=np.array([3, 2]),
    where={"A": np.array([0, 0]), "B": np.array([1, 1]), "END": np.array([3, 3])},
    changed=("B",),
)


def swapped(ids: Any, row: int, column: int, token: int) -> Any:
    changed = np.array(ids)
    changed[row, column] = token
    return changed


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "shapes": ({"corrupted": IDS[:, :3]}, "clean prompts have shape (2, 4) and corrupted ones (2, 3); they must be aligned"),
    "no END": (
        {"where": {"B": np.array([1, 1])}},
        "the task has no position END, the token at which the answer is predicted; add it to where",
    ),
    "past": ({"where": {**GOOD.where, "Z": np.array([0, 4])}}, "position Z lies outside the prompts (0 to 3)"),
    "before": ({"where": {**GOOD.where, "Z": np.array([0, -1])}}, "position Z lies outside the prompts (0 to 3)"),
    "same": (
        {"corrupted": swapped(GOOD.corrupted, 1, 1, 9)},
        "example 1: clean and corrupted prompts are the same, so patching one into the other does nothing",
    ),
    "undeclared": (
        {"corrupted": swapped(GOOD.corrupted, 1, 2, 1)},
        "example 1: clean and corrupted differ at token 2, which the task does not declare changed",
    ),
    "answer": (
        {"answer": np.array([6, 1])},
        "example 1: the answer is not in the prompt, so it cannot be copied from there; use copied=False for a task "
        "that does not copy its answer",
    ),
    "foil": ({"foil": np.array([6, 2])}, "example 0: answer and foil are the same token"),
}


def test_good_prompts_pass() -> None:
    lint(GOOD)


@pytest.mark.parametrize("name", REFUSED)
def test_lint_refuses_in_plain_words(name: str) -> None:
    changes, message = REFUSED[name]
    with pytest.raises(TaskError) as found:
        lint(replace(GOOD, **changes))
    assert str(found.value) == message


def test_what_comes_after_the_answer_does_not_count() -> None:
    """Padding on the right may hold anything: no causal model sees it from END."""
    early = {**GOOD.where, "END": np.array([3, 2])}
    lint(replace(GOOD, where=early, corrupted=swapped(GOOD.corrupted, 1, 3, 0)))
    with pytest.raises(TaskError, match="example 1: the answer is not in the prompt"):
        lint(
            replace(
                GOOD,
                where=early,
                answer=np.array([6, 8]),
                clean=swapped(GOOD.clean, 1, 0, 1),
                corrupted=swapped(GOOD.corrupted, 1, 0, 1),
            )
        )


def test_a_task_lints_its_prompts(own: Path) -> None:
    own.write_text(OWN.replace('("START",))\n', "())\n"))
    with pytest.raises(
        TaskError, match="example 0: clean and corrupted differ at token 0, which the task does not declare changed"
    ):
        ct.task(own).prompts(VOCABULARY)


def test_taking_examples_keeps_all_parts_together() -> None:
    for chosen in (slice(1, 2), np.array([1])):
        one = GOOD.take(chosen)
        parts = itertools.chain((one.clean, one.corrupted, one.answer, one.foil), one.where.values())
        assert {len(part) for part in parts} == {1} and one.answer.tolist() == [9] and one.changed == GOOD.changed
