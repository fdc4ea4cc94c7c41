"""What a finding is, what a suite leaves, and that a suite declared in a file does what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import circuitry as ct
from circuitry.reports.words import findings as in_words
from circuitry.suites import Study, SuiteResult, Summary, findings, keys
from circuitry.suites.keys import too_few
from circuitry.thresholds import KEY_EFFECT
from support import known
from support.suite_runs import random_model, result

FILES = {".csv", ".parquet", ".json", ".md", ".tex", ".png", ".svg", "-statistics.csv"}
STATES = "h[{layer}] @ B+3 -> logits freezing h"

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
            strong = sorted((sign * s for s in shares if sign * s >= KEY_EFFECT), reverse=True)
            assert [sign * shares[k] for k in keys(exact, negative=negative, most=99)] == strong
            assert len(keys(exact, negative=negative)) <= 8


def test_a_large_share_that_rests_on_one_example_is_no_key() -> None:
    lucky = np.zeros(16)
    lucky[3] = 16.0
    assert keys(table([lucky, np.full(16, 0.5)])) == [1]


def test_with_too_few_examples_the_share_alone_decides() -> None:
    assert keys(table([[0.9, -0.1], [0.01, 0.02]])) == [0]


def test_where_several_cells_together_can_be_shown_the_share_alone_does_not_decide() -> None:
    """Eight examples show no single cell of 60, but ten at once; a cell that rests on one example is still no key."""
    sure, lucky = np.tile(np.full(8, 0.5), (20, 1)), np.zeros((40, 8))
    lucky[:, 3] = 4.0
    mixed = table([*sure, *lucky])
    assert mixed.can_show() and keys(mixed, most=99) == list(range(20))
    assert mixed.normalized().min() >= KEY_EFFECT, "by effect size only all would be keys"
    assert not table(np.ones((60, 5))).can_show() and len(keys(table(np.ones((60, 5))), most=99)) == 60


def test_the_rule_names_the_tables_whose_shares_decided_alone() -> None:
    study = Study(random_model("mamba"), ct.task("induction", examples=4), tables={"few": table([[1.0] * 4])})
    assert "by effect size only in few: 4 examples are too few for significance" in study.rule()
    study.tables = {"many": table(np.ones((60, 8)))}
    assert "alone" not in study.rule()


def test_too_few_examples_are_not_taken_for_no_finding() -> None:
    one_of_48 = table([[1.0] * 6, *np.zeros((47, 6))])
    assert keys(one_of_48) == [] and "6 examples can show 31 significant cells of 48 or none" in too_few(one_of_48)
    assert too_few(table([[1.0] * 16, *np.zeros((47, 16))])) == "", "with 16 a single cell can be shown"
    study = Study(random_model("mamba"), ct.task("induction", examples=6), tables={"states": one_of_48})
    summary = study.nothing("state", "induction", one_of_48, {})
    assert "too few examples to say whether an induction circuit exists" in summary.notes[0]
    assert "too few examples to tell: 6 examples" in summary.text() and "    nothing\n" not in summary.text()
    assert in_words(json.loads(summary.to_json()))[0].startswith("Too few examples to tell: 6 examples can show 31")
    assert Summary.from_json(summary.to_json()).undecided == summary.undecided
    many = study.nothing("state", "induction", table(np.zeros((48, 16))), {})
    assert "no induction circuit was found" in many.notes[0] and "nothing" in many.text()


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
    with pytest.raises(ct.CircuitryError, match=r"the run in .* is incomplete .*; run it again"):
        SuiteResult.load(folder)
    with pytest.raises(ct.CircuitryError, match="expected a run folder"):
        SuiteResult.load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"offset": "B"}', '{"offset": "B", "explained": 1, "components": [3]}'])
def test_what_is_no_summary_is_refused(text: str) -> None:
    with pytest.raises(ct.CircuitryError, match="does not describe a suite's summary"):
        Summary.from_json(text)


def test_a_summary_without_offsets_says_nothing_of_them() -> None:
    """None is not the same as an empty profile, which says that somebody looked and found nothing."""
    looked, not_looked = Summary("m", "mamba", [], 0.0, {}), Summary("m", "mamba", [], 0.0, None)
    assert "no write position found" in looked.text() and "write position" not in not_looked.text()
    assert Summary.from_json(not_looked.to_json()) == not_looked and not_looked.offset == "none"


def test_a_share_that_was_not_measured_is_null_in_json_and_not_printed() -> None:
    summary = Summary("m", "mamba", [], float("nan"), {})
    assert json.loads(summary.to_json())["explained"] is None
    assert "carried by:" in summary.text()


# --- suites declared in a file ---------------------------------------------------------------------------------------------


MINE = """
import circuitry as ct

def strongest(study):
    layer = study.tables["states"].select("distance", 8).normalized().idxmax()[0]
    return f"ssm_in[{layer}] @ {{position}} -> logits freezing h except h[{layer}]"

SUITE = ct.Suite(
    name="mine",
    description="where the strongest state is written",
    task="induction",
    options={"distance": 8},
    settings={"thorough": 0},
    tables=[
        ct.TableSpec("states", "States", "h[{layer}] @ {position} -> logits freezing h", axes={"position": ["B+2", "B+3"]},
                 over={"distance": [8, 10]}, layout=("layer", "distance", "position"), note="Read it so."),
        ct.TableSpec("writes", "Writes", strongest, axes={"position": ["B", "B+1"]}, metric="probability"),
        ct.TableSpec("parts", "Read-out and carry", ct.labelled("part", {p: f"h[{{layer}}].{p} @ B+1 -> logits freezing h" for p in ("read", "carry")}),
                 options={"corruption": "A"}),
        ct.TableSpec("heads", "Heads", "head[{layer},{head}] @ END -> logits", needs="head"),
    ],
)
"""


def write(folder: Path, text: str) -> str:
    file = folder / "mine.py"
    file.write_text(text)
    return str(file)


def small(name: Any, **options: Any) -> SuiteResult:
    return ct.run(name, random_model("mamba"), **{"examples": 4, **options})


def test_a_suite_in_a_file_runs_as_it_is_declared(tmp_path: Path) -> None:
    found = small(write(tmp_path, MINE))
    assert {name: made.axes for name, made in found.tables.items()} == {
        "states": ("layer", "distance", "position"),
        "writes": ("position",),
        "parts": ("part", "layer"),
    }
    assert found.tables["states"].provenance["note"] == "Read it so."
    assert found.tables["writes"].unit == "change of the answer's probability"
    assert found.tables["parts"].provenance["task"]["options"] == {"distance": 8, "corruption": "A", "prefix": 7, "form": "pair"}
    assert found.circuit is None and found.record["suite"] == "mine"


def test_a_declared_table_equals_the_patch_it_stands_for(tmp_path: Path) -> None:
    found = small(write(tmp_path, MINE))
    task = ct.task("induction", examples=4, distance=10)
    model, where = random_model("mamba"), {"position": ["B+2", "B+3"]}
    direct = ct.patch(model, task, "h[{layer}] @ {position} -> logits freezing h", axes=where, lint=False).mean()
    there = found.tables["states"].select("distance", 10).mean()
    assert there.to_numpy().tolist() == direct.to_numpy().tolist()


def test_a_path_that_is_a_function_sees_the_tables_above_it(tmp_path: Path) -> None:
    found = small(write(tmp_path, MINE))
    by_layer = found.tables["states"].select("distance", 8).normalized().groupby("layer").max()
    assert found.tables["writes"].provenance["path"].startswith(f"ssm_in[{by_layer.idxmax()}]")


def test_a_table_is_left_out_where_its_role_is_missing(tmp_path: Path) -> None:
    text = MINE[: MINE.index('        ct.TableSpec("states"')] + MINE[MINE.index('        ct.TableSpec("heads"') :]
    assert list(small(write(tmp_path, text)).tables) == []
    here = ct.run(write(tmp_path, text), random_model("gpt2"), examples=4)
    assert list(here.tables) == ["heads"]


def test_the_default_conclusion_names_cells_as_paths_do() -> None:
    paths = {
        "one": "h[{layer}] @ {position} -> logits freezing h",
        "both": "(h[{layer}].read @ B+1, h[0] @ {position}) -> logits",
    }
    tables = [
        ct.TableSpec("states", "States", STATES, over={"distance": (8,)}),
        ct.TableSpec("labelled", "Labelled", ct.labelled("what", paths), axes={"position": ["B+3"], "layer": [1]}),
        ct.TableSpec("together", "Together", "(h[0] @ B+3, h[1] @ B+3) -> logits freezing h"),
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


def test_the_default_conclusion_lists_nodes_and_counts_their_other_cells() -> None:
    """Layer 1 of this Mamba takes B up two tokens on, so its state is found there and at each of the next positions."""
    axes = {"position": ["B+1", "B+2", "B+3", "B+4"]}
    everywhere = ct.TableSpec("states", "States", "h[{layer}] @ {position} -> logits freezing h", axes=axes)
    declared = ct.Suite("mine", "", "induction", options={"distance": 8, "prefix": 3}, tables=[everywhere])
    found = ct.run(declared, known.mamba(known.lags(0), known.lags(0, 0, 4)), examples=12)
    (first,) = found.summary.components
    assert first.node == f"h[1] @ {first.position}" and first.role == "states, and 2 more cells"
    assert first.normalized == found.tables["states"].normalized().max() == pytest.approx(1)
    assert found.summary.offsets is None and "written" not in found.summary.text()


def test_the_default_conclusion_says_how_many_nodes_it_leaves_out() -> None:
    study = Study(random_model("mamba"), ct.task("induction", distance=8, examples=4))
    study.tables["wide"] = table([[1.0 - n / 20] * 12 for n in range(11)])
    study.tables["wide"].provenance["path"] = "h[{cell}] @ B -> logits"
    summary = findings(study).summary
    assert [c.node for c in summary.components] == [f"h[{n}] @ B" for n in range(8)]
    assert "11 nodes pass in wide; its 8 strongest are listed" in summary.notes


def test_a_suite_cites_what_it_says_and_nothing_else(tmp_path: Path) -> None:
    for cites in ("", "@article{mine}"):
        declared = ct.Suite("mine", "", "induction", tables=[ct.TableSpec("s", "S", STATES)], cites=cites)
        found = small(declared, distance=8, out=tmp_path)
        page = (Path(found.record["folder"]) / "report.html").read_text()
        assert found.record["cites"] == cites and ("@article{mine}" in page) is bool(cites)
        assert "2410.06672" not in page
    assert "2410.06672" in ct.suite("induction").cites and "2410.06672" in ct.suite("ioi").cites


def test_a_suite_may_conclude_for_itself() -> None:
    def conclude(study: Study) -> SuiteResult:
        return SuiteResult(study.tables, None, Summary("m", "mamba", [], 0.5, {}, notes=[str(study.settings["thorough"])]))

    declared = ct.Suite(
        "mine", "", "induction", settings={"thorough": 0}, tables=[ct.TableSpec("s", "S", STATES)], conclude=conclude
    )
    assert small(declared, distance=8, thorough=3).summary.notes == ["3"]


Edit = Callable[[str], str]


@pytest.mark.parametrize(
    ("edit", "options", "message"),
    [
        (lambda text: text.replace("SUITE =", "SOURCE ="), {}, "mine.py defines no SUITE"),
        (lambda _: "SUITE = 'induction'", {}, "SUITE in .*mine.py must be a Suite, got str"),
        (lambda text: text, {"distanze": 8}, "suite 'mine' has no option 'distanze'; did you mean 'distance'"),
        (lambda text: text, {"thorugh": 8}, "suite 'mine' has no option 'thorugh'; did you mean 'thorough'"),
        (lambda text: text.replace('layout=("layer", ', 'layout=("head", '), {}, "table 'states' has the axes distance, layer, position; its layout names head, distance, position"),
        (lambda text: text.replace('"distance": [8, 10]', '"distance": [8], "prefix": [3]'), {}, "expected one task option in over= of table 'states', got .'distance', 'prefix'."),
        (lambda text: text.replace('TableSpec("writes"', 'TableSpec("states"'), {}, "suite 'mine' has 2 tables named 'states'"),
        (lambda text: text.replace('TableSpec("writes"', 'TableSpec("../writes"'), {}, "expected a table name that can be a file name, got .../writes"),
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
    with pytest.raises(ct.CircuitryError, match=r"no file .*none.py"):
        ct.suite("./none.py")


def test_one_value_for_a_setting_that_holds_several_is_a_list_of_one() -> None:
    suite = ct.Suite("s", "", "induction", settings={"distances": (8, 16), "label": "x"})
    assert suite.split({"distances": 32, "label": "y"}, {}) == ({"distances": (32,), "label": "y"}, {})
