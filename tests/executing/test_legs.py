"""Several legs: what the middle of a path can have become decides what its end can see. Checked against plain hooks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry import PathError
from support import tiny
from support.patching import patched

MIXED = ct.task("ioi", examples=8, order="both")


NOTHING = (
    "embed @ B -> mlp[0] -> logits @ B-1",
    "embed -> mlp[0] -> logits @ A",
    "embed @ B -> (mlp[0], mlp[1]) -> logits @ A",
    "mlp[0] @ B -> resid[1] -> mlp[1] @ A",
)


@pytest.mark.parametrize("path", NOTHING)
def test_a_middle_at_every_position_has_moved_only_after_the_change(path: str) -> None:
    """B is the changed token: whatever stands before it is what it was, however many legs lead there."""
    with pytest.raises(PathError):
        patched(path)


@pytest.mark.parametrize(
    "path", ("embed @ B -> mlp[0] -> logits", "embed -> mlp[0] -> logits @ B", "embed @ B -> resid[1] -> mlp[1] @ B+1")
)
@pytest.mark.parametrize("options", ({}, {"intervention": "zero"}, {"direction": "denoising"}), ids=str)
def test_what_it_can_reach_is_accepted_and_has_an_effect(path: str, options: Any) -> None:
    assert (patched(path, **options).values() != 0).all()


def test_a_window_is_composed_over_legs() -> None:
    """A layer with a window of two brings a token one position on, so a second leg from there brings it two at most."""
    task, model = ct.task("induction", distance=8, examples=2), tiny.model("mistral", layers=2, sliding_window=2)
    with pytest.raises(PathError):
        ct.patch(model, task, "embed @ B -> head[1,0] -> logits @ END", lint=False)
    found = ct.patch(model, task, "embed @ B -> head[1,0] -> logits @ B+2", lint=False)
    assert (found.values() != 0).all()


@pytest.mark.parametrize(
    "path", ("embed -> head[1] @ END", "embed -> (head[1].q @ B+1, mlp[1] @ END)", "embed -> (logits @ END, head[1].k @ END)")
)
@pytest.mark.parametrize("kind", ("gpt2", "llama"))
def test_the_reference_measures_a_whole_layer_that_is_read(kind: str, path: str) -> None:
    table = patched(path, kind, executor=ct.executor(verify=1))
    assert table.provenance["verified"].startswith("1 of 1 cells agree") and (table.values() > 0).all()


def test_random_nodes_have_an_effect_in_every_example() -> None:
    table = ct.patch(tiny.model("gpt2", layers=2), MIXED, "embed @ S2 -> logits", lint=False)
    assert table.random is not None and (table.random["effect"].abs() > 1e-12).all()


def test_sites_of_a_middle_set_may_meet_since_no_distance_is_measured_there() -> None:
    both = ct.task("ioi", examples=4, order="both")
    with pytest.raises(PathError, match="which a distance would count twice"):
        patched("embed -> (resid[2] @ IO+2, resid[2] @ S1)", task=both)
    with pytest.raises(PathError) as found:
        patched("embed -> (resid[2] @ IO+2, resid[2] @ S1) -> logits @ IO", task=both)
    assert "count twice" not in found.value.problem


def test_a_number_is_given_in_the_models_own_precision() -> None:
    one, other = (patched("mlp[0] @ B -> logits", intervention=ct.given(value)).values() for value in (0.7, np.float64(0.7)))
    whole = patched("mlp[0] @ B -> logits", intervention=ct.given(np.full(16, 0.7))).values()
    assert np.array_equal(one, whole) and np.array_equal(other, whole)


@pytest.mark.parametrize("value", [float("nan"), np.where(np.arange(16) == 3, np.inf, 0.7)], ids=["a number", "one of a tensor"])
def test_a_value_that_is_not_finite_is_refused(value: Any) -> None:
    with pytest.raises(ct.CircuitryError, match="not finite"):
        patched("mlp[0] @ B -> logits", intervention=ct.given(value))


def test_a_source_that_is_the_same_in_some_examples_is_refused_with_their_number() -> None:
    """Which name comes first takes turns, so with S1 exchanged IO is before the change in half of the examples."""
    task = MIXED.but(corruption="S1")
    with pytest.raises(PathError, match=r"reaches mlp\[0\] @ IO in 4 of 8 examples: the effect there would be exactly zero"):
        patched("mlp[0] @ IO -> logits", task=task)
    assert (patched("(mlp[0] @ IO, mlp[0] @ S1) -> logits", task=task).values() != 0).all()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"intervention": ct.given(0.3)}, "attend to later tokens"),
        ({"intervention": ct.given(torch.tensor(0.3))}, "attend to later tokens"),
        ({"intervention": "mean"}, "later tokens or padding"),
    ],
    ids=str,
)
def test_a_pattern_that_would_attend_to_later_tokens_or_padding_is_refused(options: Any, why: str) -> None:
    with pytest.raises(ct.CircuitryError, match=why):
        patched("head[1,0].pattern @ END -> logits", task=MIXED, **options)


@pytest.mark.parametrize("options", ({}, {"intervention": "zero"}, {"intervention": "mean"}), ids=str)
@pytest.mark.parametrize("path", ("embed @ 3 -> mlp[0] -> logits", "embed @ 3 -> resid[1] -> mlp[1] @ 5"))
def test_a_position_that_is_a_number_is_one_for_all_examples(path: str, options: Any) -> None:
    assert (patched(path, **options).values() != 0).all()
