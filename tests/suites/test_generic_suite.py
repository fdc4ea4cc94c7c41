"""The suite of tasks without one of their own: its tables in every kind of model, what it concludes, and how it is asked for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import circuitry as ct
from circuitry import CircuitryError
from circuitry.patching.provenance import inputs
from circuitry.suites import SuiteResult, suite
from circuitry.suites.generic import suite_for
from support import tiny
from support.command import circuitry
from support.no_pictures import no_pictures
from support.own_task import OWN
from support.prompt_tables import ROWS, written
from support.vocabularies import vocabulary

SENTENCES = [
    (
        f"Then, {a} and {b} went to the {place}. {b} gave a {thing} to",
        f"Then, {c} and {d} went to the {place}. {d} gave a {thing} to",
        f" {a}",
        f" {b}",
        a,
    )
    for a, b, c, d, place, thing in (
        ("Mary", "John", "Tom", "Alice", "store", "drink"),
        ("Peter", "Sarah", "Emma", "David", "school", "book"),
        ("James", "Laura", "Robert", "Henry", "park", "ring"),
        ("Alice", "Tom", "Mary", "Peter", "garden", "letter"),
    )
]
TABLES = {
    "gpt2": ["stream", "heads", "mlps"],
    "mamba": ["stream", "states"],
    "mamba2": ["stream", "states"],
    "rwkv": ["stream", "states", "mlps"],
    "jamba": ["stream", "heads", "states", "mlps"],
    "lfm2": ["stream", "heads", "mlps"],
    "recurrent_gemma": ["stream", "heads", "states", "mlps"],
}


@cache
def model(kind: str) -> ct.Model:
    tokenizer = vocabulary("agreement").tokenizer
    return ct.load(tiny.stock(kind, vocab=len(tokenizer)), dtype=torch.float64, tokenizer=tokenizer)


@cache
def ran(kind: str, **options: Any) -> SuiteResult:
    return ct.run("agreement", model(kind), examples=10, baseline=0)


@pytest.mark.parametrize("kind", TABLES)
def test_every_architecture_has_the_tables_of_its_nodes(kind: str) -> None:
    found = ran(kind)
    assert list(found.tables) == TABLES[kind]
    assert all(table.unit == "change of logit(answer) - logit(foil)" for table in found.tables.values())
    assert set(found.tables["stream"].frame["position"]) == {"SUBJECT", "SUBJECT+1", "ATTRACTOR", "END"}
    assert not [one for one in found.summary.components if one.table == "stream"]


@pytest.mark.parametrize("kind", TABLES)
def test_before_the_first_layer_all_is_at_the_subject_and_after_the_last_at_end(kind: str) -> None:
    """The stream's ends are known without running anything: the whole effect at the changed token, then at END."""
    shares = ran(kind).tables["stream"].normalized()
    layers = sorted({layer for layer, _ in shares.index})
    for layer, position in ((layers[0], "SUBJECT"), (layers[-1], "END")):
        assert shares[layer, position] == pytest.approx(1)


def test_those_that_write_to_the_last_token_are_patched_together() -> None:
    neox, task = ct.load("bundled:gpt_neox"), ct.task("ioi", examples=12)
    found = ct.run(suite_for("ioi"), neox, examples=12, baseline=0)
    writers = [one.node for one in found.summary.components if one.table == "heads"]
    assert len(writers) > 1 and all(node.endswith(" @ END") for node in writers)
    path = f"({', '.join(writers)}) -> logits freezing head"
    alone = ct.patch(neox, task, path, metric="logit_difference", lint="prompts", baseline=0)
    assert found.summary.explained == pytest.approx(float(alone.normalized().iloc[0]))
    assert found.summary.together == f"the {len(writers)} nodes at END"
    assert found.summary.baseline["top-1 accuracy"] > 0.5, "IOI copies its answer"


def test_the_baseline_of_a_task_that_copies_nothing_is_how_often_the_answer_is_above_the_foil() -> None:
    prompts = ct.task("agreement", examples=10).prompts(model("gpt2").vocabulary)
    logits = model("gpt2").hf(torch.from_numpy(prompts.clean), use_cache=False).logits.detach()[range(10), prompts.where["END"]]
    difference = (logits[range(10), prompts.answer] - logits[range(10), prompts.foil]).numpy()
    found = ran("gpt2").summary
    assert found.baseline["answer above foil"] == pytest.approx((difference > 0).mean())
    assert "top-1 accuracy" not in found.baseline
    said = [note for note in found.notes if "prefer the answer to the foil" in note and "nothing to explain" in note]
    assert bool(said) == (difference.mean() <= 0)


def test_another_metric_may_be_asked_for() -> None:
    found = ct.run("agreement", model("mamba"), examples=4, metric="probability", baseline=0)
    assert found.tables["states"].unit == "change of the answer's probability"


def test_some_layers_may_be_asked_for() -> None:
    found = ct.run("agreement", model("jamba"), layers=[1, 2], examples=4, baseline=0)
    layers = {name: sorted(set(table.frame["layer"])) for name, table in found.tables.items()}
    assert layers == {"stream": [1, 2], "heads": [1], "states": [2], "mlps": [1, 2]}
    with pytest.raises(CircuitryError, match="layers=9: model has layers 0 to 3"):
        ct.run("agreement", model("jamba"), layers=9, examples=4)


# --- how it is asked for ---------------------------------------------------------------------------------------------------


def test_a_suite_is_asked_for_before_a_task() -> None:
    assert suite("ioi").run is not None and suite_for("ioi").run is None
    assert suite("capital").tables == suite_for("ioi").tables


def test_files_are_suites_tasks_or_tables_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    written(tmp_path / "prompts.csv")
    written(tmp_path / "prompts.jsonl")
    for name, known in (("mine.py", "copy"), ("prompts.csv", "prompts"), ("prompts.jsonl", "prompts")):
        assert suite(tmp_path / name).name == known
    (tmp_path / "both.py").write_text(OWN + "\nfrom circuitry.suites import Suite\nSUITE = Suite('both', '', 'induction')\n")
    assert suite(tmp_path / "both.py").name == "both"
    (tmp_path / "neither.py").write_text("x = 1\n")
    with pytest.raises(CircuitryError, match=r"neither.py defines no SUITE"):
        suite(tmp_path / "neither.py")
    with pytest.raises(CircuitryError, match=r"no suite 'capitol'; did you mean 'capital'?"):
        suite("capitol")


def test_a_table_of_prompts_runs_from_the_command_line(tmp_path: Path) -> None:
    path = str(written(tmp_path / "p.csv", SENTENCES, ("clean", "corrupted", "answer", "foil", "IO")))
    said = circuitry(
        "patch", "bundled:mamba", "h[{layer}] @ {position} -> logits freezing h", "--task", path, "--metric", "logit_difference"
    )
    assert "over 4 examples" in said and "; bundled:mamba, p.csv (" in said
    assert "4 examples" in circuitry("explain", "bundled:mamba", "h[1] @ IO -> logits", "--task", path)
    assert "over 3 examples" in circuitry("patch", "bundled:mamba", "h[1] @ IO -> logits", "--task", path, "--examples", "3")
    out = str(tmp_path / "runs")
    with no_pictures():
        said = circuitry("run", path, "--model", "bundled:mamba", "--out", out)
    assert (Path(out) / "p-mamba" / "report.html").exists() and "States" in said.replace("State of", "States of")


def test_files_of_one_name_do_not_share_a_folder(tmp_path: Path) -> None:
    """Not even where only a foil differs, which changes no prompt; nor where a file was edited."""
    other = [(*ROWS[0][:3], " Alice", *ROWS[0][4:]), *ROWS[1:]]
    folders = []
    for rows in (ROWS, other, ROWS):
        path = written(tmp_path / "p.csv", rows)
        with no_pictures():
            found = ct.run(path, ct.load("bundled:mamba"), out=tmp_path / "runs", baseline=0)
        folders.append(Path(found.record["folder"]).name)
    assert folders == ["p-mamba", "p-mamba-2", "p-mamba"]


def test_a_task_of_the_users_own_whose_answers_alone_changed_is_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity of a run has the answers in it, whatever file they come from."""
    one, model = ct.task("induction", distance=8, examples=2), ct.load("bundled:mamba")
    before = inputs(model, one.prompts(model.vocabulary))
    make = one.definition.make

    def turned(*given: Any, **options: Any) -> Any:
        made = make(*given, **options)
        return type(made)(made.clean, made.corrupted, made.foil, made.answer, made.where, made.changed)

    object.__setattr__(one.definition, "make", turned)
    object.__setattr__(one.definition, "copied", False)
    try:
        assert inputs(model, one.prompts(model.vocabulary)) != before
    finally:
        object.__setattr__(one.definition, "make", make)
        object.__setattr__(one.definition, "copied", True)
