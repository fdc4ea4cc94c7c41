"""Results on a task that the model does not do are labelled, in every table and report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry.executing import answers as module
from circuitry.executing.answers import answers, top_1

PATH = "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state"
LABEL = "below threshold"


@pytest.fixture(scope="module")
def mamba() -> ct.Model:
    return ct.load("bundled:mamba")


@torch.no_grad()
@pytest.mark.parametrize("task", ["induction", "ioi"])
@pytest.mark.parametrize("corrupted", [False, True])
def test_answers_are_those_of_the_stock_model(mamba: ct.Model, task: str, corrupted: bool) -> None:
    prompts = ct.task(task, examples=20).prompts(mamba.vocabulary)
    found = answers(mamba, prompts, corrupted=corrupted)
    for example, end in enumerate(prompts.where["END"]):
        ids = torch.from_numpy((prompts.corrupted if corrupted else prompts.clean)[example, : end + 1])
        logits = mamba.hf(ids[None], use_cache=False).logits[0, -1]
        assert found.top[example] == (logits.argmax() == prompts.answer[example])
        assert found.answer[example] == pytest.approx(logits[prompts.answer[example]].item(), abs=1e-4)
        assert found.foil[example] == pytest.approx(logits[prompts.foil[example]].item(), abs=1e-4)


def test_a_batch_fits_into_memory(mamba: ct.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = ct.task("ioi", examples=40).prompts(mamba.vocabulary).where["END"]
    for memory, most in ((1, 1), (3 * mamba.bytes_per_row(int(ends.max()) + 1), 3), (1 << 40, 16)):
        monkeypatch.setattr(module, "_MEMORY", memory)
        batches = module._batches(mamba, ends)
        assert sorted(np.concatenate(batches)) == list(range(40)) and all(len(set(ends[batch])) == 1 for batch in batches)
        sizes = {len(batch) for batch in batches if ends[batch[0]] == ends.max()}
        assert max(sizes) <= most


def test_other_prompts_are_measured_again(mamba: ct.Model) -> None:
    vocabulary = mamba.vocabulary
    near, far = (ct.task("induction", distance=d, examples=16).prompts(vocabulary) for d in (8, 250))
    assert top_1(mamba, near) == 1 and top_1(mamba, far) < 0.25 and top_1(mamba, near) == 1


def test_tables_of_a_task_that_is_not_done_say_so(mamba: ct.Model, tmp_path: Path) -> None:
    tables = {d: ct.patch(mamba, ct.task("induction", distance=d, examples=16), PATH, lint="prompts") for d in (8, 250)}
    assert LABEL not in tables[8].caption() and f"{LABEL}: the answer is on top in" in tables[250].caption()
    stacked = ct.PatchingTable.stack(tables, "distance")
    assert f"{LABEL} for 250: the answer is on top in" in repr(stacked)
    for written in (stacked.to_markdown(), stacked.to_latex(), repr(stacked)):
        assert LABEL in written
    assert LABEL not in stacked.select("distance", 8).caption() and f"{LABEL}: " in stacked.select("distance", 250).caption()
    stacked.to_json(tmp_path / "t.json")
    assert LABEL in ct.PatchingTable.from_json(tmp_path / "t.json").caption()


def test_tables_may_be_stacked_twice(mamba: ct.Model) -> None:
    tables = {
        d: ct.patch(mamba, ct.task("induction", distance=d, examples=4), PATH, lint="prompts", baseline=0) for d in (8, 250)
    }
    by_distance = ct.PatchingTable.stack(tables, "distance")
    twice = ct.PatchingTable.stack({"one": by_distance, "other": tables_without(by_distance)}, "model")
    assert f"{LABEL} for one, 250: " in twice.caption()
    assert f"{LABEL} for 250: " in twice.select("model", "one").caption()
    assert LABEL not in twice.select("distance", 8).caption() and LABEL not in twice.select("model", "other").caption()


def tables_without(table: ct.PatchingTable) -> ct.PatchingTable:
    """A table as earlier versions wrote it."""
    return replace(table, provenance={name: value for name, value in table.provenance.items() if name != "top_1"})


def test_several_metrics_of_one_task_have_one_label(mamba: ct.Model) -> None:
    task = ct.task("induction", distance=250, examples=8)
    table = ct.patch(mamba, task, PATH, metric=["logit", "logit_difference"], lint="prompts")
    assert f"{LABEL}: " in table.caption() and f"{LABEL}: " in table.select("metric", "logit").caption()


def test_nothing_is_said_without_lint_or_if_the_answer_is_not_in_the_prompt(mamba: ct.Model) -> None:
    table = ct.patch(mamba, ct.task("induction", distance=250, examples=4), PATH, lint=False)
    assert "top_1" not in table.provenance and LABEL not in table.caption()
    task = ct.task("induction", distance=250, examples=4)
    asking = replace(task, definition=replace(task.definition, copied=False))
    assert "top_1" not in ct.patch(mamba, asking, PATH, lint="prompts").provenance


def test_a_suite_and_its_report_say_so(mamba: ct.Model, tmp_path: Path) -> None:
    result = ct.run("induction", mamba, form="names", distances=[7], distance=7, examples=4, baseline=0, out=tmp_path)
    assert any(note.startswith(f"{LABEL}: ") for note in result.summary.notes)
    (page,) = tmp_path.rglob("report.html")
    assert page.read_text(encoding="utf-8").count(LABEL) >= 2


def test_a_discovery_says_so(mamba: ct.Model, tmp_path: Path) -> None:
    for form, below in (("pair", False), ("names", True)):
        out = tmp_path / form
        task = ct.task("induction", distance=4, form=form, examples=4)
        found = ct.discover(mamba, task, level="node", positions=False, verify=0, confirm=False, lint=False, out=out)
        assert (LABEL in found.text()) == below
        (page,) = out.rglob("report.html")
        assert (LABEL.capitalize() in page.read_text(encoding="utf-8")) == below
        assert np.isfinite(found.provenance["top_1"])
