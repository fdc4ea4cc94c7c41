"""Metrics: by hand, of one's own, on logits and inside the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import circuitry as ct
from circuitry import CircuitryError, PatchingTable
from circuitry.executing.metrics import check_reads, evaluate
from circuitry.patching import METRICS
from circuitry.planning.metrics import metric
from circuitry.results.units import DISTANCE, KL, signed
from support.agreement import model
from support.patching import TASK, effects, patched

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
    np.testing.assert_allclose(evaluate(metric(name), LOGITS, BASE, ANSWER, FOIL), BY_HAND[name], atol=1e-12)


floats = st.floats(-30, 30)


@given(st.lists(st.tuples(floats, floats), min_size=2, max_size=8))
def test_kl_is_never_negative_and_zero_from_itself(pairs: list[tuple[float, float]]) -> None:
    logits, base = torch.tensor(pairs, dtype=torch.float64).T[:, None]
    assert METRICS["kl"].function(logits, base, ANSWER, FOIL).item() > -1e-12
    assert METRICS["kl"].function(base + 5, base, ANSWER, FOIL).item() == pytest.approx(0, abs=1e-12)


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
@pytest.mark.parametrize("which", ("rows", "reference"))
def test_a_metric_of_the_wrong_shape_is_refused(own: Callable[..., Any], said: str, which: str) -> None:
    with pytest.raises(CircuitryError) as found:
        patched(metric=own, executor=which)
    name = own.__name__
    assert str(found.value) == f"the metric {name!r} returned {said}; it should return one number a row, shape (5,)"


@pytest.mark.parametrize("name", METRICS)
def test_effects_are_the_metric_patched_less_the_metric_on_the_base_run(name: str) -> None:
    """Patching the whole input: the effect is the other run's metric less the base run's."""
    table = patched("embed -> logits", metric=name)
    np.testing.assert_allclose(table.frame["effect"], table.frame["source"] - table.frame["base"], atol=1e-12)
    assert table.unit == METRICS[name].unit and (table.frame["effect"].abs() > 1e-6).all()


def test_a_path_that_ends_inside_gives_distances() -> None:
    table = patched("embed -> mlp[{layer}] @ END")
    assert table.unit == "L2 distance from the base run" == table.provenance["unit"]
    assert (table.frame["base"] == 0).all()
    np.testing.assert_allclose(table.frame["effect"], table.frame["source"], atol=1e-12)
    assert table.mean().nunique() == 3, "each layer is read for itself"


def test_an_open_target_has_its_own_base_in_every_cell() -> None:
    table = patched("embed -> logits @ {pos}", axes={"pos": ["B", "B+1", "END"]})
    assert table.frame.groupby("pos")["base"].first().nunique() == 3
    np.testing.assert_allclose(table.normalized(), 1)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_reads_the_tokens_it_says(name: str) -> None:
    """Logits of these tokens alone, answer and foil first, give the same; where it reads all of them, another one matters."""
    one = METRICS[name]
    both = [torch.stack([values.gather(-1, t[:, None])[:, 0] for t in (ANSWER, FOIL)], 1) for values in (LOGITS, BASE)]
    first, second = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    if one.reads == "all":
        others = torch.ones_like(LOGITS).scatter(-1, ANSWER[:, None], 0).scatter(-1, FOIL[:, None], 0)
        assert not torch.allclose(one.function(LOGITS + others, BASE, ANSWER, FOIL), one.function(LOGITS, BASE, ANSWER, FOIL))
        return
    columns = 1 if one.reads == "answer" else 2
    found = one.function(both[0][:, :columns], both[1][:, :columns], first, second)
    assert torch.equal(found, one.function(LOGITS, BASE, ANSWER, FOIL))


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda logits, base, answer, foil: logits[:, 9], "for [2, 2] it fails: index 9 is out of bounds"),
        (
            lambda logits, base, answer, foil: logits.gather(1, 9 + answer[:, None])[:, 0],
            "for [2, 2] it fails: index 9 is out of bounds",
        ),
        (
            lambda logits, base, answer, foil: next(a for a, b in [logits.unbind(1)]),
            "for [2, 7] it fails: too many values to unpack",
        ),
        (lambda logits, base, answer, foil: logits.softmax(-1).amax(-1), "it returns other numbers."),
        (lambda logits, base, answer, foil: logits[:, 0], "it returns other numbers."),
        (lambda logits, base, answer, foil: (logits - base).norm(dim=-1), "it returns other numbers."),
    ],
)
@pytest.mark.parametrize("reads", ["answer", "answer and foil"])
@pytest.mark.parametrize("asked", [ct.patch, ct.explain])
def test_a_metric_that_reads_more_than_it_says_is_refused(function: Any, what: str, reads: Any, asked: Any) -> None:
    """Before anything runs, and by name; without ``reads`` it is taken."""
    known: dict[str, Any] = {"path": "mlp[0] @ B -> logits", "lint": False}
    with pytest.raises(CircuitryError) as found:
        asked(model("gpt2"), TASK, **known, metric=ct.Metric("mine", function, reads=reads))
    said = str(found.value)
    assert said.startswith(f"metric 'mine' says reads={reads!r}, so it must return the same for all logits") and what in said
    assert said.endswith("Leave reads out, and it always gets all logits")
    if "unpack" not in what:
        asked(model("gpt2"), TASK, **known, metric=ct.Metric("mine", function))


@pytest.mark.parametrize("name", METRICS)
def test_no_metric_of_ours_reads_more_than_it_says(name: str) -> None:
    check_reads(METRICS[name])


def test_a_table_knows_which_of_its_metrics_are_never_negative(tmp_path: Path) -> None:
    distance = ct.Metric("moved", lambda logits, base, answer, foil: (logits - base).norm(dim=-1), signed=False, needs_gap=False)
    one, both = patched(metric=distance), patched(metric=["logit", distance])
    one.to_json(tmp_path / "one.json")
    assert one.unit == "change of moved" and one.provenance["never_negative"] == ["change of moved"]
    assert not PatchingTable.from_json(tmp_path / "one.json").signed().any()
    assert both.select("metric", "logit").signed().all() and not both.select("metric", "moved").signed().any()
    assert patched(metric=ct.Metric("moved", distance.function)).signed().all(), "it is tested unless it says otherwise"


def test_units_of_old_tables_are_those_of_the_metrics_that_are_never_negative() -> None:
    assert {KL} == {one.unit for one in METRICS.values() if not one.signed} and not signed(KL) and not signed(DISTANCE)
    assert all(signed(one.unit) == one.signed for one in METRICS.values())
    assert not patched("embed -> mlp[{layer}] @ END").signed().any()
