"""Reports: what stands in the page, its cells, and the rows of its nodes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from circuitry import CircuitryError, PatchingTable
from circuitry.drawing.circuit import Circuit, CircuitNode
from circuitry.html.formats import brief
from circuitry.reports import write_report
from circuitry.reports.nodes import panels
from circuitry.reports.run import Run
from circuitry.reports.words import findings, methods
from circuitry.results.cells import CellView, cells_of, heat_map
from support.run_folders import EVIL, RUN, STATES, SUMMARY, circuit, made, run_folder, said, tables, text_of


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run_folder(tmp_path_factory.mktemp("run")))


# --- what stands in the page -----------------------------------------------------------------------------------------------


def test_the_page_says_what_was_found_and_how(report: Path) -> None:
    page = said(text_of(report))
    for text in (
        "One component carries the behaviour; it has 93 % of the whole effect.", "B 20 %, B+1 80 %", "0.984",
        "States by position", STATES.replace(">", "&gt;"), "held  ssm_state of all layers", "Read so.", "As in the paper.",
        "784,000 parameters", "16 pairs of a clean and a corrupted prompt", "seed 3", "resample ablation", "noising",
        "bootstrap", "sign-flip permutation test", "Benjamini and Hochberg", "8 randomly drawn nodes", "torch 2.13.0",
        "arXiv:2410.06672", RUN["command"],
    ):  # fmt: skip
        assert text in page, text
    assert page.index('id="summary"') < page.index('id="circuit"') < page.index('id="experiment-1"') < page.index('id="methods"')


def test_only_what_a_suite_follows_is_cited(tmp_path: Path) -> None:
    page = text_of(write_report(run_folder(tmp_path, cites="")))
    assert "2410.06672" not in page and "The experiments follow" not in page


def test_tables_that_were_planned_and_not_begun_are_named(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, state="running", tables=["states"], planned=["states", "later"])
    assert "Missing tables: later." in text_of(write_report(folder))


def test_a_complete_run_lacks_nothing_that_it_left_out(tmp_path: Path) -> None:
    """A table for another architecture was planned and not made."""
    page = text_of(write_report(run_folder(tmp_path, planned=["states", "heads"])))
    assert "Missing tables" not in page and "incomplete" not in page


def test_links_to_files_lead_somewhere(report: Path) -> None:
    linked = re.findall(r'href="(tables/[^"]+)"', text_of(report))
    assert len(linked) == 10 and all((report.parent / link).is_file() for link in linked)


def test_links_inside_the_page_lead_somewhere(report: Path) -> None:
    page = text_of(report)
    wanted, ids = set(re.findall(r'href="#([^"]*)"', page)), re.findall(r'\bid="([^"]*)"', page)
    assert wanted <= set(ids) and len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_page(report: Path, tmp_path: Path) -> None:
    assert text_of(write_report(run_folder(tmp_path))) == text_of(report)


def test_everything_is_escaped(tmp_path: Path) -> None:
    cells = [{EVIL: EVIL, "b": b} for b in (EVIL, "x")]
    evil = made(cells, np.ones((2, 4)), title=EVIL, path=EVIL, plan=EVIL, note=EVIL, paths={EVIL: EVIL}, task=EVIL)
    figures = [{"name": "figure13", "title": EVIL, "caption": EVIL}]
    settings: dict[str, Any] = {"model": EVIL, "suite": EVIL, "task": EVIL, "settings": {EVIL: EVIL}, "figures": figures}
    folder = run_folder(tmp_path, {"evil": evil}, **settings)
    (folder / "circuit.json").write_text(Circuit(EVIL, (EVIL,), (CircuitNode(EVIL, EVIL, 0, 1.0),), (), EVIL).to_json())
    (folder / "summary.json").write_text(json.dumps({**SUMMARY, "verdict": EVIL, "notes": [EVIL], "offsets": {EVIL: 1.0}}))
    page = text_of(write_report(folder))
    assert page.count("<script>") == 1 and "<script>window.hacked" not in page
    assert "&lt;script&gt;window.hacked" in page


def test_a_big_run_stays_under_five_megabytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    heads = [{"distance": d, "layer": layer, "head": h} for d in (8, 16) for layer in range(30) for h in range(9)]
    many = {f"heads{n}": made(heads, rng.normal(0, 1, (540, 8)), path="head[{layer},{head}] @ END -> logits") for n in range(6)}
    folder = run_folder(tmp_path, many, figures=[{"name": f"figure{n}", "title": "F"} for n in range(9)])
    for n in range(9):
        (folder / "figures" / f"figure{n}.svg").write_bytes(rng.bytes(450_000))
        (folder / "figures" / f"figure{n}.png").write_bytes(rng.bytes(50_000))
    written = write_report(folder)
    assert 3_000_000 < written.stat().st_size < 5_000_000
    assert text_of(written).count("data:image/svg+xml;base64") == 5 and "data:image/png;base64" in text_of(written)


def test_a_run_that_was_stopped_is_reported_as_such(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, state="running", tables=["states", "later", "broken"])
    (folder / "tables" / "broken.json").write_text('{"rows": ')
    for name in ("summary.json", "circuit.json"):
        (folder / name).unlink()
    page = text_of(write_report(folder))
    assert "This run is incomplete" in page and "Missing tables: later, broken." in page
    assert "States by position" in page and 'id="circuit"' not in page and "This run has no summary" in page


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", None, "it has no run.json; 'circuitry run SUITE --model MODEL' makes one"),
        ("run.json", "{", "is not JSON"),
        ("run.json", "[]", "must hold a JSON object, not a list"),
        ("run.json", '{"model": "m"}', "does not say state, tables"),
        ("tables/states.json", None, "lists the table 'states' but has no states.json"),
        ("tables/states.json", "{}", "does not hold a patching table"),
        ("summary.json", "x", "is not JSON"),
        ("circuit.json", "{}", "this JSON does not describe a circuit"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    target = run_folder(tmp_path) / file
    target.unlink() if content is None else target.write_text(content)
    with pytest.raises(CircuitryError, match=re.escape(message)):
        write_report(tmp_path)


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys; from circuitry.reports import write_report; write_report(sys.argv[1]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, str(run_folder(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout == "False\n"


def test_findings_in_words() -> None:
    two = [*SUMMARY["components"], {**SUMMARY["components"][0], "node": "ssm_state[2]"}]
    assert findings({"components": two, "explained": None, "verdict": "off by one.\nOnce"}) == [
        "2 components carry the behaviour.",
        "off by one.",
        "Once.",
    ]
    assert "; the 1 state has 98 % of" in findings({"components": two, "explained": 0.98, "together": "the 1 state"})[0]
    places = [{**SUMMARY["components"][0], "node": f"(h[1] @ B+{n}, h[2] @ B)"} for n in (1, 2)]
    assert findings({"components": places})[0] == "One component carries the behaviour.", "at two places it is still one"
    assert len(findings({"components": two, "offsets": None})) == 1, "nobody looked where it is written"
    assert "No write position" in findings({"components": two, "offsets": {}})[1]
    assert (
        findings({"components": two, "explained": 1.01})[0]
        == "2 components carry the behaviour; these together have 101 % of the whole effect."
    )


def test_methods_name_every_value_of_a_stack() -> None:
    posed = {d: {"name": "induction", "options": {"distance": d, "corruption": "B"}} for d in (8, 16)}
    stacked = PatchingTable.stack({d: made([{}], np.ones((1, 4)), task=posed[d]) for d in posed}, "distance")
    assert "Prompts: task induction (distance=8 or 16, corruption='B');" in methods(Run(Path(), RUN, {"one": stacked}))


def test_methods_name_the_tasks_that_the_tables_had() -> None:
    posed = [{"name": "induction", "options": {"distance": 8, "corruption": c}} for c in "AB"]
    one, two = (made([{"distance": d} for d in (8, 16)], np.ones((2, 4)), task=task) for task in posed)
    assert "Prompts: task induction (distance=8 or 16, corruption='A' or 'B');" in methods(
        Run(Path(), RUN, {"one": one, "two": two})
    )


# --- cells and nodes -------------------------------------------------------------------------------------------------------


def test_a_cells_tip_has_its_numbers() -> None:
    cell = cells_of(tables()["writes"])[1]
    lines = dict(line.split(": ", 1) for line in cell.tip.splitlines())
    assert lines["layer"] == "1" and lines["mean effect"] == "−5.00" and lines["normalized effect"] == "50 %"
    assert lines["prompts"] == "16" and lines["stronger than"] == "100 % of random nodes" and lines["q"] == "< 0.001"
    assert float(lines["95 % interval"].split(" to ")[0].replace("−", "-")) == pytest.approx(-5, abs=0.02)
    assert cell.found and not cells_of(tables()["states"])[0].found


def test_cells_without_an_interval_say_less() -> None:
    (cell,) = cells_of(made([{}], [[1.0]]))
    assert "interval" not in cell.tip and "random" not in cell.tip and not cell.found
    (unknown,) = cells_of(made([{}], [[float("nan")]]))
    assert unknown.tip.startswith("mean effect: not measured")


@given(st.lists(st.tuples(*[st.sampled_from([0, 1, "x"])] * 3), unique=True, min_size=1))
def test_every_cell_has_its_place_in_the_grid(places: list[tuple[Any, ...]]) -> None:
    cells = [CellView(str(n), dict(zip("abc", place, strict=True)), 1, 0, 0, 0, 0, 0, 0, 1) for n, place in enumerate(places)]
    columns, rows = heat_map(cells, "abc")
    shown = [cell for row in rows for cell in row.cells if cell]
    assert sorted(cell.anchor for cell in shown) == sorted(cell.anchor for cell in cells)
    assert all(str(cell.values["c"]) == column for row in rows for cell, column in zip(row.cells, columns, strict=True) if cell)
    assert [sum(row.heads[axis][1] for row in rows) for axis in (0, 1)] == [len(rows)] * 2, "row heads cover all rows once"


@given(st.floats(-500, 500))
def test_brief_numbers_are_the_number(value: float) -> None:
    assert float(brief(value).replace("−", "-")) == pytest.approx(value, abs=0.00501 if abs(value) < 9.9 else 0.501)


def test_a_nodes_rows_are_the_cells_whose_path_names_it() -> None:
    known = [(table, cells_of(table, n)) for n, table in enumerate(tables().values(), 1)]
    found = {panel.node.name: panel for panel in panels(circuit(), known)}
    state = found["ssm_state[1]"]
    assert {n: [c.values.get("position") for c in group] for n, group in state.groups.items()}.keys() == {1, 3}
    assert {c.values["layer"] for c in state.groups[1]} == {1}, "frozen states do not count"
    assert state.groups[1][0].values["position"] == "B+1", "the strongest first"
    assert {n: len(group) for n, group in found["ssm_in[1] @ B+1"].groups.items()} == {2: 1}
    assert found["keys of these heads"].total == 0 and found["logits"].total == 6 + 2 + 1 + 2
    heads = {panel.node.name: panel for panel in panels(circuit(head=True), known)}
    assert [c.values for c in heads["head[0,1] @ B"].groups[5]] == [{"port": "k"}], "each value of the axis has its own path"
    assert len(heads["head[1,0]"].groups[5]) == 2, "its ports count"
    elsewhere = Circuit("", ("A",), (CircuitNode("head[0,1] @ A", "A", 0, 1.0),), ())
    assert panels(elsewhere, known)[0].total == 0, "another position is another node"
