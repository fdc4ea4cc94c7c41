"""The IOI suite on the bundled models, on models without the behaviour, and its machinery on a model written by hand."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

import circuitry as ct
from circuitry.suites import Receivers, Study, SuiteResult, reads, senders, strong_senders
from circuitry.suites.ioi_roles import Found
from support import known, tiny
from support.chance import by_chance, nothing_is_named
from support.suite_runs import shares


@functools.cache
def result(name: str) -> SuiteResult:
    return ct.run("ioi", ct.load(f"bundled:{name}"), examples=12, baseline=4)


def nodes(found: SuiteResult, role: str) -> list[str]:
    return [c.node for c in found.summary.components if c.role == role]


def layer(node: str) -> int:
    return int(re.findall(r"\d+", node)[0])


# --- the bundled Transformer -----------------------------------------------------------------------------------------------


def test_name_movers_stand_at_end_in_the_last_layer() -> None:
    movers = [c for c in result("gpt_neox").summary.components if c.role == "name mover"]
    assert movers[0].node == "head[3,1]" and movers[0].normalized > 0.3
    assert {(layer(c.node), c.position) for c in movers} == {(3, "END")}


def test_earlier_heads_write_what_the_name_movers_copy() -> None:
    writers = nodes(result("gpt_neox"), "writes the answering heads' v")
    assert writers and max(map(layer, writers)) < 3


def test_name_movers_need_values_and_a_name_mover_raises_io_itself() -> None:
    tables = result("gpt_neox").tables
    ports = tables["mover_ports"].normalized()
    assert set(ports.index) == {"q", "k", "v"} and ports.idxmax() == "v"
    assert tables["heads_to_IO"].mean()[3, 1] < 0, "patching it takes away from IO's logit"


def test_the_difference_is_that_of_its_two_logits() -> None:
    tables = result("gpt_neox").tables
    difference = tables["heads_to_IO"].mean() - tables["heads_to_S"].mean()
    assert (difference - tables["heads_to_logits"].mean()).abs().max() < 1e-4


def test_roles_that_were_not_found_are_named() -> None:
    summary = result("gpt_neox").summary
    missing = next(note for note in summary.notes if note.startswith("not found: "))
    found = {c.role for c in summary.components}
    assert not [role for role in found if role in missing]
    assert "induction head" in found or "induction head" in missing


# --- the bundled Mamba -----------------------------------------------------------------------------------------------------


def test_the_state_of_layer_3_carries_it_and_takes_every_name_up_two_tokens_later() -> None:
    summary = result("mamba").summary
    states = [(c.node, c.position) for c in summary.components if c.role == "state"]
    assert states == [("ssm_state[3]", "IO+2, S1+2, S2+2")]
    writers = [(c.node, c.position) for c in summary.components if c.role.endswith("into the state")]
    assert writers == [("ssm_in[3]", f"{token}+2") for token in ("IO", "S1", "S2")]
    assert summary.explained > 0.8 and summary.offset == "IO+2"
    assert "IO: bundled:mamba: off by 2: IO+2" in summary.verdict


@pytest.mark.parametrize("token", ["IO", "S1", "S2"])
def test_the_writes_of_every_name_are_kept_as_a_table(token: str) -> None:
    table = result("mamba").tables[f"writes_{token}"]
    assert table.axes == ("layer", "position")
    assert table.normalized().idxmax() == (3, f"{token}+2")
    assert table.provenance["task"]["options"]["corruption"] == token


def test_figure_13_splits_cells_between_io_and_s_over_the_tokens_of_one_wording() -> None:
    found = result("mamba")
    table, picture = found.tables["figure13"], found.pictures["figure13"]
    assert table.axes == ("metric", "layer", "position")
    assert set(table.frame["metric"]) == {"IO", "S"} and set(table.frame["layer"]) == {0, 1, 2, 3}
    assert table.random is not None and set(table.random["metric"]) == {"IO", "S"}
    assert {"template": 0, "order": "ABBA"}.items() <= table.provenance["task"]["options"].items()
    labels = [text.get_text() for text in picture.figure.axes[0].get_xticklabels()]
    assert len(labels) == len(set(table.frame["position"]))
    assert [labels.count(name) for name in ("IO", "S1", "S2")] == [1, 1, 1]
    assert labels.index("IO") < labels.index("S1") < labels.index("S2")


def test_in_figure_13_the_strongest_write_of_io_is_two_tokens_after_it() -> None:
    found = result("mamba")
    labels = [text.get_text() for text in found.pictures["figure13"].figure.axes[0].get_xticklabels()]
    of_io = found.tables["figure13"].select("metric", "IO").pivot()
    positions = list(of_io.columns)
    assert positions == sorted(positions, key=int), "layer 0 has holes, which leave the tokens in their order"
    assert of_io.stack().idxmin() == (3, str(int(positions[labels.index("IO")]) + 2))


# --- both ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt_neox", "mamba"])
def test_the_circuit_alone_keeps_more_of_the_behaviour_than_any_random_set(name: str) -> None:
    kept = 1 - result(name).tables["scores"].normalized()
    random = kept[[label.startswith("random ") for label in kept.index]]
    assert len(random) >= 3 and kept["circuit"] > max(0.5, random.max())
    assert f"faithfulness {kept['circuit']:.2f}" in result(name).summary.verdict


@pytest.mark.parametrize("name", ["gpt_neox", "mamba"])
def test_the_circuit_is_drawn_from_the_components_to_the_logits(name: str) -> None:
    circuit, first = result(name).circuit, result(name).summary.components[0]
    assert circuit is not None and "IOI" in circuit.title
    assert (f"{first.node} @ END", "logits") in {(e.source, e.target) for e in circuit.edges}
    names = {node.name for node in circuit.nodes}
    assert {end for e in circuit.edges for end in (e.source, e.target)} <= names
    assert "scores" in result(name).pictures


def test_pictures_are_saved_and_listed(tmp_path: Path) -> None:
    found = SuiteResult({}, None, result("mamba").summary, result("mamba").pictures)
    folder = found.save(tmp_path / "run")
    assert {p.name for p in (folder / "figures").iterdir()} == {
        f"{n}.{e}" for n in ("figure13", "scores") for e in ("png", "svg")
    }
    assert '"name": "figure13"' in (folder / "run.json").read_text()


# --- models without the behaviour ------------------------------------------------------------------------------------------


@functools.cache
def random_result(kind: str, examples: int, corruption: str = "auto") -> SuiteResult:
    return ct.run("ioi", tiny.model(kind), examples=examples, corruption=corruption)


def test_in_random_models_no_more_is_named_than_the_level_allows() -> None:
    """Heads are named by two tables, IO's logit and the difference, states by one. Most runs find nothing, but not all of them."""
    for found in by_chance("ioi", {"head": 2, "state": 1}):
        assert found.summary.components == [] and found.summary.offset == "none"
        nothing_is_named(found, "IOI")
        assert found.circuit is not None and found.circuit.nodes == ()


@pytest.mark.parametrize("kind", ["gpt_neox", "llama", "mamba"])
def test_every_stage_runs_where_shares_alone_decide(kind: str) -> None:
    """Two examples show no single cell at q < 0.05; a random model then has heads over the threshold at every stage."""
    found = random_result(kind, 2)
    assert found.summary.components and "scores" in found.tables and found.circuit is not None


@pytest.mark.parametrize(("kind", "asked", "used"), [("gpt2", "auto", "ABC"), ("mamba", "auto", "all"), ("gpt2", "S2", "S2")])
def test_the_corruption_asked_for_is_the_one_that_is_used(kind: str, asked: str, used: str) -> None:
    found = random_result(kind, 20, asked)
    table = found.tables["heads_to_logits" if kind == "gpt2" else "state_by_position"]
    assert table.provenance["task"]["options"]["corruption"] == used
    assert found.record["task"]["options"]["corruption"] == used
    assert found.record["settings"]["corruption"] == asked


def test_an_unknown_corruption_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ct.TaskError, match="unknown corruption 'ABD'; known here: ABC, IO"):
        random_result("gpt2", 2, "ABD")


def test_another_metric_may_be_asked_for() -> None:
    found = ct.run("ioi", tiny.model("mamba"), examples=20, metric="probability")
    assert found.tables["state_by_position"].unit == "change of the answer's probability"
    assert random_result("mamba", 20).tables["state_by_position"].unit == "change of logit(answer) - logit(foil)"


# --- a model written by hand -----------------------------------------------------------------------------------------------


def test_a_chain_of_two_heads_is_followed_back_to_the_name() -> None:
    """Head 0.0 brings every token one position on; head 1.0 takes it from there to the logits. The others do nothing."""
    model = known.llama([(0, 1, 1), (1, 1, 1)], [(1, None, 2), (0, None, 1)])
    study = Study(model, ct.task("ioi", corruption="IO", examples=12), options={})
    around = ["IO", "IO+1", "IO+2", "S1+1", "S2"]
    taken = shares(reads(study, "Values", [(1, 0), (1, 1)], "v", around))
    sent = senders(study, "To the values", Receivers([(1, 0)], "v", ""), around)
    everywhere = senders(study, "To the values, from every position", Receivers([(1, 0)], "v", ""))
    before = shares(reads(study, "Before", [(0, 0)], "v", around, through=Receivers([(1, 0)], "v", "")))
    assert taken["1,0", "IO+1"] == pytest.approx(1) and taken.drop(("1,0", "IO+1")).abs().max() < 1e-6
    assert [(one, at, round(share, 6)) for one, at, share in strong_senders(sent)] == [((0, 0), "IO+1", 1)]
    assert [(one, at, round(share, 6)) for one, at, share in strong_senders(everywhere, "IO+1")] == [((0, 0), "IO+1", 1)]
    assert before["0,0", "IO"] == pytest.approx(1) and len(before) == 1, "no other value of layer 0 has changed"


def test_a_port_that_reads_elsewhere_has_no_senders_at_the_wrong_position() -> None:
    study = Study(known.llama([(0, 1, 1)], [(1, None, 2)]), ct.task("ioi", corruption="IO", examples=12), options={})
    assert strong_senders(senders(study, "To the values at IO", Receivers([(1, 0)], "v", "IO"), ["IO"])) == []
    assert len(strong_senders(senders(study, "To the values at IO+1", Receivers([(1, 0)], "v", "IO+1"), ["IO+1"]))) == 1


def test_a_head_with_two_roles_counts_in_the_first() -> None:
    found = Found(
        {"name mover": [((1, 0), "END", 0.5), ((1, 0), "S2", 0.1)], "induction head": [((1, 0), "S2", 0.1), ((0, 1), "S2", 0.1)]}
    )
    assert found.heads("name mover", "induction head") == [(1, 0), (0, 1)]
    assert found.once() == {"name mover": [(1, 0)], "induction head": [(0, 1)]}
