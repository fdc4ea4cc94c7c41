"""What the documents say of files that runs write, and of the sizes of these."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import circuitry as ct
from circuitry.drawing.circuit import Circuit, CircuitNode
from circuitry.reports import page, write_report
from circuitry.suites import Picture, SuiteResult, Summary
from support.pages import ROOT, blocks
from support.run_folders import run_folder


def _listed() -> set[str]:
    """The names of files that docs/report.md gives, the name of a table as NAME."""
    found = set()
    for row in (ROOT / "docs/report.md").read_text().partition("| in the folder |")[2].split("\n\n")[0].splitlines()[2:]:
        first, *others = re.findall(r"`([^`]+)`", row.split("|")[1])
        stem = first.rpartition(".")[0]
        found |= {first} | {f"{stem}{other}" if other.startswith(".") else other for other in others}
    return found


def test_a_run_folder_has_the_files_in_the_page_and_no_others(tmp_path: Path) -> None:
    table = ct.PatchingTable.of(
        [{"layer": 0}], np.ones((1, 8)), np.zeros(8), np.ones(8), "logit", {"path": "h[{layer}] -> logits"}
    )
    circuit = Circuit("c", ("A",), (CircuitNode("h[0]", "A", 0, 1.0),), ())
    drawn = {"own": Picture("Own", "", table.plot())}
    folder = SuiteResult({"states": table}, circuit, Summary("m", "mamba", [], 0.0, {}), drawn).save(tmp_path)
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    figures = {f"figures/own{end}" for end in (".svg", ".png")}
    by_a_model = {"explorer.json"}  # asked while it runs; a result that is saved has none
    listed = {text.replace("NAME", "states") for text in _listed()}
    assert by_a_model <= listed and files - figures == listed - {"figures/"} - by_a_model and figures <= files


def test_tables_and_figures_of_the_suites_are_those_in_the_page_on_the_paper() -> None:
    code = "".join(file.read_text() for file in (ROOT / "circuitry/suites").glob("*.py"))
    named = re.findall(r"`(?:tables|figures)/(\w[\w+]*?)(?:_IO)?(?:\.svg)?`", (ROOT / "docs/paper.md").read_text())
    assert len(named) == 7 and all(f'"{name}"' in code or f'f"{name}_' in code for name in [*named, "conv_edges", "write_ports"])


def test_a_report_is_as_large_as_the_page_says(tmp_path: Path) -> None:
    said = re.search(
        r"Its figures take ([\d.]+) MB at most.* less than half a kilobyte. So a report with up to ([\d,]+) cells stays under (\d) MB",
        " ".join((ROOT / "docs/report.md").read_text().split()),
    )
    assert said
    figures, cells, most = (float(text.replace(",", "")) for text in said.groups())
    sizes = []
    for layers in (16, 32):
        many = [{"layer": layer, "head": head} for layer in range(layers) for head in range(16)]
        effects = np.random.default_rng(0).normal(-3, 5, (len(many), 8))
        table = ct.PatchingTable.of(
            many, effects, np.full(8, 20.0), np.full(8, 4.0), "logit", {"path": "head[{layer},{head}] -> logits"}
        )
        report = write_report(run_folder(tmp_path / str(layers), {"heads": table})).read_text()
        without, places = re.subn(r'(id="examples-data">).+?(?=</script>)', r"\1", report)
        assert places == 1 and len(report.encode()) <= page._MOST < most * 1e6
        sizes.append(len(without.encode()))
    cell = (sizes[1] - sizes[0]) / 256
    assert 0 < cell < 512 and 0 <= figures * 1e6 - page._PICTURES * 4 / 3 < 1e5
    assert page._PICTURES * 4 / 3 + sizes[0] - 256 * cell + cells * 512 < most * 1e6


def test_the_code_on_real_models_in_the_page_on_matching_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less of everything, and a document that is longer than one of the models has positions."""
    [code] = [block.body for block in blocks(ROOT / "docs/mppc.md") if block.language == "py"]
    small = code.replace('"resid", "texts/"', '"resid[4]", "texts/", tokens=600, batch=64, expansion=1').replace(
        "1_000_000", "600"
    )
    assert small.count("600") == 2
    monkeypatch.chdir(tmp_path)
    Path("texts").mkdir()
    Path("texts/one.txt").write_text("A sentence of some words. " * 300)
    names: dict[str, Any] = {}
    exec(compile(small, "docs/mppc.md", "exec"), names)
    assert np.diff(names["text"].starts).max() == 512 and (tmp_path / "matches/forward.csv").is_file()
