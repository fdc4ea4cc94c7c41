"""Attributions and runs of circuits are those of EAP-IG and MIB's circuit track, whose values are stored in ``data``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry.discovery.curve import first, measured, ordered
from circuitry.discovery.eap_ig_names import edge_names
from circuitry.discovery.methods.eap import Eap
from circuitry.discovery.methods.eap_ig_inputs import EapIgInputs
from circuitry.discovery.mib import SIZES, areas
from circuitry.discovery.question import Question
from circuitry.discovery.rows import Point
from circuitry.discovery.search import asked
from support import parity

PROMPTS = 8
THEIR_STEPS = tuple(Point(1 - k / 5, 1 / 5) for k in range(5))
"""EAP-IG takes the corrupted end and leaves out the clean one."""


@dataclass(frozen=True)
class Case:
    question: Question
    stored: dict[str, Any]
    place: list[int]
    """The number in ``question.items`` of each of the stored edges."""


@pytest.fixture(scope="module", params=parity.KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    model = ct.load(parity.stock(request.param), dtype="float64")
    question = asked(model, parity.task(request.param), positions=False)
    names = edge_names(model.graph)
    stored = parity.stored(request.param)
    return Case(question, stored, [question.wiring.number[names[name]] for name in stored["edges"]])


def test_the_edges_are_the_same(case: Case) -> None:
    assert sorted(case.place) == list(range(len(case.question.items)))


@pytest.mark.parametrize(("method", "name"), [(Eap(), "EAP"), (EapIgInputs(points=THEIR_STEPS), "EAP-IG-inputs")])
def test_attributions_are_theirs(case: Case, method: Any, name: str) -> None:
    ours = method.scores(case.question).mean(0)[case.place, 0]
    # They attribute the negative mean and divide by the number of prompts once more.
    theirs = -PROMPTS * np.array(case.stored["scores"][f"{name} patching logit_difference"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_exact_effects_are_theirs(case: Case) -> None:
    if "exact patching logit_difference" not in case.stored["scores"]:
        pytest.skip("not stored for this model")
    edges = np.arange(len(case.question.items))
    kept = [(edges != edge)[:, None] for edge in case.place]
    got = measured(case.question, kept)
    ours = (got.values - got.clean).mean(1)
    theirs = -np.array(case.stored["scores"]["exact patching logit_difference"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def _scores(case: Case) -> np.ndarray[Any, Any]:
    """The scores that their circuits were chosen by, in our order and for a mean over prompts of the difference."""
    theirs = np.zeros((len(case.question.items), 1))
    theirs[case.place, 0] = case.stored["scores"][case.stored["ranking"]]
    return theirs


def test_runs_of_circuits_are_theirs(case: Case) -> None:
    """Pruned or not, since an edge that leads nowhere changes nothing if all else is corrupted."""
    circuits = [c for c in case.stored["circuits"] if c["select"] == "topn"]
    scores = _scores(case)
    masks = [first(ordered(scores, c["absolute"]), c["size"], scores.shape) for c in circuits]
    got = measured(case.question, masks)
    for circuit, values in zip(circuits, got.values, strict=True):
        np.testing.assert_allclose(values, circuit["values"]["patching"]["logit_difference"], rtol=1e-5, atol=1e-5)
    assert len(circuits) > 10 and {c["absolute"] for c in circuits} == {True, False}


def test_areas_are_theirs(case: Case) -> None:
    chosen = [a for a in case.stored["areas"] if a["select"] == "topn" and a["intervention"] == "patching"]
    assert {(a["absolute"], a["scale"]) for a in chosen} == {(x, y) for x in (True, False) for y in ("linear", "log")}
    scores = _scores(case)
    for area in chosen:
        counts = [int(size * scores.size) for size in SIZES]
        got = measured(case.question, [first(ordered(scores, area["absolute"]), count, scores.shape) for count in counts])
        faithfulness = got.faithfulness()
        np.testing.assert_allclose(faithfulness, area["faithfulness"], atol=1e-5)
        np.testing.assert_allclose(areas(SIZES, faithfulness, area["scale"]), (area["cpr"], area["cmd"]), atol=1e-5)


def test_float64_is_kept(case: Case) -> None:
    assert case.question.model.dtype == torch.float64
