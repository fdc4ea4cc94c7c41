"""Reports: what stands in the page, that a browser shows it and answers to pointer and keys, and that it asks for nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from circuitry import CircuitryError, PatchingTable
from circuitry.results.circuit import Circuit, CircuitEdge, CircuitNode
from circuitry.results.report import write_comparison, write_report
from circuitry.results.report.cells import Cell, cells_of, heat_map
from circuitry.results.report.formats import brief
from circuitry.results.report.nodes import panels
from circuitry.results.report.roles import aligned
from circuitry.results.report.run import Run
from circuitry.results.report.words import findings, methods

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
EVIL = "<script>window.hacked = 1</script>\"'&amp;"

# --- a run folder ----------------------------------------------------------------------------------------------------------

LONG = ("circuit", "circuit without all heads that write the name movers' v but head[2,0]")
STATES = "ssm_state[{layer}] @ {position} -> logits freezing ssm_state"
RUN: dict[str, Any] = {
    "suite": "induction", "about": "Which components complete a repeated pair", "model": "bundled:mamba", "architecture": "mamba",
    "parameters": 784000, "dtype": "float32", "device": "cpu", "task": "<task induction: distance=8>", "state": "complete",
    "settings": {"examples": 16, "seed": 3, "distances": [8, 16]}, "command": "circuitry run induction --model bundled:mamba",
    "versions": {"circuitry-lm": "0.1.0", "torch": "2.13.0"}, "started": "2026-11-22T15:30:00+00:00",
    "figures": [{"name": "figure13", "title": "Split cells", "caption": "As in the paper."}, {"name": "absent", "title": "Lost"}],
}  # fmt: skip
SUMMARY: dict[str, Any] = {
    "model": "bundled:mamba", "architecture": "mamba", "explained": 0.93, "offset": "B+1", "offsets": {"B": 0.2, "B+1": 0.8},
    "components": [{"node": "ssm_state[1]", "role": "state", "share": 0.5, "position": "B+1"}],
    "baseline": {"top-1 accuracy": 0.984}, "notes": ["components have at least 5% of the effect"],
}  # fmt: skip


def circuit(head: bool = False) -> Circuit:
    """A state that is written at B+1 and read at END, or the heads that do the same."""
    carries, writes = ("head[1,0]", "head[0,1] @ B") if head else ("ssm_state[1]", "ssm_in[1] @ B+1")
    roles = ("head", "head") if head else ("state", "write_input")
    nodes = (
        CircuitNode(writes, "B" if head else "B+1", 0.3, 0.4, roles[1]),
        CircuitNode(carries, "END", 1.4, 0.5, roles[0]),
        CircuitNode("keys of these heads", "END", 1.1, float("nan"), "mlp"),
        CircuitNode("logits", "END", 4, 1.0, "logits"),
    )
    edges = (CircuitEdge(writes, carries, 0.4, "kept"), CircuitEdge(carries, "logits", 0.5))
    return Circuit("A circuit", ("A", "B", "B+1", "END"), nodes, edges, "share of the effect")


def made(cells: list[dict[str, Any]], effect: Any, random: pd.DataFrame | None = None, **about: Any) -> PatchingTable:
    examples = np.asarray(effect).shape[1]
    about = {"seed": 3, "intervention": "resample", "base": "clean", "task": "<task induction: distance=8>", **about}
    return PatchingTable.of(
        cells, np.asarray(effect, float), np.full(examples, 10.0), np.full(examples, 0.0), "change of the logit", about, random
    )


def tables(seed: int = 0) -> dict[str, PatchingTable]:
    """A heat map whose cell (1, B+1) is -5 for sure, bars with random nodes, one cell, and heads by label."""
    rng = np.random.default_rng(seed)
    grid = [{"layer": layer, "position": position} for layer in (0, 1) for position in ("B", "B+1", "B+2")]
    effects = rng.normal(0, 0.1, (6, 16))
    effects[4] = -5 + rng.normal(0, 0.01, 16)
    random = pd.DataFrame({
        "draw": np.repeat(range(8), 16), "node": "ssm_state[0] @ END-3", "example": np.tile(range(16), 8),
        "effect": rng.normal(0, 0.2, 128), "base": 10.0, "other": 0.0,
    })  # fmt: skip
    ports = {
        "k": "head[0,1] @ B -> head[1,0].k freezing head -> logits",
        "v": "head[0,2] @ B -> head[1,0].v freezing head -> logits",
    }
    return {
        "states": made(grid, effects, title="States by position", path=STATES, plan="held  ssm_state of all layers", note="Read so."),
        "writes": made(
            [{"layer": n} for n in (0, 1)], [effects[0], effects[4]], random,
            title="Scan input", path="ssm_in[{layer}] @ B+1 -> logits freezing ssm_state except ssm_state[{layer}]",
        ),
        "all": made([{}], effects[4:5], title="Together", path="(ssm_state[0] @ B, ssm_state[1] @ B) -> logits"),
        "sets": made([{"set": name} for name in LONG], effects[:2], title="Sets of nodes"),
        "senders": made([{"port": p} for p in ports], effects[3:5], title="Senders", path=ports["k"], paths=ports),
    }  # fmt: skip


def run_folder(folder: Path, these: dict[str, PatchingTable] | None = None, head: bool = False, **changes: Any) -> Path:
    """A run folder as the suites write it."""
    these = tables() if these is None else these
    for name, table in these.items():
        table.to_json(folder / "tables" / f"{name}.json")
        table.to_csv(folder / "tables" / f"{name}.csv")
    (folder / "run.json").write_text(json.dumps({**RUN, "tables": list(these), **changes}))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    (folder / "circuit.json").write_text(circuit(head).to_json())
    (folder / "figures").mkdir()
    (folder / "figures" / "figure13.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"/>')
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(run_folder(tmp_path_factory.mktemp("run")))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# --- what stands in the page -----------------------------------------------------------------------------------------------


def test_the_page_says_what_was_found_and_how(report: Path) -> None:
    page = text_of(report)
    for said in (
        "One component carries the behaviour; it has 93 % of the whole effect.", "B 20 %, B+1 80 %", "0.984",
        "States by position", STATES.replace(">", "&gt;"), "held  ssm_state of all layers", "Read so.", "As in the paper.",
        "784,000 parameters", "16 pairs of a clean and a corrupted prompt", "seed 3", "resample ablation", "noising",
        "bootstrap", "sign-flip permutation test", "Benjamini and Hochberg", "8 randomly drawn nodes", "torch 2.13.0",
        "arXiv:2410.06672", RUN["command"],
    ):  # fmt: skip
        assert said in page, said
    assert page.index('id="summary"') < page.index('id="circuit"') < page.index('id="experiment-1"') < page.index('id="methods"')


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
    assert "This run is incomplete" in page and "Not there: later, broken." in page
    assert "States by position" in page and 'id="circuit"' not in page and "There is no summary" in page


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", None, "it has no run.json; 'circuitry run SUITE --model MODEL' makes one"),
        ("run.json", "{", "is no JSON"),
        ("run.json", "[]", "holds no object but list"),
        ("run.json", '{"model": "m"}', "does not say state, tables"),
        ("tables/states.json", None, "lists the table 'states' but has no states.json"),
        ("tables/states.json", "{}", "is no patching table"),
        ("summary.json", "x", "is no JSON"),
        ("circuit.json", "{}", "this JSON is no circuit"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    target = run_folder(tmp_path) / file
    target.unlink() if content is None else target.write_text(content)
    with pytest.raises(CircuitryError, match=re.escape(message)):
        write_report(tmp_path)


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from circuitry.results.report import write_report; write_report(sys.argv[1]); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(run_folder(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    assert done.stdout == "False\n"


def test_findings_in_words() -> None:
    two = [*SUMMARY["components"], SUMMARY["components"][0]]
    assert findings({"components": two, "explained": None, "verdict": "off by one.\nOnce"}) == [
        "2 components carry the behaviour.",
        "off by one.",
        "Once.",
    ]
    assert (
        findings({"components": two, "explained": 1.01})[0]
        == "2 components carry the behaviour; these together have 101 % of the whole effect."
    )


def test_methods_name_the_tasks_that_the_tables_had() -> None:
    posed = "<task induction: distance={}, corruption='{}'>"
    one, two = (made([{"distance": d} for d in (8, 16)], np.ones((2, 4)), task=posed.format(8, c)) for c in "AB")
    assert "Prompts: task induction (distance=8 or 16, corruption='A' or 'B');" in methods(
        Run(Path(), RUN, {"one": one, "two": two})
    )


# --- cells and nodes -------------------------------------------------------------------------------------------------------


def test_a_cells_tip_has_its_numbers() -> None:
    cell = cells_of(tables()["writes"])[1]
    lines = dict(line.split(": ", 1) for line in cell.tip.splitlines())
    assert lines["layer"] == "1" and lines["mean effect"] == "−5.00" and lines["share of the whole"] == "50 %"
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
    cells = [Cell(str(n), dict(zip("abc", place, strict=True)), 1, 0, 0, 0, 0, 0, 0, 1) for n, place in enumerate(places)]
    columns, rows = heat_map(cells, "abc")
    shown = [cell for row in rows for cell in row.cells if cell]
    assert sorted(cell.anchor for cell in shown) == sorted(cell.anchor for cell in cells)
    assert all(str(cell.values["c"]) == column for row in rows for cell, column in zip(row.cells, columns, strict=True) if cell)
    assert [sum(row.heads[axis][1] for row in rows) for axis in (0, 1)] == [len(rows)] * 2, "row heads cover all rows once"


@given(st.floats(-500, 500))
def test_brief_numbers_are_the_number(value: float) -> None:
    assert float(brief(value).replace("−", "-")) == pytest.approx(value, abs=0.005 if abs(value) < 9.9 else 0.5)


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


# --- comparisons -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    other = tables(seed=1)
    other["states"].frame["effect"] *= 0.5
    other["writes"] = made([{"head": 0}], np.ones((1, 16)))
    other["own"] = other.pop("all")
    for table in other.values():
        table.about["model"] = "other"
    one = run_folder(folder / "one")
    two = run_folder(folder / "two", other, head=True, model="bundled:gpt_neox")
    return write_comparison(one, two, folder / "out")


def test_a_comparison_has_both(comparison: Path) -> None:
    page = text_of(comparison)
    for said in ("bundled:mamba", "bundled:gpt_neox", "keeps it and hands it to the answer", "the tables have different axes"):
        assert said in page, said
    assert sorted(file.name for file in (comparison.parent / "tables").glob("*.csv")) == ["senders.csv", "sets.csv", "states.csv"]
    assert all((comparison.parent / link).is_file() for link in re.findall(r'href="(tables/[^"]+)"', page))
    strongest = re.search(r"<td>layer 1, position B\+1</td>(.*?)</tr>", page, re.S)
    assert strongest and re.findall(r"[+−][\d.]+", strongest[1])[:3] == ["+0.50", "+0.25", "+0.25"]


def test_circuits_are_aligned_by_role() -> None:
    parts = {part.name: part for part in aligned([circuit(), circuit(head=True)], [{}, {}])}
    sides = {name: [[node.label for node in side] for side in part.sides] for name, part in parts.items()}
    assert sides == {
        "the answer": [["logits"], ["logits"]],
        "keeps it and hands it to the answer": [["ssm_state[1]"], ["head[1,0]"]],
        "brings earlier tokens together and writes them": [["ssm_in[1]"], ["head[0,1]"]],
        "mlp": [["keys of these heads"], ["keys of these heads"]],
    }


def test_the_summarys_word_for_a_node_is_finer_than_its_family() -> None:
    roles = {"head[1,0]": "S-inhibition head", "head[0,1]": "induction head"}
    said = {"components": [{"node": node, "role": role} for node, role in roles.items()]}
    names = [part.name for part in aligned([circuit(head=True)], [said])]
    assert names == ["the answer", "S-inhibition head", "mlp", "induction head"], "only an induction head at END hands over"
    written = {"components": [{"node": "head[1,0]", "role": "writes the answering heads' v"}]}
    assert aligned([circuit(head=True)], [written])[-1].sides[0][0].name == "head[1,0]"


def test_two_runs_of_one_model_are_told_apart_by_folder(tmp_path: Path) -> None:
    first, second = (run_folder(tmp_path / name, {name: tables()["all"]}) for name in ("first-run", "second-run"))
    for name in ("circuit.json", "summary.json"):
        (second / name).unlink()
    page = text_of(write_comparison(first, second, tmp_path / "out"))
    assert "<title>first-run and second-run</title>" in page
    assert "No table has the same name in both runs" in page and "There is no circuit" in page and "There is no summary" in page


# --- in a browser ----------------------------------------------------------------------------------------------------------

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def show(browser: Browser) -> Iterator[Open]:
    """Opens a page, and checks in the end that it complained of nothing and asked for nothing but itself."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def opened(file: Path, width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith((file.as_uri(), "data:")) else complaints.append(asked.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def tip(page: Page) -> dict[str, str]:
    names, values = (page.locator(f"#tip {tag}").all_text_contents() for tag in ("dt", "dd"))
    return dict(zip(names, values, strict=True))


STRONG = "#cell-1-4"
"""Layer 1 at B+1, which has an effect of -5."""


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_hovering_shows_a_cells_numbers(show: Open, report: Path, scheme: Any) -> None:
    page = show(report, color_scheme=scheme)
    assert not page.locator("#tip").is_visible()
    page.hover(STRONG)
    said = tip(page)
    assert (said["layer"], said["position"], said["mean effect"]) == ("1", "B+1", "−5.00")
    box, cell = page.locator("#tip").bounding_box(), page.locator(STRONG).bounding_box()
    assert box and cell and 0 <= box["x"] <= 1280 - box["width"] and (box["y"] + box["height"] <= cell["y"])
    page.hover("h1")
    assert not page.locator("#tip").is_visible()


@needs_browser
def test_keys_move_through_a_heat_map(show: Open, report: Path) -> None:
    page = show(report)
    page.focus("#cell-1-0")
    for key in ("ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert tip(page)["mean effect"] == "−5.00"
    assert page.evaluate("document.activeElement.id") == STRONG[1:]
    page.keyboard.press("Escape")
    assert not page.locator("#tip").is_visible()
    page.focus("#cell-2-0")
    page.keyboard.press("ArrowDown")
    assert tip(page)["layer"] == "1"


@needs_browser
def test_a_tap_shows_a_cells_numbers(show: Open, report: Path) -> None:
    page = show(report, width=400, has_touch=True)
    page.tap(STRONG)
    assert tip(page)["mean effect"] == "−5.00"


@needs_browser
def test_a_click_on_a_node_shows_its_rows(show: Open, report: Path) -> None:
    page = show(report)
    assert page.locator(".panel:visible").count() == 0
    page.locator("svg").scroll_into_view_if_needed()
    label = page.locator("svg text", has_text="ssm_state[1]").bounding_box()
    assert label
    page.mouse.click(label["x"] + label["width"] / 2, label["y"] + label["height"] / 2)  # on its letters
    panel = page.locator(".panel:visible")
    assert panel.count() == 1
    assert panel.locator("td a").first.inner_text() == "layer 1, position B+1"
    assert panel.locator("tbody").first.locator("td").all_inner_texts()[1:4:2] == ["−5.00", "50 %"]
    panel.locator("td a").first.click()
    assert tip(page)["mean effect"] == "−5.00", "a row leads to its cell"
    page.click("a.node[aria-label^='ssm_in[1]']")
    assert page.locator(".panel:visible td a").all_inner_texts() == ["layer 1"]
    page.click(".panel:visible .close")
    assert page.locator(".panel:visible").count() == 0


@needs_browser
def test_nodes_answer_to_keys(show: Open, report: Path) -> None:
    page = show(report)
    for key, row in (("Enter", 1), (" ", 0)):
        page.focus(f"a.node >> nth={row}")
        page.keyboard.press(key)
        assert page.locator(".panel:visible").count() == 1
        assert page.evaluate("document.activeElement.className") == "panel chosen"


@needs_browser
def test_effect_and_share(show: Open, report: Path) -> None:
    page = show(report)
    assert page.inner_text(STRONG) == "−5.00"
    before = page.locator(STRONG).evaluate("cell => getComputedStyle(cell).backgroundColor")
    page.check("#share-1")
    assert page.inner_text(STRONG) == "50 %"
    assert page.locator(STRONG).evaluate("cell => getComputedStyle(cell).backgroundColor") != before


@needs_browser
def test_cells_that_are_not_found_look_different(show: Open, report: Path) -> None:
    page = show(report)
    pictures = page.locator("#experiment-1 td.cell").evaluate_all("all => all.map(c => getComputedStyle(c).backgroundImage)")
    assert [n for n, picture in enumerate(pictures) if picture == "none"] == [4]


@needs_browser
def test_copying(show: Open, report: Path) -> None:
    page = show(report, permissions=["clipboard-read", "clipboard-write"])
    page.click("#experiment-1 .copy")
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == STATES


@needs_browser
def test_a_narrow_screen_is_enough(show: Open, report: Path, comparison: Path) -> None:
    for file in (report, comparison):
        page = show(file, width=400)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        sizes = page.locator("p, td, th, dd, li, code").evaluate_all(
            "all => all.map(e => parseFloat(getComputedStyle(e).fontSize))"
        )
        assert min(sizes) >= 12


@needs_browser
def test_printing(show: Open, report: Path) -> None:
    page = show(report)
    plan = page.locator("details pre").first
    page.hover(STRONG)
    assert not plan.is_visible()
    page.emulate_media(media="print")
    assert plan.is_visible()
    assert not page.locator("#tip, nav, .copy").filter(visible=True).count()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.emulate_media(media="screen")
    assert not plan.is_visible()


@needs_browser
def test_without_scripts_it_can_be_read(show: Open, report: Path) -> None:
    page = show(report, java_script_enabled=False)
    assert page.inner_text(STRONG) == "−5.00"
    assert "mean effect: −5.00" in str(page.get_attribute(STRONG, "title"))
    page.click("a.node[aria-label^='ssm_state[1]']")
    assert page.locator(".panel:visible").count() == 1
    page.check("#share-1")
    assert page.inner_text(STRONG) == "50 %"


@needs_browser
def test_nothing_that_got_into_the_page_can_run(show: Open, tmp_path: Path) -> None:
    page = show(write_report(run_folder(tmp_path, model=EVIL)))
    assert page.inner_text("h1") == EVIL
    assert page.evaluate("window.hacked") is None


@needs_browser
def test_the_comparison_works_in_a_browser(show: Open, comparison: Path) -> None:
    page = show(comparison)
    page.hover(STRONG)
    assert tip(page)["mean effect"] == "−5.00"
    assert page.inner_text(STRONG) == "50 %"
    left, right = (page.locator(f"#{id}").bounding_box() for id in ("cell-1-4", "cell-6-4"))
    assert left and right and left["x"] < right["x"] and abs(left["y"] - right["y"]) < 2, "side by side"
