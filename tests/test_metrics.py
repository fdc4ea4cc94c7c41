"""Metrics: by hand, of one's own, on logits and inside the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from circuitry import CircuitryError
from circuitry.executing.metrics import evaluate, metric
from circuitry.running import METRICS
from patching import effects, patched

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]], dtype=torch.float64)

BASE = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]], dtype=torch.float64)

ANSWER, FOIL = torch.tensor([0, 2]), torch.tensor([2, 1])


def chances(logits: list[float]) -> list[float]:
    powers = np.exp(logits)
    return list(powers / powers.sum())


BY_HAND = {
    "logit": [2.0, 3.0],
    "foil_logit": [0.0, 0.0],
    "logit_difference": [2.0, 3.0],
    "probability": [chances([2, 1, 0])[0], chances([0, 0, 3])[2]],
    "log_probability": [np.log(chances([2, 1, 0])[0]), np.log(chances([0, 0, 3])[2])],
    "kl": [sum(p * np.log(p / q) for p, q in zip(chances([0, 1, 2]), chances([2, 1, 0]), strict=True)), 0.0],
}


@pytest.mark.parametrize("name", METRICS)
def test_metric_by_hand(name: str) -> None:
    np.testing.assert_allclose(evaluate(metric(name)[0], LOGITS, BASE, ANSWER, FOIL), BY_HAND[name], atol=1e-12)


floats = st.floats(-30, 30)


@given(st.lists(st.tuples(floats, floats), min_size=2, max_size=8))
def test_kl_is_never_negative_and_zero_from_itself(pairs: list[tuple[float, float]]) -> None:
    logits, base = torch.tensor(pairs, dtype=torch.float64).T[:, None]
    assert METRICS["kl"][0](logits, base, ANSWER, FOIL).item() > -1e-12
    assert METRICS["kl"][0](base + 5, base, ANSWER, FOIL).item() == pytest.approx(0, abs=1e-12)


def entropy(logits: Tensor, answer: Tensor, foil: Tensor) -> Tensor:
    return -(logits.softmax(-1) * logits.log_softmax(-1)).sum(-1)


def test_a_metric_of_your_own() -> None:
    assert patched(metric=entropy).unit == "change of entropy"
    np.testing.assert_allclose(
        effects(patched(metric=lambda logits, answer, foil: logits[torch.arange(len(answer)), answer])),
        effects(patched()),
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (lambda logits, answer, foil: logits, "(5, 61)"),
        (lambda logits, answer, foil: logits.mean(), "()"),
        (lambda *_: 1.0, "float"),
    ],
)
@pytest.mark.parametrize("which", ("nnsight", "reference"))
def test_a_metric_of_the_wrong_shape_is_refused(own: Callable[..., Any], said: str, which: str) -> None:
    with pytest.raises(CircuitryError) as found:
        patched(metric=own, engine=which)
    assert str(found.value) == f"the metric returned {said}; it should return one number a row, shape (5,)"


@pytest.mark.parametrize("name", METRICS)
def test_effects_are_the_metric_patched_less_the_metric_on_the_base_run(name: str) -> None:
    """Patching the whole input: the effect is the other run's metric less the base run's."""
    table = patched("embed -> logits", metric=name)
    np.testing.assert_allclose(table.frame["effect"], table.frame["other"] - table.frame["base"], atol=1e-12)
    assert table.unit == METRICS[name][1] and (table.frame["effect"].abs() > 1e-6).all()


def test_a_path_that_ends_inside_gives_distances() -> None:
    table = patched("embed -> mlp[{layer}] @ END")
    assert table.unit == "L2 distance from the base run" == table.about["unit"]
    assert (table.frame["base"] == 0).all()
    np.testing.assert_allclose(table.frame["effect"], table.frame["other"], atol=1e-12)
    assert table.mean().nunique() == 3, "each layer is read for itself"


def test_an_open_target_has_its_own_base_in_every_cell() -> None:
    table = patched("embed -> logits @ {pos}", axes={"pos": ["B", "B+1", "END"]})
    assert table.frame.groupby("pos")["base"].first().nunique() == 3
    np.testing.assert_allclose(table.share(), 1)
