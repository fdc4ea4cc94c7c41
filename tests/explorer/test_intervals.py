"""What a circuit's numbers are from: each edge and node shows the interval of the cell of a table, which is read from its file here."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from circuitry.drawing.circuit import Circuit, CircuitEdge, CircuitNode
from circuitry.explorer import write_explorer
from circuitry.explorer.data import run_data
from support.browsing import Open
from support.explored_runs import suite
from support.run_folders import made, run_folder


def cell(folder: Path, table: str, **axes: Any) -> dict[str, float]:
    """The statistics of a cell, from the table's file."""
    with (folder / "tables" / f"{table}-statistics.csv").open(encoding="utf-8", newline="") as opened:
        [row] = [row for row in csv.DictReader(opened) if all(row[axis] == str(value) for axis, value in axes.items())]
    return {name: float(row[name] or "nan") for name in ("mean", "low", "high", "normalized", "q")}


def shares(told: dict[str, float]) -> list[float]:
    """The interval of a cell as shares of the whole effect."""
    return sorted(told[end] * told["normalized"] / told["mean"] for end in ("low", "high"))


def test_an_edge_of_a_convolution_has_the_interval_of_its_tap() -> None:
    folder = suite("bundled:mamba")
    taps = [edge for edge in run_data(folder)["edges"] if " lag " in edge["kind"]]
    assert len(taps) > 2
    for edge in taps:
        layer, at = edge["target"].removeprefix("ssm_in[").split("] @ ")
        corruption, _, lag = edge["kind"].split()
        told = cell(folder, "conv_edges", corruption=corruption.strip("[]"), layer=layer, lag=lag, position=at)
        assert math.isclose(edge["effect"], told["normalized"], rel_tol=1e-9)
        assert np.allclose([edge["low"], edge["high"]], shares(told)) and math.isclose(edge["q"], told["q"])
        assert edge["patched"] == f"conv_tap[{layer},{lag}] @ {at}"
        assert math.isclose(np.mean(edge["prompts"]), edge["effect"], rel_tol=1e-3)


def test_an_arrow_from_a_token_has_the_interval_of_the_value_that_is_read_there() -> None:
    folder = suite()
    data = run_data(folder)
    read = [edge for edge in data["edges"] if edge["source"].startswith("token @ ")]
    assert read
    for edge in read:
        head, at = edge["target"].removeprefix("head[").partition("]")[0], edge["source"].removeprefix("token @ ")
        table = "senders_read" if edge["target"].endswith("@ B") else "reads_v"
        told = cell(folder, table, head=head, position=at)
        assert np.allclose([edge["low"], edge["high"]], shares(told)) and edge["patched"] == f"head[{head}].v @ {at}"
    own = [edge for edge in read if edge["effect"] == next(n["effect"] for n in data["nodes"] if n["name"] == edge["source"])]
    for edge in own:  # the token's own number is that of one of its arrows
        token = next(node for node in data["nodes"] if node["name"] == edge["source"])
        assert all(token[name] == edge[name] for name in ("low", "high", "q", "cell", "prompts"))


def test_a_write_that_another_corruption_measures_is_a_share_of_the_suites_whole_effect(tmp_path: Path) -> None:
    """As in IOI: a table has the corruption of one name and the circuit divides its effects by that of all names."""
    rng = np.random.default_rng(0)
    own, other = {"name": "t", "options": {"corruption": "all"}}, {"name": "t", "options": {"corruption": "IO"}}
    effects = -4 + rng.normal(0, 0.5, (1, 16))
    path = "ssm_in[{layer}] @ {position} -> logits freezing ssm_state"
    writes = made([{"layer": 1, "position": "B"}], effects, path=path, task=other)
    writes.frame["source"] = 5.0  # the whole effect of this corruption is -5, that of the suite's -10
    states = made([{"layer": 1}], np.full((1, 16), -9.0), path="ssm_state[{layer}] @ END -> logits", task=own)
    folder = run_folder(tmp_path, {"states": states, "writes": writes}, task=own)
    share = float(effects.mean()) / -10
    nodes = (CircuitNode("ssm_in[1] @ B", "B", 1, share), CircuitNode("ssm_state[1] @ END", "END", 1.5, 0.9))
    circuit = Circuit("c", ("B", "END"), nodes, (CircuitEdge(nodes[0].name, nodes[1].name, share),), "normalized effect")
    (folder / "circuit.json").write_text(circuit.to_json())
    [described] = writes.statistics()[["low", "high"]].to_numpy().tolist()
    data = run_data(folder)
    for item in (data["nodes"][0], data["edges"][0]):
        assert np.allclose([item["low"], item["high"]], sorted(value / -10 for value in described))
        assert np.allclose(item["prompts"], effects[0] / -10, rtol=1e-4)


def test_an_effect_that_no_table_holds_has_no_interval_and_says_so(show: Open) -> None:
    """The keys of several heads at once were measured for the circuit alone."""
    data = run_data(suite())
    [hub] = [node for node in data["nodes"] if "these heads" in node["name"]]
    assert "low" not in hub and math.isfinite(hub["effect"])
    page = show(write_explorer(suite()))
    page.locator('g.node[aria-label*="these heads"]').click()
    assert "none: no cell of the tables is this effect" in page.locator("#panel .facts").inner_text()


def test_a_tap_says_what_was_patched(show: Open) -> None:
    page, data = show(write_explorer(suite("bundled:mamba"))), run_data(suite("bundled:mamba"))
    edge = next(edge for edge in data["edges"] if edge["patched"])
    page.locator(f'g.edge[aria-label^="{edge["source"]} to {edge["target"]}:"]').press("Enter")
    said = page.locator("#panel .facts").inner_text()
    low, high = (f"{edge[end]:+.2f}".replace("-", "−") for end in ("low", "high"))
    assert edge["patched"] in said and f"{low} to {high}" in said
    assert page.locator("#panel tr[data-table]").get_attribute("data-table") == "conv_edges"


def test_states_stand_where_they_were_patched_and_no_column_is_empty() -> None:
    """In the explorer, and in the picture that is drawn of the same circuit."""
    drawn = json.loads((suite("bundled:mamba") / "circuit.json").read_text())
    states = [node for node in drawn["nodes"] if node["role"] == "state"]
    components = json.loads((suite("bundled:mamba") / "summary.json").read_text())["components"]
    measured = {each["node"]: each["measured"] for each in components if each["role"] == "state"}
    assert states and {node["name"]: node["position"] for node in states} == {
        f"{name} @ {at}": at for name, at in measured.items()
    }
    assert {node["position"] for node in drawn["nodes"]} == set(drawn["positions"])
    shown = run_data(suite("bundled:mamba"))
    assert {node["name"]: node["position"] for node in shown["nodes"]} == {
        node["name"]: node["position"] for node in drawn["nodes"]
    }
    assert shown["positions"] == drawn["positions"]
    told = {text.get_text() for text in Circuit.from_json(json.dumps(drawn)).draw().get_axes()[0].texts}
    assert {"B+5", "END"} <= told and "B+3" not in told


def test_a_port_of_several_heads_has_the_interval_of_the_cell_that_patches_them_at_once(tmp_path: Path) -> None:
    """No path has the name of such a node, so its number alone tells the cell."""
    effects = -4 + np.random.default_rng(0).normal(0, 0.5, (2, 16))
    table = made([{"port": "k"}, {"port": "v"}], effects, path="(head[1,0].{port}, head[1,1].{port}) @ B -> logits")
    share = float(table.normalized().iloc[1])
    nodes = (
        CircuitNode("v of answering heads", "B", 1, share, "head"),
        CircuitNode("k of others", "B", 1.5, share + 0.1, "head"),
    )
    folder = run_folder(tmp_path, {"ports": table})
    (folder / "circuit.json").write_text(Circuit("c", ("B",), nodes, (), "normalized effect").to_json())
    found, other = run_data(folder)["nodes"]
    described = table.statistics()[["low", "high"]].to_numpy()[1] * share / effects[1].mean()
    assert np.allclose([found["low"], found["high"]], sorted(described)) and "low" not in other
