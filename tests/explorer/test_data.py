"""The data of a page are those of the folder's files, which other code reads here."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import circuitry as ct
from circuitry import CircuitryError, PatchingTable
from circuitry.executing.activations import read
from circuitry.explorer import write_explorer, write_pair
from circuitry.explorer.data import run_data
from circuitry.explorer.observe import observe
from circuitry.explorer.page import MOST, fresh, script
from support.explored_runs import discovery, suite
from support.run_folders import EVIL, run_folder

VENDOR = Path(ct.__file__).parent / "explorer" / "vendor"


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def place(row: dict[str, str], axes: list[str]) -> str:
    return ", ".join(f"{axis} {row[axis]}" for axis in axes)


def table_files(folder: Path, name: str) -> tuple[dict[str, dict[str, str]], dict[str, list[float]]]:
    """Statistics by cell, and effects of every example by cell, from the CSV files of a table."""
    statistics, rows = lines(folder / "tables" / f"{name}-statistics.csv"), lines(folder / "tables" / f"{name}.csv")
    axes = list(rows[0])[: list(rows[0]).index("example")]
    effects: dict[str, list[float]] = {}
    for row in rows:
        effects.setdefault(place(row, axes), []).append(float(row["effect"]))
    return {place(row, axes): row for row in statistics}, effects


def near(value: float | None, text: str) -> bool:
    return (value is None and text == "") or (value is not None and math.isclose(value, float(text), rel_tol=1e-5, abs_tol=1e-9))


def test_rows_are_those_of_the_tables() -> None:
    data = run_data(suite())
    files = [table_files(suite(), table["name"]) for table in data["tables"]]
    assert len(data["rows"]) > 20
    for row in data["rows"]:
        statistics, effects = files[row["table"]]
        told = statistics[row["place"]]
        assert all(near(row[name], told[name]) for name in ("mean", "low", "high", "normalized", "q"))
        assert np.allclose(row["prompts"], effects[row["place"]], rtol=1e-4, atol=1e-8)


def test_a_nodes_effect_and_interval_are_of_a_cell_that_patches_it() -> None:
    data, circuit = run_data(suite()), json.loads((suite() / "circuit.json").read_text())
    assert [node["name"] for node in data["nodes"]] == [node["name"] for node in circuit["nodes"]]
    assert [node["effect"] for node in data["nodes"]] == [node["effect"] for node in circuit["nodes"]]
    heads = [node for node in data["nodes"] if node["name"].startswith("head[1,")]
    assert heads
    for node in heads:
        row = data["rows"][node["cell"]]
        layer, head = node["label"].removeprefix("head[").removesuffix("]").split(",")
        assert row["place"] == f"distance 8, layer {layer}, head {head}"
        scale = row["normalized"] / row["mean"]
        assert np.allclose(sorted((node["low"], node["high"])), sorted((row["low"] * scale, row["high"] * scale)), rtol=1e-4)
        assert math.isclose(np.mean(node["prompts"]), node["effect"], rel_tol=1e-3)


def test_the_whole_effect_is_of_the_prompts_that_are_shown() -> None:
    table = PatchingTable.from_json(suite() / "tables" / "heads_to_logits.json")
    frame = table.frame
    gaps = (frame["source"] - frame["base"])[(frame["distance"] == 8) & (frame["layer"] == 0) & (frame["head"] == 0)]
    assert np.allclose(run_data(suite())["whole_by_prompt"], gaps, rtol=1e-4)


def test_a_run_that_another_version_made_says_what_it_lacks(tmp_path: Path) -> None:
    data = run_data(run_folder(tmp_path))
    assert data["prompts"] == [] and set(data["lacking"]) == {"prompts", "patterns", "taps"}
    assert "circuitry run induction --model bundled:mamba" in data["lacking"]["patterns"]
    state = next(node for node in data["nodes"] if node["name"] == "ssm_state[1]")
    assert [series["positions"] for series in state["profile"]] == [["B", "B+1", "B+2"]]
    rows = [data["rows"][number]["place"] for number in state["profile"][0]["rows"]]
    assert rows == [f"layer 1, position {name}" for name in ("B", "B+1", "B+2")]


def test_edges_are_in_the_order_of_the_ranking_with_their_exact_effects() -> None:
    data, ranking = run_data(discovery()), lines(discovery() / "tables" / "ranking.csv")
    assert len(data["edges"]) == 300
    for edge, row in zip(data["edges"], ranking, strict=False):
        assert (edge["edge"], edge["position"]) == (row["edge"], row["position"])
        assert near(edge["effect"], row["attribution"])
        assert all(near(edge.get(name), row[name]) for name in ("exact", "low", "high", "q"))
    assert sum("exact" in edge for edge in data["edges"]) == 8


def test_edges_by_prompt_are_those_of_the_table() -> None:
    data, effects = run_data(discovery()), table_files(discovery(), "discovery")[1]
    first = data["edges"][0]
    cell = f"edge {first['edge']}, position {first['position']}, measure"
    assert np.allclose(first["prompts"], effects[f"{cell} attribution"], rtol=1e-4)
    assert np.allclose(first["exact_by_prompt"]["effects"], effects[f"{cell} exact"], rtol=1e-6)
    assert set(first["exact_by_prompt"]["examples"]) & set(data["examples"]) == set()


def test_curve_and_profiles_are_those_of_the_files() -> None:
    data, curve = run_data(discovery()), lines(discovery() / "curve.csv")
    assert data["curve"]["sizes"] == [int(row["edges"]) for row in curve]
    assert all(near(value, row["faithfulness"]) for value, row in zip(data["curve"]["faithfulness"], curve, strict=True))
    saved = json.loads((discovery() / "edges.json").read_text())["circuitry"]
    profile = data["profiles"]["head[1,0]"]
    assert profile["positions"] == saved["labels"]
    for row in profile["rows"]:
        assert "head[1,0]" in row["edge"]
        assert np.allclose(row["values"], saved["mean"][saved["items"].index(row["edge"])], rtol=1e-4, atol=1e-9)


def test_heads_outputs_are_their_saved_patterns_times_their_values() -> None:
    model, task = ct.load("bundled:gpt_neox"), ct.task("induction", distance=4, examples=3)
    prompts = task.prompts(model.vocabulary)
    seen = observe(model, prompts, ["head[1,0] @ END", "head[2,1]"], ["B", "END"])
    assert set(seen["patterns"]) == {"head[1,0]", "head[2,1]"}
    values = read(model, ["head[2,1].v", "head[2,1]"], prompts.clean)
    value, output = values.values()
    pattern = seen["patterns"]["head[2,1]"]
    size = prompts.length
    whole = np.stack([np.frombuffer(base64.b64decode(text), np.uint8).reshape(size, size) / 255 for text in pattern["prompts"]])
    assert np.allclose(whole @ value.numpy(), output.numpy(), atol=0.05 * float(output.abs().max()))
    at = [prompts.where[name] for name in ("B", "END")]
    means = [[np.mean([whole[i, q[i], k[i]] for i in range(3)]) for k in at] for q in at]
    assert np.allclose([row[:2] for row in pattern["mean"]], means, atol=0.003)
    assert np.allclose(np.sum(pattern["mean"], 1), 1, atol=1e-4)


def test_prompts_say_what_the_model_answers() -> None:
    model, task = ct.load("bundled:gpt_neox"), ct.task("induction", distance=4, examples=3)
    prompts = task.prompts(model.vocabulary)
    seen = observe(model, prompts, [], ["B", "END"], [4, 5, 9])["prompts"]
    assert [prompt["number"] for prompt in seen] == [4, 5, 9]
    for i, prompt in enumerate(seen):
        assert prompt["at"]["B"] == prompts.where["B"][i] and len(prompt["clean"]) == prompts.length
        assert prompt["clean"][prompt["at"]["B"]] == prompt["answer"] == prompt["clean_answers"][0][0]
        logits = model.hf(torch.from_numpy(prompts.clean[i : i + 1])).logits[0, -1]
        assert math.isclose(prompt["clean_answers"][0][1], float(logits.detach().softmax(-1).max()), rel_tol=1e-3)


def test_a_text_in_a_run_is_not_run(tmp_path: Path) -> None:
    page = write_explorer(run_folder(tmp_path, model=EVIL, command=EVIL)).read_text()
    assert "<script>window" not in page and page.count("<script>") == 1 and page.count("</script>") == 2


def test_the_drawing_library_is_what_was_vendored() -> None:
    told = json.loads((VENDOR / "vendored.json").read_text())
    assert {entry["file"] for entry in told} == {file.name for file in VENDOR.glob("*.js")}
    for entry in told:
        content = (VENDOR / entry["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"] and len(content) == entry["bytes"]
        assert "Permission to use, copy, modify" in (VENDOR / entry["licence_file"]).read_text()
        assert content.decode() in script()


def test_a_page_is_written_again_only_if_the_run_is_newer() -> None:
    page = write_explorer(suite())
    assert fresh(suite()) == page and page.stat().st_size < MOST
    record = suite() / "run.json"
    record.write_text(record.read_text())
    assert fresh(suite()) is None


def test_two_runs_need_two_folders() -> None:
    with pytest.raises(CircuitryError, match="name two folders"):
        write_pair(suite(), suite())


def test_matched_roles_are_linked() -> None:
    page = write_pair(suite(), suite("bundled:mamba"))
    data: dict[str, Any] = json.loads(page.read_text().split('id="data">')[1].split("</script>")[0])
    roles = {link["role"]: link["nodes"] for link in data["links"]}
    assert roles["the answer"] == [["logits"], ["logits"]]
    carries = roles["keeps it and hands it to the answer"]
    assert all(name.startswith("head") for name in carries[0]) and all(name.startswith("ssm_state") for name in carries[1])
