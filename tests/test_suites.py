"""The induction suite finds the circuit a model has and none where there is none; a suite declared in a file does what it says."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitry as ct
import known
import tiny
from circuitry.suites import Component, Study, SuiteResult, Summary, keys, reads, senders, strong_senders
from circuitry.suites.study import KEY_SHARE

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
FILES = {".csv", ".parquet", ".json", ".md", ".tex", ".png", ".svg", "-statistics.csv"}
STATES = "h[{layer}] @ B+3 -> logits freezing h"


@functools.cache
def result(name: str) -> SuiteResult:
    return ct.run("induction", ct.load(f"bundled:{name}"), distances=[8], distance=10, examples=12, baseline=4, progress=False)


@functools.cache
def random_model(kind: str, seed: int = 0) -> ct.Model:
    made: ct.Model = tiny.model(kind, seed=seed)
    return made


def layers(found: SuiteResult, role: str) -> list[int]:
    return [int(c.node.split("[")[1].split(",")[0].rstrip("]")) for c in found.summary.components if c.role == role]


# --- the bundled models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_every_table_has_its_axes_and_a_title(name: str) -> None:
    assert {k: t.axes for k, t in result(name).tables.items()} == TABLES[name]
    assert all(t.about["title"] for t in result(name).tables.values())


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
    assert sum(summary.offsets.values()) == pytest.approx(1, abs=1e-4)


def test_the_transformer_has_induction_heads_after_the_heads_that_write_their_keys() -> None:
    found = result("gpt_neox")
    assert {"induction head", "writes the k"} <= {c.role for c in found.summary.components}
    assert max(layers(found, "writes the k")) < max(layers(found, "induction head"))


def test_the_heads_that_write_the_keys_read_a() -> None:
    read = result("gpt_neox").tables["senders_read"].share()
    assert (read.groupby("head").idxmax().map(lambda cell: cell[1]) == "A").all()


def test_induction_heads_take_the_token_up_where_it_stands() -> None:
    summary = result("gpt_neox").summary
    assert {c.position for c in summary.components if c.role == "induction head"} == {"B"}
    assert summary.offset == "B" and "on the token: B" in summary.verdict


def test_two_states_carry_it_in_mamba_and_each_is_written_at_a_place_of_its_own() -> None:
    summary = result("mamba").summary
    assert [(c.node, c.role, c.position) for c in summary.components] == [
        ("ssm_state[3]", "state", "B+2"),
        ("ssm_state[2]", "state", "B+1"),
    ]
    assert summary.offset == "B+2" and "several" in summary.verdict


def test_the_convolution_brings_a_and_b_to_the_write_position() -> None:
    """Tables 3 and 4: [B'] acts only at B and [A'] only at A, whatever position the layer writes at."""
    found = result("mamba")
    layer = layers(found, "state")[0]
    from_b, from_a = (found.tables[f"table{n}_conv_input_{c}"].share()[10, layer] for n, c in ((3, "B"), (4, "A")))
    assert from_b.idxmax() == "B" and from_a.idxmax() == "A"


def test_the_tap_that_carries_b_spans_from_b_to_the_write() -> None:
    """Layer 3 writes B at B+2, so of all taps that arrive there only the one of lag 2 has seen the corrupted token."""
    shares = result("mamba").tables["conv_edges"].share()["B", 3].xs("B+2", level="position")
    assert shares.idxmax() == 2 and shares.drop(2).abs().max() < 0.01


def test_the_ports_of_the_write_input_are_compared_with_all_of_them() -> None:
    shares = result("mamba").tables["write_ports"].share()
    assert set(shares.index) == {"all", "value", "delta", "B"}
    assert shares["all"] > 0.5


def test_the_first_table_of_the_paper_is_a_part_of_the_sweep() -> None:
    tables = result("mamba").tables
    part = tables["state_by_position"].select("position", "B+1").mean()
    assert (tables["table1_state_at_B+1"].mean() == part).all()


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
    found = ct.run("induction", planted(), distances=[8], distance=8, prefix=3, examples=16, progress=False)
    assert [replace(c, share=round(c.share, 6)) for c in found.summary.components] == [
        Component("head[1,0]", "induction head", 1, "B+1"),
        Component("head[0,0]", "writes the v", 1, "B+1"),
    ]
    assert found.summary.explained == pytest.approx(1)
    assert found.summary.offset == "B+1"


def test_senders_and_reads_follow_the_chain_to_the_token() -> None:
    study = Study(planted(), known.task(), options={"progress": False})
    heads, around = [(1, 0), (1, 1)], ["A", "B", "B+1", "B+2"]
    taken = reads(study, "Values", heads, "v", around).share()
    sent = senders(study, "To the values", [(1, 0)], "v", "", around)
    before = reads(study, "Before", [(0, 0)], "v", around, through=([(1, 0)], "v", "")).share()
    assert sent is not None
    assert taken["1,0", "B+1"] == pytest.approx(1) and taken.drop(("1,0", "B+1")).abs().max() < 1e-6
    assert [(one, at, round(share, 6)) for one, at, share in strong_senders(sent)] == [((0, 0), "B+1", 1)]
    assert before["0,0", "B"] == pytest.approx(1) and before.drop(("0,0", "B")).abs().max() < 1e-6


def test_a_sender_is_the_head_that_writes_what_is_read_not_the_one_before_it() -> None:
    """Head 0.0 acts on head 2.0 only through head 1.0, and all heads are frozen on the way."""
    study = Study(known.llama([(0, 1, 1)], [(1, 1, 2)], [(2, None, 2)]), known.task(), options={"progress": False})
    sent = senders(study, "To the values", [(2, 0)], "v", "", ["B+1", "B+2"])
    assert [(one, at) for one, at, _ in strong_senders(sent)] == [((1, 0), "B+2")]


def test_heads_of_the_first_layer_have_no_senders() -> None:
    assert senders(Study(planted(), known.task()), "To the values", [(0, 0), (0, 1)], "v", "") is None


@pytest.mark.parametrize("kind", tiny.CONFIGS)
def test_a_model_without_the_behaviour_is_reported_as_such(kind: str) -> None:
    found = ct.run("induction", random_model(kind, seed=1), distances=[8], distance=8, examples=20, progress=False)
    assert found.summary.components == [] and found.summary.offset == "none"
    assert "no induction circuit was found" in found.summary.text() and "nothing" in found.summary.text()
    assert found.circuit is not None and found.circuit.nodes == ()


@pytest.mark.parametrize("kind", ["gpt2", "llama", "mamba"])
def test_with_too_few_examples_for_statistics_the_suite_runs_all_the_same(kind: str) -> None:
    """Two examples show no single cell at q < 0.05, so shares decide: all stages run, on whatever they find."""
    found = ct.run("induction", random_model(kind), distances=[8], distance=8, examples=2, progress=False)
    assert found.summary.components and found.circuit is not None


@pytest.mark.parametrize(("options", "least"), [({"distances": [6]}, 6), ({"distances": [8], "distance": 5}, 5)])
def test_distances_too_short_for_the_sweep_are_refused(options: dict[str, Any], least: int) -> None:
    with pytest.raises(ct.CircuitryError, match=f"distance {least} is too short.*the least is 7"):
        ct.run("induction", random_model("mamba"), examples=2, **options)


def test_a_role_that_an_architecture_does_not_have_is_named() -> None:
    with pytest.raises(ct.CircuitryError, match="gpt2 has no node of role 'state'"):
        Study(random_model("gpt2"), ct.task("induction")).name("state")


# --- thresholds ------------------------------------------------------------------------------------------------------------


def table(effects: Any, other: float = 1.0) -> ct.PatchingTable:
    effects = np.asarray(effects, float)
    cells = [{"cell": k} for k in range(len(effects))]
    return ct.PatchingTable.of(cells, effects, np.zeros(effects.shape[1]), np.full(effects.shape[1], other), "logit")


@settings(max_examples=40)
@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=12))
def test_keys_of_sure_effects_are_those_with_a_share_the_strongest_first(shares: list[float]) -> None:
    """Every example alike: nothing to doubt, so the share alone decides, with either sign of the whole effect."""
    for whole in (1.0, -2.0):
        exact = table([[whole * s] * 16 for s in shares], whole)
        for negative, sign in ((False, 1), (True, -1)):
            strong = sorted((sign * s for s in shares if sign * s >= KEY_SHARE), reverse=True)
            assert [sign * shares[k] for k in keys(exact, negative=negative, most=99)] == strong
            assert len(keys(exact, negative=negative)) <= 8


def test_a_large_share_that_rests_on_one_example_is_no_key() -> None:
    lucky = np.zeros(16)
    lucky[3] = 16.0
    assert keys(table([lucky, np.full(16, 0.5)])) == [1]


def test_with_too_few_examples_the_share_alone_decides() -> None:
    assert keys(table([[0.9, -0.1], [0.01, 0.02]])) == [0]


# --- the folder ------------------------------------------------------------------------------------------------------------


def test_a_result_is_saved_with_all_its_files_and_read_back_as_it_was(tmp_path: Path) -> None:
    found = result("gpt_neox")
    folder = found.save(tmp_path / "run")
    assert {p.name for p in (folder / "tables").iterdir()} == {f"{table}{end}" for table in found.tables for end in FILES}
    assert {p.name for p in folder.glob("circuit.*")} == {f"circuit.{end}" for end in ("svg", "png", "dot", "mmd", "json")}
    assert {p.name for p in folder.iterdir() if p.is_file()} >= {"summary.json", "summary.md", "run.json", "report.html"}
    assert all(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    summary, record = (json.loads((folder / f"{file}.json").read_text()) for file in ("summary", "run"))
    assert summary["offset"] == found.summary.offset
    assert record["tables"] == list(found.tables) and record["suite"] == "induction"
    assert "circuit.svg" in (folder / "summary.md").read_text()
    again = SuiteResult.load(folder)
    assert again.summary == found.summary and again.circuit == found.circuit
    assert all((again.tables[name].mean() == table.mean()).all() for name, table in found.tables.items())


def test_a_folder_without_a_summary_is_refused_with_what_would_do(tmp_path: Path) -> None:
    folder = SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {})).save(tmp_path / "run")
    (folder / "summary.json").unlink()
    with pytest.raises(ct.CircuitryError, match=r"no complete run.*running it again"):
        SuiteResult.load(folder)
    with pytest.raises(ct.CircuitryError, match="no run"):
        SuiteResult.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"offset": "B"}', '{"offset": "B", "explained": 1, "components": [3]}'])
def test_what_is_no_summary_is_refused(text: str) -> None:
    with pytest.raises(ct.CircuitryError, match="no summary of a suite"):
        Summary.from_json(text)


def test_a_share_that_was_not_measured_is_null_in_json_and_not_printed() -> None:
    summary = Summary("m", "mamba", [], float("nan"), {})
    assert json.loads(summary.to_json())["explained"] is None
    assert "carried by:" in summary.text()


# --- suites declared in a file ---------------------------------------------------------------------------------------------

MINE = """
import circuitry as ct

def strongest(study):
    layer = study.tables["states"].select("distance", 8).share().idxmax()[0]
    return f"ssm_in[{layer}] @ {{position}} -> logits freezing h except h[{layer}]"

SUITE = ct.Suite(
    name="mine",
    about="where the strongest state is written",
    task="induction",
    options={"distance": 8},
    settings={"thorough": 0},
    tables=[
        ct.Table("states", "States", "h[{layer}] @ {position} -> logits freezing h", axes={"position": ["B+2", "B+3"]},
                 over={"distance": [8, 10]}, layout=("layer", "distance", "position"), note="Read it so."),
        ct.Table("writes", "Writes", strongest, axes={"position": ["B", "B+1"]}, metric="probability"),
        ct.Table("parts", "Read-out and carry", {p: f"h[{{layer}}].{p} @ B+1 -> logits freezing h" for p in ("read", "carry")},
                 axis="part", options={"corruption": "A"}),
        ct.Table("heads", "Heads", "head[{layer},{head}] @ END -> logits", needs="head"),
    ],
)
"""


def write(folder: Path, text: str) -> str:
    file = folder / "mine.py"
    file.write_text(text)
    return str(file)


def small(name: Any, **options: Any) -> SuiteResult:
    return ct.run(name, random_model("mamba"), **{"examples": 4, "progress": False, **options})


def test_a_suite_in_a_file_runs_as_it_is_declared(tmp_path: Path) -> None:
    found = small(write(tmp_path, MINE))
    assert {name: made.axes for name, made in found.tables.items()} == {
        "states": ("layer", "distance", "position"),
        "writes": ("position",),
        "parts": ("part", "layer"),
    }
    assert found.tables["states"].about["note"] == "Read it so."
    assert found.tables["writes"].unit == "change of the answer's probability"
    assert "corruption='A'" in found.tables["parts"].about["task"] and "distance=8" in found.tables["parts"].about["task"]
    assert found.circuit is None and found.record["suite"] == "mine"


def test_a_declared_table_equals_the_patch_it_stands_for(tmp_path: Path) -> None:
    found = small(write(tmp_path, MINE))
    task = ct.task("induction", examples=4, distance=10)
    model, where = random_model("mamba"), {"position": ["B+2", "B+3"]}
    direct = ct.patch(model, task, "h[{layer}] @ {position} -> logits freezing h", axes=where, lint=False, progress=False).mean()
    there = found.tables["states"].select("distance", 10).mean()
    assert there.to_numpy().tolist() == direct.to_numpy().tolist()


def test_a_path_that_is_a_function_sees_the_tables_above_it(tmp_path: Path) -> None:
    found = small(write(tmp_path, MINE))
    by_layer = found.tables["states"].select("distance", 8).share().groupby("layer").max()
    assert found.tables["writes"].about["path"].startswith(f"ssm_in[{by_layer.idxmax()}]")


def test_a_table_is_left_out_where_its_role_is_missing(tmp_path: Path) -> None:
    text = MINE[: MINE.index('        ct.Table("states"')] + MINE[MINE.index('        ct.Table("heads"') :]
    assert list(small(write(tmp_path, text)).tables) == []
    here = ct.run(write(tmp_path, text), random_model("gpt2"), examples=4, progress=False)
    assert list(here.tables) == ["heads"]


def test_the_default_conclusion_names_cells_as_paths_do() -> None:
    labelled = {
        "one": "h[{layer}] @ {position} -> logits freezing h",
        "both": "(h[{layer}].read @ B+1, h[0] @ {position}) -> logits",
    }
    tables = [
        ct.Table("states", "States", STATES, over={"distance": (8,)}),
        ct.Table("labelled", "Labelled", labelled, axis="what", axes={"position": ["B+3"], "layer": [1]}),
        ct.Table("together", "Together", "(h[0] @ B+3, h[1] @ B+3) -> logits freezing h"),
    ]
    found = small(ct.Suite("mine", "", "induction", options={"distance": 8}, tables=tables)).summary.components
    named = {(c.role, c.node, c.position) for c in found}
    assert ("together", "(h[0] @ B+3, h[1] @ B+3)", "") in named
    assert named <= {
        *(("states, distance 8", f"h[{n}] @ B+3", "") for n in range(3)),
        ("labelled, what one", "h[1] @ B+3", "B+3"),
        ("labelled, what both", "(h[1].read @ B+1, h[0] @ B+3)", "B+3"),
        ("together", "(h[0] @ B+3, h[1] @ B+3)", ""),
    }
    assert {role.split(",")[0] for role, _, _ in named} == {"states", "labelled", "together"}


def test_a_suite_may_conclude_for_itself() -> None:
    def conclude(study: Study) -> SuiteResult:
        return SuiteResult(study.tables, None, Summary("m", "mamba", [], 0.5, {}, notes=[str(study.settings["thorough"])]))

    declared = ct.Suite("mine", "", "induction", settings={"thorough": 0}, tables=[ct.Table("s", "S", STATES)], conclude=conclude)
    assert small(declared, distance=8, thorough=3).summary.notes == ["3"]


Edit = Callable[[str], str]


@pytest.mark.parametrize(
    ("edit", "options", "message"),
    [
        (lambda text: text.replace("SUITE =", "OTHER ="), {}, "mine.py defines no SUITE"),
        (lambda _: "SUITE = 'induction'", {}, "SUITE in .*mine.py is str, not a Suite"),
        (lambda text: text, {"distanze": 8}, "suite 'mine' has no option 'distanze'; did you mean 'distance'"),
        (lambda text: text, {"thorugh": 8}, "suite 'mine' has no option 'thorugh'; did you mean 'thorough'"),
        (lambda text: text.replace('layout=("layer", ', 'layout=("head", '), {}, "table 'states' has the axes distance, layer, position; its layout names head, distance, position"),
        (lambda text: text.replace('"distance": [8, 10]', '"distance": [8], "prefix": [3]'), {}, "table 'states' runs over 2 task options; one would do"),
        (lambda text: text.replace('Table("writes"', 'Table("states"'), {}, "suite 'mine' has 2 tables named 'states'"),
        (lambda text: text.replace('Table("writes"', 'Table("../writes"'), {}, "'../writes' cannot be one"),
        (lambda text: text.replace('task="induction"', 'task="inductoin"'), {}, "no definition 'inductoin' in tasks: did you mean 'induction'"),
        (lambda text: text.replace('"distance": [8, 10]', '"distanz": [8, 10]'), {}, "task 'induction' has no option 'distanz'; did you mean 'distance'"),
        (lambda text: text.replace("h[{layer}] @ {position}", "hh[{layer}] @ {position}"), {}, "mamba has no node 'hh'"),
    ],
)  # fmt: skip
def test_mistakes_in_a_suite_say_what_is_wrong(edit: Edit, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ct.CircuitryError, match=message):
        small(write(tmp_path, edit(MINE)), **options)


@pytest.mark.parametrize("name", ["ioii", "induktion"])
def test_an_unknown_suite_is_answered_with_the_nearest_one(name: str) -> None:
    with pytest.raises(ct.CircuitryError, match=f"no suite '{name}'; did you mean '(ioi|induction)'.*such as ./mine.py"):
        ct.suite(name)


def test_a_suite_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ct.CircuitryError, match=r"no definition './none.py' in suites: no file"):
        ct.suite("./none.py")


def test_one_value_for_a_setting_that_holds_several_is_a_list_of_one() -> None:
    suite = ct.Suite("s", "", "induction", settings={"distances": (8, 16), "label": "x"})
    assert suite.split({"distances": 32, "label": "y"}, {}) == ({"distances": (32,), "label": "y"}, {})
