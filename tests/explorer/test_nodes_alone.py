"""A suite without arrows, as on custom prompts: its nodes stand where their paths patch them, below the logits; the page says how to find edges."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from circuitry.drawing.circuit import Circuit
from circuitry.explorer import write_explorer
from circuitry.explorer.data import run_data
from support.browsing import Open
from support.command import circuitry
from support.explored_runs import custom
from support.no_pictures import no_pictures
from support.run_folders import SUMMARY, made, run_folder, tables
from support.short_discovery import shorten

if TYPE_CHECKING:
    from playwright.sync_api import Page

MODELS = ("bundled:gpt_neox", "bundled:mamba")


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def patched_at(folder: Path, component: dict[str, Any]) -> str:
    """The position that a component's path names, by the text of the path and the axes in the table's file."""
    table = json.loads((folder / "tables" / f"{component['table']}.json").read_text())["provenance"]
    axes = list(lines(folder / "tables" / f"{component['table']}-statistics.csv")[0])
    position = re.split(r" -> ", table["path"])[0].split(" @ ")[1]
    return str(component["cell"][axes.index("position")]) if position == "{position}" else position


def changed(folder: Path, components: list[dict[str, Any]], **more: Any) -> Path:
    """A made-up run without a circuit, with these components."""
    run_folder(folder, **{"tables": list(tables()), **more.pop("run", {})})
    (folder / "circuit.json").unlink()
    (folder / "summary.json").write_text(json.dumps({**SUMMARY, "components": components, **more}))
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_components_stand_where_their_paths_patch_them(name: str) -> None:
    data, summary = run_data(custom(name)), json.loads((custom(name) / "summary.json").read_text())
    assert summary["components"]
    told = {component["node"]: patched_at(custom(name), component) for component in summary["components"]}
    assert {node["name"]: node["position"] for node in data["nodes"] if node["name"] != "logits"} == told
    assert all("@" not in node["label"] for node in data["nodes"]), "the column says where"


def test_columns_are_in_the_order_of_the_text() -> None:
    data = run_data(custom())
    seen = json.loads((custom() / "explorer.json").read_text())
    where = [np.mean([prompt["at"][name] for prompt in seen["prompts"]]) for name in data["positions"]]
    assert len(where) > 1 and where == sorted(where) and data["positions"][-1] == "END"


def test_attention_is_saved_at_every_position_of_the_task() -> None:
    """A head at END is about what END attends to, which need not be a component's position."""
    patterns = json.loads((custom() / "explorer.json").read_text())["patterns"]
    assert patterns and all(pattern["positions"] == ["IO", "S2", "END"] for pattern in patterns.values())


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_are_above_all_with_the_whole_effect(name: str) -> None:
    data = run_data(custom(name))
    logits = next(node for node in data["nodes"] if node["name"] == "logits")
    assert logits["position"] == "END" and logits["effect"] == 1
    assert all(node["row"] < logits["row"] for node in data["nodes"] if node is not logits)
    # After the last layer, the stream at END is all that the answer is read from: patching it exchanges the whole prompt.
    rows = lines(custom(name) / "tables" / "stream.csv")
    gaps = [float(row["source"]) - float(row["base"]) for row in rows if (row["layer"], row["position"]) == ("4", "END")]
    told = next(
        row for row in lines(custom(name) / "tables" / "stream-statistics.csv") if (row["layer"], row["position"]) == ("4", "END")
    )
    assert len(gaps) == 8 and math.isclose(logits["whole"]["mean"], np.mean(gaps), rel_tol=1e-6)
    assert np.allclose(logits["prompts"], np.array(gaps) / np.mean(gaps), rtol=1e-4)
    assert np.allclose([logits["whole"]["low"], logits["whole"]["high"]], [float(told["low"]), float(told["high"])], rtol=1e-4)
    assert logits["whole"]["unit"] == "change of logit(answer) - logit(foil)"


def test_a_node_that_was_patched_at_all_tokens_has_a_column_that_says_so(tmp_path: Path) -> None:
    components = [
        {"node": "mlp[0]", "role": "mlps", "normalized": 0.5, "position": ""},
        {"node": "mlp[1] @ B", "role": "mlps", "normalized": 0.4, "position": ""},
        {"node": "(mlp[1] @ B, mlp[0])", "role": "mlps", "normalized": 0.9, "position": ""},
        {"node": "every head but one", "role": "heads", "normalized": 0.3, "position": ""},
    ]
    data = run_data(changed(tmp_path, components))
    columns = {node["name"]: node["position"] for node in data["nodes"]}
    assert columns == {
        "mlp[0]": "every position", "mlp[1] @ B": "B", "(mlp[1] @ B, mlp[0])": "several positions",
        "every head but one": "position not known", "logits": "END",
    }  # fmt: skip
    assert data["positions"][-1] == "END"


def test_no_logits_are_drawn_above_tables_that_end_elsewhere(tmp_path: Path) -> None:
    folder = changed(tmp_path, [{"node": "h[0]", "role": "", "normalized": 0.5, "position": "B"}])
    for file in (folder / "tables").glob("*.json"):
        file.unlink()
    made([{}], np.ones((1, 16)), path="h[0] @ B -> h[1] @ END").to_json(folder / "tables" / "states.json")
    (folder / "run.json").write_text(json.dumps({**json.loads((folder / "run.json").read_text()), "tables": ["states"]}))
    assert [node["name"] for node in run_data(folder)["nodes"]] == ["h[0]"]


# --- where there are no edges ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_page_has_a_command_that_finds_edges_when_pasted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = run_data(custom(name))["without_edges"]
    assert told["text"] == "This suite measures nodes one by one, and not the edges between them."
    page = write_explorer(custom(name)).read_text()
    assert told["text"] in page and f"<code>{told['command']}</code>" in page
    words = shlex.split(told["command"])
    assert words[:3] == ["circuitry", "discover", name]
    monkeypatch.chdir(custom(name).parent.parent)
    shorten(monkeypatch)
    with no_pictures():
        said = circuitry(*words[1:])
    folder = Path(re.findall(r"^edges: (.*)$", said, re.M)[0]).parent
    found = json.loads((folder / "run.json").read_text())["identity"]
    assert found["inputs"] == json.loads((custom(name) / "run.json").read_text())["identity"]["inputs"], "on the same prompts"
    assert run_data(folder)["edges"]


def test_a_circuit_with_edges_needs_no_command(tmp_path: Path) -> None:
    assert run_data(run_folder(tmp_path))["without_edges"] is None


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({}, "This suite found no node above its thresholds."),
        ({"undecided": "6 examples"}, "This suite found no node, because there are too few examples (6 examples)."),
    ],
)
def test_a_run_that_found_nothing_says_so_with_the_command(tmp_path: Path, more: dict[str, str], text: str) -> None:
    folder = changed(tmp_path, [], run={"edges_command": "circuitry discover m --task t"}, **more)
    (folder / "circuit.json").write_text(Circuit("nothing", ("A", "END"), (), ()).to_json())
    data = run_data(folder)
    assert data["without_edges"] == {"text": text, "command": "circuitry discover m --task t"}
    assert [node["name"] for node in data["nodes"]] == ["logits"]


def test_where_exchanging_the_prompt_changes_nothing_there_is_no_command(tmp_path: Path) -> None:
    folder = changed(tmp_path, [])
    for name, table in tables().items():
        table.frame["source"] = table.frame["base"]
        table.to_json(folder / "tables" / f"{name}.json")
    data = run_data(folder)
    assert data["without_edges"]["command"] == "" and "nothing to find" in data["without_edges"]["text"]
    assert [node["effect"] for node in data["nodes"]] == [None], "and nothing is called the whole effect"


def test_a_run_of_an_earlier_version_has_the_command_without_its_options(tmp_path: Path) -> None:
    folder = changed(tmp_path, [], run={"task": {"name": "ioi", "options": {}, "examples": 8, "seed": 0}})
    assert run_data(folder)["without_edges"]["command"] == "circuitry discover bundled:mamba --task ioi"


# --- in a browser ----------------------------------------------------------------------------------------------------------


def columns(page: Page) -> dict[str, tuple[float, float]]:
    """The left and the right end of every column, by the lines between them."""
    names = page.locator(".axis tspan.position").all_text_contents()
    starts = page.locator(".axis line").evaluate_all("all => all.map(line => line.getBoundingClientRect().x)")
    end = page.locator("svg.graph").evaluate("svg => svg.getBoundingClientRect().right")
    return dict(zip(names, zip(starts, [*starts[1:], end], strict=True), strict=True))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("width", [1280, 400])
def test_boxes_are_inside_the_columns_of_their_tokens(show: Open, name: str, width: int) -> None:
    page, data = show(write_explorer(custom(name)), width=width), run_data(custom(name))
    at = columns(page)
    for node in data["nodes"]:
        box = page.locator(f'g.node[aria-label^="{node["label"]} at {node["position"]}"]').bounding_box()
        left, right = at[node["position"]]
        assert box and left <= box["x"] and box["x"] + box["width"] <= right
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "edges" not in page.locator("#kept").inner_text()


def test_nodes_are_listed_where_there_are_no_edges(show: Open) -> None:
    page, data = show(write_explorer(custom())), run_data(custom())
    effects = sorted((node["effect"] for node in data["nodes"] if node["name"] != "logits"), reverse=True)
    shown = [text.replace("−", "-") for text in page.locator("#panel tbody td:nth-child(2)").all_inner_texts()]
    assert [float(text) for text in shown] == [round(effect, 2) for effect in effects][:8]
    page.locator("#list summary").click()
    assert page.locator("#list summary").inner_text() == "The drawn nodes as a table"
    assert page.locator("#list tbody tr").count() == len(data["nodes"])


def test_the_logits_say_what_is_measured(show: Open) -> None:
    page, logits = show(write_explorer(custom())), run_data(custom())["nodes"][-1]
    page.locator('g.node[aria-label^="logits"]').click()
    names, values = (page.locator(f"#panel .facts {tag}").all_text_contents() for tag in ("dt", "dd"))
    said = dict(zip(names, values, strict=True))
    low, mean, high = (f"{logits['whole'][key]:+.2f}".replace("-", "−") for key in ("low", "mean", "high"))
    assert said["whole effect"] == f"{mean} ({low} to {high})" and said["unit"] == logits["whole"]["unit"]
    assert mean in page.locator("#legend").inner_text()
