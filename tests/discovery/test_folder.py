"""The folder of a discovery: what is in it, and that a killed one goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry import CircuitryError, ModelError
from circuitry.discovery import folder as folders
from circuitry.discovery import search
from circuitry.discovery.methods import method
from circuitry.discovery.methods.eap import Eap
from circuitry.discovery.page import write_report
from circuitry.discovery.question import Question
from circuitry.discovery.result import Discovery
from support.command import called, circuitry
from support.defined_terms import defined
from support.killing import Killed, killed_after
from support.short_discovery import in_small_steps

TASK = ct.task("induction", distance=4, examples=12)
ASKED: dict[str, Any] = {"method": "eap", "verify": 6, "progress": False}
EVERY = {
    "circuit.dot", "circuit.json", "circuit.mmd", "circuit.png", "circuit.svg", "curve.csv", "edges.json", "explorer.html", "explorer.json", "figures",
    "parts", "report.html", "results.json", "run.json", "tables",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    """Fewer circuits for curve and scores, and small steps, so that a few prompts and cells make two of each."""
    with pytest.MonkeyPatch.context() as patched:
        in_small_steps(patched)
        yield


@pytest.fixture(scope="module")
def model() -> ct.Model:
    return ct.load("bundled:mamba")


@pytest.fixture(scope="module")
def done(model: ct.Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Discovery, Path]:
    out = tmp_path_factory.mktemp("found") / "run"
    return ct.discover(model, TASK, out=out, edges=30, **ASKED), out


def test_the_folder_has_everything(done: tuple[Discovery, Path]) -> None:
    found, out = done
    assert {file.name for file in out.iterdir() if file.suffix != ".lock"} == EVERY
    assert {file.name for file in (out / "tables").iterdir()} >= {
        "discovery.csv", "discovery.json", "discovery.md", "discovery.parquet", "discovery.tex", "ranking.csv", "ranking.md",
    }  # fmt: skip
    assert {file.name for file in (out / "figures").iterdir()} == {"agreement.png", "agreement.svg", "curve.png", "curve.svg"}
    record = json.loads((out / "run.json").read_text())
    assert record["state"] == "complete" and record["model"] == "bundled:mamba" and record["tables"] == ["discovery"]
    assert ct.PatchingTable.from_json(out / "tables" / "discovery.json").frame["effect"].tolist() == pytest.approx(
        found.table.frame["effect"].tolist()
    )
    assert ct.discovery.read(out / "edges.json").ranking.equals(found.ranking)


def test_the_numbers_are_those_without_a_folder(done: tuple[Discovery, Path], model: ct.Model) -> None:
    plain = ct.discover(model, TASK, **ASKED)
    assert np.array_equal(plain.scores, done[0].scores)
    assert plain.exact.keys() == done[0].exact.keys() and len(plain.exact) == 6
    assert all(np.array_equal(plain.exact[cell], done[0].exact[cell]) for cell in plain.exact)


@pytest.mark.parametrize(
    ("where", "name", "calls", "total"),
    [(Eap, "scores", 1, 2), (search, "patched", 1, 2), (folders, "score_edges", 0, 1), (folders, "write_report", 0, 1)],
)
def test_a_killed_one_goes_on_and_finds_the_same(
    where: Any, name: str, calls: int, total: int, done: tuple[Discovery, Path], model: ct.Model, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as patched:
        killed_after(patched, where, name, calls)
        with pytest.raises(Killed):
            ct.discover(model, TASK, out=tmp_path / "run", edges=30, **ASKED)
    with monkeypatch.context() as patched:
        count = killed_after(patched, where, name, 9)
        found = ct.discover(model, TASK, out=tmp_path / "run", edges=30, **ASKED)
        assert count[0] == total - calls
    assert np.array_equal(found.scores, done[0].scores) and found.ranking.equals(done[0].ranking)
    pages = [json.loads((out / "results.json").read_text()) for out in (tmp_path / "run", done[1])]
    assert pages[0] == pages[1]


def test_a_finished_one_runs_nothing(done: tuple[Discovery, Path], model: ct.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = json.loads((done[1] / "run.json").read_text())["finished"]
    for where, name in ((Eap, "scores"), (search, "patched"), (search, "patch"), (folders, "score_edges")):
        killed_after(monkeypatch, where, name, 0)
    again = ct.discover(model, TASK, out=done[1], edges=30, **ASKED)
    assert again.ranking.equals(done[0].ranking)
    assert json.loads((done[1] / "run.json").read_text())["finished"] == finished


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "random"}, "method name: eap there, random here"),
        ({"method": method("eap-ig-inputs")}, "method"),
        ({"verify": 3}, "verify: 6 there, 3 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"direction": "denoising"}, "direction: noising there, denoising here"),
        ({"level": "node", "edges": None}, "level: edge there, node here"),
        ({"positions": False}, "positions: .* there, .* here"),
        ({"confirm": False}, "confirm: True there, False here"),
        ({"metric": "logit"}, "metric"),
        ({"metric": ct.Metric("logit_difference", lambda logits, base, answer, foil: logits[:, 0])}, "metric"),
        ({"executor": "rows"}, "executor: suffix there, rows here"),
    ],
)
def test_another_question_is_refused(change: dict[str, Any], said: str, done: tuple[Discovery, Path], model: ct.Model) -> None:
    with pytest.raises(CircuitryError, match=rf"holds another discovery \(.*{said}.*name another folder"):
        ct.discover(model, TASK, out=done[1], **{"edges": 30, **ASKED, **change})


def test_a_folder_with_other_things_is_refused(model: ct.Model, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CircuitryError, match="is not empty and holds no discovery"):
        ct.discover(model, TASK, out=tmp_path, **ASKED)


def test_the_page_shows_all_parts_and_is_written_again_from_the_folder(done: tuple[Discovery, Path]) -> None:
    _, out = done
    page = (out / "report.html").read_text()
    for part in ("summary", "circuit", "ranking", "agreement", "curve", "scores", "stability", "methods"):
        assert f'<section id="{part}">' in page
    for text in (
        "partial necessity",
        "Jaccard index",
        "MIB",
        "faithfulness lost",
        "ranked by eap on one half",
        "too few draws",
    ):
        assert text in page
    assert {"faithfulness", "complement", "completeness", "minimality", "attribution", "exact", "Jaccard index"} <= set(
        defined(page)
    )
    assert page.count('<img src="data:image/svg+xml') == 2
    (out / "report.html").unlink()
    assert circuitry("report", str(out)) == f"written: {(out / 'report.html').resolve()}\n"
    assert (out / "report.html").read_text() == page


def test_an_unfinished_folder_has_no_page(model: ct.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after(monkeypatch, Eap, "scores", 0)
    with pytest.raises(Killed):
        ct.discover(model, TASK, out=tmp_path / "run", **ASKED)
    with pytest.raises(CircuitryError, match="is not finished; the same call of discover"):
        write_report(tmp_path / "run")


def test_nodes_have_a_folder_without_curve_and_circuit(model: ct.Model, tmp_path: Path) -> None:
    ct.discover(model, TASK.but(examples=8), level="node", verify=0, out=tmp_path / "run", progress=False)
    assert not {"curve.csv", "circuit.json"} & {file.name for file in (tmp_path / "run").iterdir()}
    page = (tmp_path / "run" / "report.html").read_text()
    assert '<section id="ranking">' in page and '<section id="scores">' not in page and '<section id="agreement">' not in page


def test_a_circuit_with_no_way_to_the_logits_is_said(model: ct.Model, tmp_path: Path) -> None:
    ct.discover(model, TASK.but(examples=8), verify=0, edges=1, out=tmp_path / "run", progress=False)
    assert "No circuit: no edge of this circuit is on a way" in (tmp_path / "run" / "report.html").read_text()


# --- what is refused, and what is said -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "eap-ig"}, "no method 'eap-ig'; known here: atp-star, block-ig, eap, eap-ig-activations"),
        ({"level": "head"}, "expected level 'edge' or 'node', got 'head'"),
        ({"direction": "up"}, "expected direction 'noising' or 'denoising', got 'up'"),
        ({"verify": -1}, "verify must be at least 0, got -1"),
        ({"edges": 10}, "edges=10 has no effect: without out= no circuit is drawn"),
        ({"metric": "loss"}, "no metric 'loss'"),
        ({"executor": "fast"}, "no executor 'fast'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], message: str, model: ct.Model) -> None:
    with pytest.raises(CircuitryError) as error:
        ct.discover(model, TASK, **options)
    assert message in str(error.value)


def test_too_few_examples_cannot_be_halved(model: ct.Model) -> None:
    with pytest.raises(CircuitryError, match="3 prompts cannot be halved; use at least 4 examples, or confirm=False"):
        ct.discover(model, TASK.but(examples=3))


def test_a_metric_without_a_gradient_says_what_to_try(model: ct.Model) -> None:
    def rank(logits: Any, answer: Any, foil: Any) -> Any:
        return logits.argmax(-1).float()

    with pytest.raises(CircuitryError, match=r"metric 'rank' has no gradient.*differentiable operations, or method='exact'"):
        ct.discover(model, TASK.but(examples=4), metric=rank)


def test_an_edge_that_is_not_in_the_graph_is_refused(model: ct.Model) -> None:
    with pytest.raises(CircuitryError, match=r"mixer_out\[0\] -> gate\[0\] is not in the graph"):
        search.asked(model, TASK).wiring.find("mixer_out[0] -> gate[0]")


def test_a_table_of_prompts_without_foils_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("clean,corrupted,answer\nFrance is,Japan is, Paris\n")
    code, _, err = called("discover", "bundled:mamba", "--task", str(tmp_path / "p.csv"))
    assert code == 2 and "foil" in err


def test_a_spread_model_is_refused(model: ct.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "is_spread", lambda hf: True)
    with pytest.raises(ModelError, match=r"is spread by device_map.*load it on one device"):
        ct.discover(model, TASK)


def test_half_precision_is_computed_in_single(model: ct.Model, tmp_path: Path) -> None:
    narrow = ct.load("bundled:mamba", dtype="bfloat16")
    found = ct.discover(narrow, TASK.but(examples=8), method="eap", verify=2, out=tmp_path / "run", edges=30, progress=False)
    assert str(found.question.model.dtype) == "torch.float32" and str(narrow.dtype) == "torch.bfloat16"
    assert found.provenance["dtype"] == "computed in float32; the model is in bfloat16"
    assert "computed in float32; the model is in bfloat16" in (tmp_path / "run" / "report.html").read_text()
    assert "dtype" not in ct.discover(model, TASK.but(examples=8), verify=0, progress=False).provenance


def test_memory_bounds_the_batches(model: ct.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = Question.batches

    def seen(self: Any, rows: int, desc: str) -> Any:
        for examples, prompts in real(self, rows, desc):
            sizes.append(len(examples))
            yield examples, prompts

    monkeypatch.setattr(Question, "batches", seen)
    narrow = ct.discover(model, TASK.but(examples=8), verify=0, executor=ct.executor(memory="1MiB"), progress=False)
    assert max(sizes) == 1
    sizes.clear()
    wide = ct.discover(model, TASK.but(examples=8), verify=0, progress=False)
    assert max(sizes) == 4 and np.allclose(narrow.scores, wide.scores, atol=1e-3)


@pytest.mark.parametrize("shown", [True, False])
def test_bars_have_a_line_and_a_name_each(shown: bool, model: ct.Model, capfd: pytest.CaptureFixture[str]) -> None:
    found = ct.discover(model, TASK.but(examples=8), method="eap", verify=2, progress=shown)
    found.curves(random=0)
    err = capfd.readouterr().err
    names = {line.split(":")[0].strip() for line in err.replace("\n", "\r").split("\r") if "%|" in line}
    assert names == ({"eap", "verifying", "curve"} if shown else set())
    assert "\n" not in err.strip() and "\x1b[A" not in err
