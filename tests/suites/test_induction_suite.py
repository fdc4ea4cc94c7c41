"""The induction suite finds the circuit a model has, and none where there is none."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

import circuitry as ct
from circuitry.suites import Receivers, Study, SuiteResult, reads, senders, strong_senders
from circuitry.suites.induction_heads import baselines
from circuitry.suites.induction_states import _ports
from support import known, tiny
from support.chance import by_chance, nothing_is_named
from support.suite_runs import random_model, result, shares

TABLES = {
    "gpt_neox": {
        "heads_to_logits": ("distance", "layer", "head"),
        "reads_v": ("head", "position"),
        "reads_k": ("head", "position"),
        "senders_k": ("layer", "head", "position"),
        "senders_q": ("layer", "head", "position"),
        "senders_v": ("layer", "head", "position"),
        "senders_read": ("head", "position"),
    },
    "mamba": {
        "state_by_position": ("distance", "layer", "position"),
        "table1_state_at_B+1": ("distance", "layer"),
        "table2_write_input": ("distance", "layer", "position"),
        "table3_conv_input_B": ("distance", "layer", "position"),
        "table4_conv_input_A": ("distance", "layer", "position"),
        "conv_edges": ("corruption", "layer", "lag", "position"),
        "write_ports": ("reader",),
    },
}


def layers(found: SuiteResult, role: str) -> list[int]:
    return [c.layer for c in found.summary.components if c.role == role]


# --- the bundled models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_its_axes_and_a_title(name: str) -> None:
    assert {k: t.axes for k, t in result(name).tables.items()} == TABLES[name]
    assert all(t.provenance["title"] for t in result(name).tables.values())


@pytest.mark.parametrize("name", TABLES)
def test_a_distance_asked_for_is_measured_beside_the_others(name: str) -> None:
    first = next(iter(result(name).tables.values()))
    assert sorted(set(first.frame["distance"])) == [8, 10]
    assert {"top-1 accuracy, distance 8", "top-1 accuracy, distance 10"} <= set(result(name).summary.baseline)


@pytest.mark.parametrize("name", TABLES)
def test_what_is_named_explains_the_behaviour(name: str) -> None:
    summary = result(name).summary
    assert summary.explained > 0.6
    assert summary.baseline["top-1 accuracy, distance 10"] > 0.9
    assert summary.offsets is not None and sum(summary.offsets.values()) == pytest.approx(1, abs=1e-4)


def test_the_transformer_has_induction_heads_after_the_heads_that_write_their_keys() -> None:
    found = result("gpt_neox")
    assert {"induction head", "writes the k ([A'])"} <= {c.role for c in found.summary.components}
    assert max(layers(found, "writes the k ([A'])")) < max(layers(found, "induction head"))


def test_the_heads_that_write_the_keys_read_a() -> None:
    read = result("gpt_neox").tables["senders_read"].normalized()
    assert (read.groupby("head").idxmax().map(lambda cell: cell[1]) == "A").all()


def test_the_summary_says_of_what_each_share_is() -> None:
    """A head that writes a key is measured under [A'], the induction heads beside it under [B']."""
    found = result("gpt_neox")
    first = next(c for c in found.summary.components if c.role == "writes the k ([A'])")
    layer, head = (int(n) for n in first.node.removeprefix("head[").rstrip("]").split(","))
    assert first.normalized == found.tables["senders_k"].normalized()[layer, head, first.position]
    assert found.tables["senders_k"].provenance["task"]["options"]["corruption"] == "A"
    assert any(
        "normalized by that of the corruption [B']" in note and "the token it writes to" in note for note in found.summary.notes
    )


def test_induction_heads_take_the_token_up_where_it_stands() -> None:
    summary = result("gpt_neox").summary
    assert {c.position for c in summary.components if c.role == "induction head"} == {"B"}
    assert summary.offset == "B" and "on the token: B" in summary.verdict


def test_two_states_carry_it_in_mamba_and_each_is_written_at_a_place_of_its_own() -> None:
    summary = result("mamba").summary
    named = [(c.node, c.role, c.position) for c in summary.components]
    assert [one for one in named if one[1] == "state"] == [("ssm_state[3]", "state", "B+2"), ("ssm_state[2]", "state", "B+1")]
    assert ("conv_tap[3,2]", "writes the state ([B'])", "B+2") in named
    assert summary.offset == "B+2" and "several" in summary.verdict


def test_the_convolution_brings_a_and_b_to_the_write_position() -> None:
    """Tables 3 and 4: [B'] acts only at B and [A'] only at A, whatever position the layer writes at."""
    found = result("mamba")
    layer = layers(found, "state")[0]
    from_b, from_a = (found.tables[f"table{n}_conv_input_{c}"].normalized()[10, layer] for n, c in ((3, "B"), (4, "A")))
    assert from_b.idxmax() == "B" and from_a.idxmax() == "A"


def test_the_tap_that_carries_b_spans_from_b_to_the_write() -> None:
    """Layer 3 writes B at B+2, so of all taps that arrive there only the one of lag 2 has seen the corrupted token."""
    lags = result("mamba").tables["conv_edges"].normalized()["B", 3].xs("B+2", level="position")
    assert lags.idxmax() == 2 and lags.drop(2).abs().max() < 0.01


def test_the_ports_of_the_write_input_are_compared_with_all_of_them() -> None:
    readers = result("mamba").tables["write_ports"].normalized()
    assert set(readers.index) == {"all", "value", "delta", "B"}
    assert readers["all"] > 0.5


def test_the_first_table_of_the_paper_is_a_part_of_the_sweep() -> None:
    tables = result("mamba").tables
    part = tables["state_by_position"].select("position", "B+1").mean()
    assert (tables["table1_state_at_B+1"].mean() == part).all()


@pytest.mark.parametrize("name", TABLES)
def test_a_component_says_from_which_cell_its_share_is(name: str) -> None:
    for one in result(name).summary.components:
        assert one.normalized == result(name).tables[one.table].normalized()[one.cell]


@pytest.mark.parametrize("name", TABLES)
def test_the_circuit_ends_in_the_logits_and_holds_every_component(name: str) -> None:
    circuit, components = result(name).circuit, result(name).summary.components
    assert circuit is not None
    drawn = [node.name.split(" @ ")[0] for node in circuit.nodes]
    assert {c.node for c in components if c.role in ("state", "induction head")} <= set(drawn)
    assert {e.target for e in circuit.edges if e.source.split(" @ ")[0] == components[0].node} == {"logits"}


# --- models whose circuit is known, or that have none ----------------------------------------------------------------------


def planted() -> ct.Model:
    """Head 0.0 brings every token one position on, head 1.0 takes it from there; 0.1 writes nothing, 1.1 where nobody reads."""
    made: ct.Model = known.llama([(0, 1, 1), (1, 1, 1)], [(1, None, 2), (0, None, 1)])
    return made


def test_the_suite_recovers_a_chain_of_two_heads_that_was_written_by_hand() -> None:
    found = ct.run("induction", planted(), distances=[8], distance=8, prefix=3, examples=16)
    assert [(c.node, c.role, round(c.normalized, 6), c.position) for c in found.summary.components] == [
        ("head[1,0]", "induction head", 1, "B+1"),
        ("head[0,0]", "writes the v ([B'])", 1, "B+1"),
    ]
    assert found.summary.explained == pytest.approx(1)
    assert found.summary.offset == "B+1"


def test_senders_and_reads_follow_the_chain_to_the_token() -> None:
    study = Study(planted(), known.task(), options={})
    heads, around = [(1, 0), (1, 1)], ["A", "B", "B+1", "B+2"]
    taken = shares(reads(study, "Values", heads, "v", around))
    sent = senders(study, "To the values", Receivers([(1, 0)], "v", ""), around)
    before = shares(reads(study, "Before", [(0, 0)], "v", around, through=Receivers([(1, 0)], "v", "")))
    assert sent is not None
    assert taken["1,0", "B+1"] == pytest.approx(1) and taken.drop(("1,0", "B+1")).abs().max() < 1e-6
    assert [(one, at, round(share, 6)) for one, at, share in strong_senders(sent)] == [((0, 0), "B+1", 1)]
    assert before["0,0", "B"] == pytest.approx(1) and len(before) == 1, "no other value of layer 0 has changed"


def test_a_sender_is_the_head_that_writes_what_is_read_not_the_one_before_it() -> None:
    """Head 0.0 acts on head 2.0 only through head 1.0, and all heads are frozen on the way."""
    study = Study(known.llama([(0, 1, 1)], [(1, 1, 2)], [(2, None, 2)]), known.task(), options={})
    sent = senders(study, "To the values", Receivers([(2, 0)], "v", ""), ["B+1", "B+2"])
    assert [(one, at) for one, at, _ in strong_senders(sent)] == [((1, 0), "B+2")]


def test_what_receivers_do_elsewhere_is_not_followed() -> None:
    """Head 0.0 acts on head 2.0 through head 1.0, which puts B out at B+2 and not at END."""
    study = Study(known.llama([(0, 1, 1)], [(1, 1, 2)], [(2, None, 2)]), known.task(), options={})
    assert senders_share(study, Receivers([(1, 0)], "v", "B+1", acting="B+2")) == pytest.approx(1)
    assert senders_share(study, Receivers([(1, 0)], "v", "B+1", acting="END")) == pytest.approx(0, abs=1e-6)


def senders_share(study: Study, receivers: Receivers) -> float:
    sent = senders(study, "To the values", receivers, ["B+1"])
    assert sent is not None
    return float(sent.normalized()[0, 0, "B+1"])


def test_heads_of_the_first_layer_have_no_senders() -> None:
    assert senders(Study(planted(), known.task()), "To the values", Receivers([(0, 0), (0, 1)], "v", "")) is None


def test_in_random_models_no_more_is_named_than_the_level_allows() -> None:
    """One table decides about heads, and one about states. A run that names nothing says so."""
    for found in by_chance("induction", {"head": 1, "state": 1}, distances=[8], distance=8):
        assert found.summary.components == [] and found.summary.offset == "none"
        nothing_is_named(found, "induction")
        assert found.summary.offsets is None and "written" not in found.summary.text(), "nobody looked"
        assert found.circuit is not None and found.circuit.nodes == ()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mamba"])
def test_with_too_few_examples_for_statistics_the_suite_runs_all_the_same(kind: str) -> None:
    """Two examples show nothing at q < 0.05, so shares decide: all stages run, on whatever they find."""
    found = ct.run("induction", random_model(kind), distances=[8], distance=8, examples=2)
    assert found.summary.components and found.circuit is not None


@pytest.mark.parametrize(("options", "least"), [({"distances": [6]}, 6), ({"distances": [8], "distance": 5}, 5)])
def test_distances_too_short_for_the_sweep_are_refused(options: dict[str, Any], least: int) -> None:
    with pytest.raises(ct.CircuitryError, match=f"distance must be at least 7, got {least}"):
        ct.run("induction", random_model("mamba"), examples=2, **options)


def test_a_role_that_an_architecture_does_not_have_is_named() -> None:
    with pytest.raises(ct.CircuitryError, match="gpt2 has no node of role 'state'"):
        Study(random_model("gpt2"), ct.task("induction")).name("state")


def test_a_reader_that_no_changed_token_has_reached_is_left_out() -> None:
    """Mamba-2's step size of layer 0 is made of its own token alone, and the convolution brings B one token on."""
    study = Study(
        tiny.model("mamba2", dtype=torch.float32),
        ct.task("induction", distance=8, examples=4),
        options={"baseline": 0},
    )
    readers = {at: set(_ports(study, pd.Series({(0, at): 1.0}), [0]).frame["reader"]) for at in ("B", "B+1")}
    assert readers == {"B": {"all", "value", "B", "delta"}, "B+1": {"all", "value", "B"}}


@pytest.mark.parametrize("direction", ["noising", "denoising"])
def test_a_baseline_that_a_table_has_measured_is_the_same(direction: str) -> None:
    study = Study(
        ct.load("bundled:gpt_neox"),
        ct.task("induction", examples=3),
        settings={"distances": [8]},
        options={"direction": direction},
    )
    alone = baselines(study)
    study.keep("heads_to_logits", study.over("distance", [8], "Heads", "head[3,{head}] @ END -> logits freezing head"))
    assert baselines(study) == pytest.approx(alone, abs=1e-4)
    study.tables["heads_to_logits"].frame["source"] -= 1.0
    shift = 1.0 if direction == "noising" else -1.0
    assert baselines(study)["answer's logit (clean - corrupted), distance 8"] == pytest.approx(
        alone["answer's logit (clean - corrupted), distance 8"] + shift, abs=1e-4
    )
