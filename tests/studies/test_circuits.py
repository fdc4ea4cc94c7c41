"""Circuits of several models aligned: strengths, depths and agreement are what the tables say, and laws hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from typer.testing import CliRunner

import circuitry as ct
from circuitry.cli import app
from circuitry.results import PatchingTable
from circuitry.results.statistics import Array, mean_interval
from circuitry.studies import circuits
from circuitry.studies.circuits.alignment import PlacedComponent, depths, measured, overlap, placed, strengths
from circuitry.suites.result import Component, SuiteResult, Summary
from circuitry.universality import Circuits
from support.no_pictures import no_pictures

EXAMPLES = 12
STRENGTHS = arrays.arrays(float, (3, 4), elements=st.floats(0, 1))


def result(model: str, *found: tuple[str, str, float], layers: int = 4, examples: int = EXAMPLES) -> SuiteResult:
    """A suite's result with these components (node, role, share of the effect), all in one table."""
    noise = np.linspace(-0.1, 0.1, examples)
    effects = np.array([[-share * (1 + n) for n in noise] for _, _, share in found]).reshape(len(found), examples)
    cells = [{"node": node} for node, _, _ in found]
    tables = {"t": PatchingTable.of(cells, effects, np.full(examples, 3.0), np.full(examples, 2.0), "logit")} if found else {}
    named = [Component(node, role, share, "B", "t", (node,)) for node, role, share in found]
    return SuiteResult(tables, None, Summary(model, "mamba", named, 0.9, {}), record={"layers": layers})


HEADS = result(
    "heads", ("head[1,0]", "induction head", 0.4), ("head[1,1]", "induction head", 0.2), ("head[0,2]", "writes the k ([A'])", 0.9)
)
STATES = result(
    "states",
    ("h[3]", "state", 0.6),
    ("conv_tap[3,1]", "writes the state ([A'])", 0.9),
    ("conv_tap[3,0]", "writes the state ([B'])", 0.5),
)


def test_steps_add_up_the_shares_of_their_nodes() -> None:
    found = circuits([HEADS, STATES])
    table = found.by_step.set_index(["step", "model"])
    keeps = "keeps it and hands it to the answer"
    assert table["strength"][keeps, "heads"] == pytest.approx(0.6)
    assert table["depth"][keeps, "heads"] == pytest.approx(1.5 / 4)
    assert table["depth"][keeps, "states"] == pytest.approx(3.5 / 4)
    assert table["low"][keeps, "heads"] <= 0.6 <= table["high"][keeps, "heads"]


def test_a_step_without_a_counterpart_is_unmatched() -> None:
    found = circuits([HEADS, STATES])
    brings_b = "brings earlier tokens together and writes them: B"
    assert found.matched()[brings_b] == ["states"]
    table = found.by_step.set_index(["step", "model"])
    assert table["nodes"][brings_b, "heads"] == 0 and np.isnan(table["strength"][brings_b, "heads"])
    assert "none found" in found.text()


def test_too_few_examples_are_said_to_be(tmp_path: Path) -> None:
    roles = [(f"h[{n}]", "state", 0.2) for n in range(4)]
    few, enough = (circuits([result(name, *roles, examples=n) for name in "ab"]) for n in (5, 12))
    assert few.text().endswith("note: " + few.doubt) and "5 examples are few for tables of up to 4 cells" in few.doubt
    least = int(few.doubt.split()[-3])
    assert circuits([result(name, *roles, examples=least) for name in "ab"]).doubt == "" == enough.doubt
    assert circuits([result(name, *roles, examples=least - 1) for name in "ab"]).doubt
    assert few.doubt in (few.save(tmp_path) / "circuits.html").read_text()


def test_agreement_by_hand() -> None:
    """By step .6, .9 and 0 against .6, .9 and .5; by depth nothing is in the same third but nothing at all."""
    (row,) = circuits([HEADS, STATES]).agreement.to_dict("records")
    assert row["by step"] == pytest.approx((0.6 + 0.9) / (0.6 + 0.9 + 0.5))
    assert row["by step and depth"] == 0
    assert row["low"] <= row["by step"] <= row["high"]


def test_a_circuit_is_itself() -> None:
    (row,) = circuits([HEADS, HEADS]).agreement.to_dict("records")
    assert (row["first"], row["second"]) == ("heads", "heads #2")
    assert [row[name] for name in ("by step", "low", "high", "by step and depth")] == [1, 1, 1, 1]


def test_shares_above_the_whole_count_as_the_whole() -> None:
    many = result("m", ("h[0]", "state", 0.8), ("h[3]", "state", 0.8))
    weights = np.full((1, EXAMPLES), 1 / EXAMPLES)
    step = "keeps it and hands it to the answer"
    assert strengths(placed("m", many), [step])(weights).tolist() == [[1.0]]
    assert strengths(placed("m", many), [step], by_depth=True)(weights)[0] == pytest.approx([0.5, 0, 0.5])


@pytest.mark.parametrize("by_depth", [False, True])
def test_a_strength_at_its_bound_is_the_bound_to_the_bit(by_depth: bool) -> None:
    """A last bit that differs between resamples would be taken for skewness, and move the interval."""
    rng = np.random.default_rng(0)
    effects = rng.uniform(0.5, 0.9, (3, EXAMPLES))
    found = [
        PlacedComponent("m", "s", "r", f"h[{n}]", "B", 0, 0.1, effect, np.ones(EXAMPLES)) for n, effect in enumerate(effects)
    ]
    strength = strengths(found, ["s"], by_depth)
    assert (strength(rng.dirichlet(np.ones(EXAMPLES), 500))[:, 0] == 1).all()
    assert [ends.tolist()[0] for ends in measured(strength, EXAMPLES)] == [1, 1, 1]


def test_what_works_against_the_effect_has_no_strength() -> None:
    found = placed("m", result("m", ("h[0]", "state", 0.8), ("h[3]", "state", -0.4)))
    weights = np.full((1, EXAMPLES), 1 / EXAMPLES)
    assert strengths(found, [found[0].step])(weights)[0] == pytest.approx([0.8])
    assert depths(found, [found[0].step])(weights)[0] == pytest.approx([0.125])


def test_a_node_that_does_a_step_twice_counts_once() -> None:
    twice = result("m", ("head[0,0]", "writes the k ([A'])", 0.3), ("head[1,0]", "writes the q ([A'])", 0.5))
    twice.summary.components[1].node = "head[0,0]"
    (one,) = placed("m", twice)
    assert one.role == "writes the q ([A'])"


@given(STRENGTHS, STRENGTHS)
def test_overlap_is_symmetric_and_between_none_and_all(first: Array, second: Array) -> None:
    one, other = overlap(first, second), overlap(second, first)
    known = np.maximum(first, second).sum(1) > 0
    assert (one[known] == other[known]).all() and ((one[known] >= 0) & (one[known] <= 1)).all()
    assert (overlap(first, first)[first.sum(1) > 0] == 1).all()


@given(
    st.lists(st.tuples(st.integers(0, 8), st.floats(0.01, 1)), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 8), st.floats(0.01, 1)), min_size=1, max_size=5),
)
def test_depth_can_only_lower_agreement(first: list[tuple[int, float]], second: list[tuple[int, float]]) -> None:
    one, other = (
        result(name, *((f"h[{layer},{n}]", "state", share) for n, (layer, share) in enumerate(nodes)), layers=9)
        for name, nodes in (("a", first), ("b", second))
    )
    (row,) = circuits([one, other]).agreement.to_dict("records")
    assert row["by step and depth"] <= row["by step"] + 1e-9


def test_the_interval_of_a_mean_is_that_of_the_tables() -> None:
    values = np.random.default_rng(0).gamma(2, size=(2, 20))
    value, low, high = measured(lambda weights: weights @ values.T, 20)
    wanted = mean_interval(values)
    assert value == pytest.approx(values.mean(1))
    assert low == pytest.approx(wanted[0]) and high == pytest.approx(wanted[1])


def test_one_example_has_no_interval() -> None:
    (row,) = circuits([result("a", ("h[0]", "state", 0.5), examples=1)] * 2).agreement.to_dict("records")
    assert row["by step"] == 1 and np.isnan(row["low"])


def test_models_without_any_circuit_can_be_asked() -> None:
    found = circuits([result("none"), result("none either")])
    assert found.steps == [] and np.isnan(found.agreement["by step"][0]) and found.frame.empty
    found.plot()


def test_models_without_a_circuit_have_nothing_in_common() -> None:
    found = circuits([HEADS, result("none")])
    (row,) = found.agreement.to_dict("records")
    assert row["by step"] == 0
    assert found.by_step.query("model == 'none'")["nodes"].sum() == 0


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([HEADS], "expected at least two models to compare, got 1"),
        ([HEADS, result("b", ("h[0]", "state", 0.5), examples=5)], "the same number of examples"),
    ],
)
def test_what_cannot_be_compared_says_why(models: list[SuiteResult], message: str) -> None:
    with pytest.raises(ct.CircuitryError, match=message):
        circuits(models).agreement  # noqa: B018


def test_a_component_from_nowhere_is_refused() -> None:
    stray = result("m", ("h[0]", "state", 0.5))
    stray.summary.components[0].table = "gone"
    with pytest.raises(ct.CircuitryError, match="does not name its table"):
        placed("m", stray)


@pytest.mark.parametrize("node", ["logits", "embed", "head[{layer},0]"])
def test_a_component_of_no_layer_has_no_depth(node: str) -> None:
    with pytest.raises(ct.CircuitryError, match=rf"^{re.escape(node)} is in no layer, so it has no depth$"):
        _ = Component(node, "state", 0.5, "B").layer


def test_everything_is_written(tmp_path: Path) -> None:
    folder = circuits([HEADS, STATES]).save(tmp_path / "out")
    names = {path.name for path in folder.iterdir()}
    assert names == {f"{n}.{s}" for n in ("components", "steps", "agreement") for s in ("csv", "md")} | {
        f"circuits.{s}" for s in ("png", "svg", "json", "html")
    }
    page = (folder / "circuits.html").read_text()
    assert "heads" in page and "none found" in page and "http://" not in page.replace("http://www.w3.org", "")
    assert json.loads((folder / "circuits.json").read_text())["agreement"][0]["by step"] == pytest.approx(0.75)


def test_the_command_runs_the_suite_on_every_model(tmp_path: Path) -> None:
    args = ["circuits", "induction", "bundled:gpt_neox", "bundled:mamba", "--examples", "12", "--out", str(tmp_path)]
    with no_pictures():
        done = CliRunner().invoke(app, [*args, "-o", "distances=8", "-o", "distance=8"])
    assert done.exit_code == 0, done.output
    assert "keeps it and hands it to the answer (2 of 2 models)" in done.output
    page = (tmp_path / "circuits-induction" / "circuits.html").read_text()
    for folder in ("induction-gpt_neox", "induction-mamba"):
        assert (tmp_path / folder / "report.html").exists() and f'href="../{folder}/report.html"' in page


def test_parts_say_their_measurements() -> None:
    component: PlacedComponent = placed("states", STATES)[0]
    assert component.effect.mean() / component.whole.mean() == pytest.approx(0.6)
    assert isinstance(ct.universality.circuits([HEADS, STATES]), Circuits)
