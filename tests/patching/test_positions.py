"""Positions in prompts of mixed lengths: padding is refused, every example counted has an effect, and tokens after END are real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry import PathError, TaskError
from circuitry.executing.activations import read
from circuitry.prompting import Prompts
from circuitry.prompting.prompts import lint
from support.agreement import model
from support.patching import patched

RAGGED = ct.task("ioi", examples=8, order="ABBA")
MIXED = ct.task("ioi", examples=8, order="both")
MIXED_PROMPTS = MIXED.prompts(model("gpt2").vocabulary)
PROMPTS = RAGGED.prompts(model("gpt2").vocabulary)
LATE = int((PROMPTS.where["S2"] + 6 > PROMPTS.where["END"]).sum())


def said(path: str, task: ct.Task = RAGGED, **options: Any) -> str:
    with pytest.raises(PathError) as found:
        patched(path, task=task, **options)
    return found.value.problem


def test_some_prompts_are_too_short_and_some_are_not() -> None:
    assert 0 < LATE < 8


@pytest.mark.parametrize(
    "path",
    (
        "resid[2] @ S2+6 -> logits",
        "(mlp[0] @ S1, mlp[0] @ S2+6) -> logits",
        "embed -> logits @ S2+6",
        "embed -> mlp[1] @ S2+6",
        "embed -> (mlp[1] @ S2, logits @ S2+6)",
        "embed -> head[1,0].k @ S2+6 -> logits",
    ),
)
@pytest.mark.parametrize("options", ({}, {"intervention": "mean"}, {"executor": "reference"}), ids=("patch", "mean", "reference"))
def test_a_position_in_the_padding_is_refused_with_the_number_of_examples(path: str, options: dict[str, Any]) -> None:
    assert said(path, **options) == (
        f"S2+6 lies after the end of the prompt in {LATE} of 8 examples, where there is only padding"
    )


def test_so_is_an_absolute_one() -> None:
    last = int(PROMPTS.where["END"].max())
    late = int((PROMPTS.where["END"] < last).sum())
    wanted = f"{last} lies after the end of the prompt in {late} of 8 examples, where there is only padding"
    assert said(f"mlp[0] @ {last} -> logits") == wanted
    assert said(f"mlp[0] @ {PROMPTS.length} -> logits").startswith(
        f"{PROMPTS.length} lies after the end of the prompt in every example"
    )


def test_in_a_sweep_it_is_left_out_and_listed() -> None:
    table = patched("mlp[0] @ {position} -> logits", task=RAGGED, axes={"position": ["S1", "S2+6", "S2"]}, baseline=0)
    assert list(table.mean().index) == ["S1", "S2"] and table.caption().startswith("mean change of the answer's logit ± standard")
    (skipped,) = table.provenance["skipped"]
    assert skipped == (
        f"{{'position': 'S2+6'}}: S2+6 lies after the end of the prompt in {LATE} of 8 examples, where there is only padding"
    )
    assert "(1 cell is left out; the first: S2+6 lies after" in table.provenance["plan"]


def test_an_effect_in_some_examples_only_is_refused() -> None:
    """Half of the sentences name IO first, half S: in the others nothing flows back in the text."""
    assert said("mlp[0] @ IO -> resid[3] @ S1", MIXED) == (
        "nothing flows from mlp[0] @ IO to resid[3] @ S1 in 4 of 8 examples: the effect there would be exactly zero"
    )
    before, after = (int((MIXED_PROMPTS.where["IO"] + k > MIXED_PROMPTS.where["S1"]).sum()) for k in (0, 1))
    assert before == after == 4
    assert said("(mlp[0] @ IO, head[0,0] @ S2) -> (resid[3] @ S1, logits)", MIXED) == (
        "nothing flows from mlp[0] @ IO, head[0,0] @ S2 to resid[3] @ S1 in 4 of 8 examples: the effect there would be exactly zero"
    )
    effects = patched("(mlp[0] @ IO, head[0,0] @ IO) -> (resid[3], logits)", task=MIXED).frame["effect"]
    assert (effects > 1e-6).all(), "what is not refused has an effect in every example"


def test_the_detector_and_random_nodes_stay_inside() -> None:
    table = patched("mlp[0] @ S1 -> logits", task=RAGGED, baseline=40)
    assert table.random is not None and table.random["draw"].nunique() == 40
    with pytest.raises(TaskError, match=r"S2\+4 does not lie before END in every example"):
        ct.off_by_one(model("gpt2"), RAGGED.but(corruption="S2"), "S2", reach=4)


# --- lengths ---------------------------------------------------------------------------------------------------------------

AFTER = """
import numpy as np
from circuitry.prompting import Prompts, TaskDefinition

def make(vocabulary, rng, *, examples, lengths, shift):
    clean = rng.choice(vocabulary.ordinary, (examples, 9))
    corrupted = clean.copy()
    corrupted[:, 1] = (clean[:, 1] + 1) % 60
    end = 4 + shift * (np.arange(examples) % 2)
    given = np.array([8, 9] * examples)[:examples] if lengths else None
    where = {"START": np.ones(examples, int), "END": end}
    return Prompts(clean, corrupted, clean[:, 1], corrupted[:, 1], where, ("START",), given)

TASK = TaskDefinition("after", "text goes on after END", make, ("START", "END"), ("START",), {"lengths": False, "shift": 0})
"""


@pytest.fixture
def after(tmp_path: Path) -> str:
    path = tmp_path / "after.py"
    path.write_text(AFTER)
    return str(path)


def distance(task: ct.Task) -> Any:
    """Of mlp[1] at every token of each prompt, by hand."""
    ours = model("gpt2")
    prompts = task.prompts(ours.vocabulary)
    clean, corrupted = (read(ours, ["mlp[1]"], ids) for ids in (prompts.clean, prompts.corrupted))
    ((node, one),) = clean.items()
    squared = (corrupted[node] - one).pow(2).sum(-1).numpy()
    return np.array([np.sqrt(row[:stop].sum()) for row, stop in zip(squared, prompts.stops, strict=True)])


@pytest.mark.parametrize(
    ("options", "stops"),
    [({}, [9] * 4), ({"shift": 1}, [5, 6] * 2), ({"shift": 1, "lengths": True}, [8, 9] * 2), ({"lengths": True}, [8, 9] * 2)],
)
def test_what_follows_end_is_real_unless_it_is_padding(after: str, options: dict[str, Any], stops: list[int]) -> None:
    """Prompts that differ in END and say no lengths stop there; with END in common, or with lengths, the text goes on."""
    task = ct.task(after, examples=4, **options)
    prompts = task.prompts(model("gpt2").vocabulary)
    assert prompts.stops.tolist() == stops == prompts.take(slice(4)).stops.tolist()
    assert prompts.take(slice(0, 1)).stops.tolist() == stops[:1], "some of the examples keep their lengths"
    for engine in ("rows", "reference"):
        np.testing.assert_allclose(patched("embed -> mlp[1]", task=task, executor=engine).values()[0], distance(task), rtol=1e-9)
    if min(stops) > 7:
        table = patched("embed -> logits @ END+2", task=task, executor=ct.executor(verify=1))
        assert (table.frame["effect"].abs() > 1e-6).all()
    else:
        assert said("embed -> logits @ END+2", task).startswith("END+2 lies after the end of the prompt in every example")


def test_a_mean_is_over_real_tokens(after: str) -> None:
    task = ct.task(after, examples=4, lengths=True)
    ours = model("gpt2")
    prompts = task.prompts(ours.vocabulary)
    ((_, values),) = read(ours, ["mlp[0]"], prompts.corrupted).items()
    mean = torch.stack([values[[k for k in range(4) if at < prompts.stops[k]], at].mean(0) for at in range(9)])
    one, other = (
        patched("mlp[0] -> logits @ END+2", task=task, **how)
        for how in ({"intervention": "mean"}, {"intervention": ct.given(mean)})
    )
    np.testing.assert_allclose(one.frame["effect"], other.frame["effect"], atol=1e-10)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (np.array([4, 3]), "example 1 has length 3; it must include END, which is token 3, and fit its row of 4"),
        (np.array([5, 4]), "example 0 has length 5; it must include END, which is token 3, and fit its row of 4"),
        (np.array([4]), "lengths have shape (1,); expected one number for each example, (2,)"),
    ],
)
def test_lengths_that_cannot_be_are_refused(lengths: Any, message: str) -> None:
    ids = np.array([[5, 6, 7, 5], [8, 9, 4, 8]])
    other = ids + np.array([0, 20, 0, 0])
    good = Prompts(ids, other, ids[:, 1], other[:, 1], {"B": np.array([1, 1]), "END": np.array([3, 3])}, ("B",))
    lint(replace(good, lengths=np.array([4, 4])))
    with pytest.raises(TaskError) as found:
        lint(replace(good, lengths=lengths))
    assert str(found.value) == message
