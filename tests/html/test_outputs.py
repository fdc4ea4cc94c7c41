"""What values show in a notebook: the numbers of their tables, every text escaped, and text in a terminal."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

import circuitry as ct
from circuitry.features import Matches
from circuitry.html import output
from support.outputs import agrees, each, read, shown
from support.run_folders import EVIL, SUMMARY, circuit, made, tables

TABLES = tables()
EACH = each(EVIL)
NOT_SHOWN = {"CircuitryError", "GuardError", "ModelError", "PathError", "TaskError"}
"""Errors, which a notebook prints with the lines that raised them."""


def means(table: ct.PatchingTable) -> dict[tuple[str, ...], float]:
    """The mean effect of each cell, by the text of its axis values, from the rows of the table."""
    by_cell: dict[tuple[str, ...], list[float]] = {}
    for row in table.frame.to_dict("records"):
        by_cell.setdefault(tuple(str(row[axis]) for axis in table.axes), []).append(row["effect"])
    return {cell: sum(effects) / len(effects) for cell, effects in by_cell.items()}


def test_a_heat_map_shows_the_means_of_its_table() -> None:
    table, out = TABLES["states"], read(TABLES["states"])
    expected = means(table)
    assert len(out.cells) == len(expected) == 6
    for tip, said in out.cells:
        mean = expected[tip["layer"], tip["position"]]
        assert agrees(tip["mean effect"], mean)
        assert agrees(tip["normalized effect"], mean / -10)
        assert agrees(said[0], mean) and agrees(said[1], mean / -10)


def test_the_numbers_below_a_heat_map_are_sorted_and_those_of_the_table() -> None:
    rows = read(TABLES["states"]).table("layer", "position", "effect")
    expected = means(TABLES["states"])
    assert {(row["layer"], row["position"]) for row in rows} == set(expected)
    for row in rows:
        assert agrees(row["effect"], expected[row["layer"], row["position"]]) and row["prompts"] == "16"
    sizes = [abs(expected[row["layer"], row["position"]]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)


def test_bars_show_the_means_of_their_table() -> None:
    table = TABLES["writes"]
    rows = read(table).table("layer")
    expected = means(table)
    assert [row["layer"] for row in rows] == ["0", "1"]
    for row in rows:
        assert agrees(row["effect"], expected[row["layer"],]) and agrees(row["normalized"], expected[row["layer"],] / -10)


def test_a_large_heat_map_is_a_list_of_the_strongest_cells() -> None:
    effects = np.linspace(-1, 2, 1300)[:, None].repeat(2, 1)
    out = read(made([{"layer": n // 50, "position": n % 50} for n in range(1300)], effects))
    assert out.cells == [] and "100 of 1,300 rows" in out.text
    rows = out.table("layer", "position", "effect")
    assert len(rows) == output.MOST_ROWS and (rows[0]["layer"], rows[0]["position"], rows[0]["effect"]) == ("25", "49", "+2.00")


def test_a_comparison_shows_what_differs() -> None:
    one, two = (
        made([{"layer": n} for n in (0, 1)], rows, seed=seed)
        for seed, rows in enumerate(np.random.default_rng(0).normal(2, 1, (2, 2, 16)))
    )
    rows = read(one.compare(two)).table("layer", "first", "second", "difference")
    assert len(rows) == 2
    for row in rows:
        first, second = (means(table)[row["layer"],] / -10 for table in (one, two))
        assert agrees(row["first"], first) and agrees(row["second"], second) and agrees(row["difference"], first - second)
    assert abs(shown(rows[0]["difference"])) >= abs(shown(rows[1]["difference"]))


def test_a_circuit_shows_its_picture_and_its_effects() -> None:
    drawn = circuit()
    out = read(drawn)
    assert "svg" in out.tags
    effects = {row["node"]: row["effect"] for row in out.table("node", "position")}
    assert effects == {"ssm_in[1]": "+0.40", "ssm_state[1]": "+0.50", "keys of these heads": "", "logits": "+1.00"}
    assert [(row["from"], row["to"]) for row in out.table("from", "to")] == [(edge.source, edge.target) for edge in drawn.edges]


def test_two_circuits_in_one_notebook_share_no_id() -> None:
    one, two = ({part.split('"')[0] for part in circuit(head)._repr_html_().split(' id="')[1:]} for head in (True, False))
    assert one and two and not one & two


def test_a_result_lists_its_tables_and_shows_its_findings() -> None:
    from circuitry.suites.result import Component, SuiteResult, Summary

    parts = [Component(**{**part, "cell": ()}) for part in SUMMARY["components"]]
    result = SuiteResult(
        TABLES,
        circuit(),
        Summary("m", "mamba", parts, 0.93, {"B": 0.2, "B+1": 0.8}),
        record={"suite": "induction", "folder": "runs/a"},
    )
    out = read(result)
    assert [row["table"] for row in out.table("table", "title")] == [f'tables["{name}"]' for name in TABLES]
    for row, table in zip(out.table("table", "title"), TABLES.values(), strict=True):
        assert int(row["cells"]) == len(means(table)) and int(row["examples"]) == table.frame["example"].nunique()
    assert out.table("component", "role")[0]["normalized effect"] == "50 %"
    assert "93 %" in out.text and "B+1 80 %" in out.text and "runs/a" in out.text and "svg" in out.tags
    printed = repr(result)
    assert printed.count("\n") < 12 and len(printed) < 1000
    assert all(part in printed for part in ("induction on m", "ssm_state[1]", "93%", "written at B+1", *TABLES, "runs/a"))


def test_matches_show_means_over_their_features() -> None:
    mppc = np.random.default_rng(0).random(250)
    data = pd.DataFrame({"layer_a": 0, "feature_a": range(250), "mppc": mppc, "null": mppc / 3})
    out = read(Matches(data, data[:10], {}))
    forward, reverse = out.table("direction")
    assert agrees(forward["mean"], float(sum(mppc) / 250)) and agrees(reverse["mean"], float(sum(mppc[:10]) / 10))
    best = out.table("layer_a", "feature_a", "mppc")
    assert len(best) == output.MOST_ROWS and best[0]["feature_a"] == str(int(mppc.argmax()))


def test_a_model_its_graph_and_a_task_show_what_they_are() -> None:
    model = ct.load("bundled:mamba")
    out = read(model)
    assert f"{sum(p.numel() for p in model.hf.parameters()):,} parameters" in out.text and "float32" in out.text
    rows = {row["node"]: row for row in read(model.graph).table("node", "indices")}
    assert int(rows["ssm_state"]["number"]) == sum(node.family == "ssm_state" and node.port is None for node in model.graph.nx)
    assert "distance" in read(ct.task("induction", distance=8)).text
    model.release()
    assert "released" in read(model).text


@pytest.mark.parametrize("name", EACH)
def test_texts_of_strangers_are_escaped(name: str) -> None:
    html = EACH[name]._repr_html_()
    assert html.startswith('<div class="circuitry">') and html.endswith("</div>")
    assert "<script>window" not in html and 'hacked = 1"' not in html
    assert EVIL in " ".join(read(EACH[name]).text.split()) or EVIL in read(EACH[name]).text
    assert html.count("<script>") == html.count("</script>") == bool(re.search('<table class="[^"]*sortable', html))


def test_every_public_value_shows_itself() -> None:
    classes = {name for name in ct.__all__ if inspect.isclass(getattr(ct, name))}
    assert {name for name in classes if not hasattr(getattr(ct, name), "_repr_html_")} == NOT_SHOWN
    from circuitry import universality

    classes = {name for name in universality.__all__ if inspect.isclass(getattr(universality, name))}
    assert {name for name in classes if not hasattr(getattr(universality, name), "_repr_html_")} == set()


def test_paths_and_nodes_print_as_their_text() -> None:
    path = ct.parse("head[7,3] @ S2 -> head[9,9].q freezing head -> logits")
    node = ct.Node("ssm_state")[1]
    assert repr(path) == str(path) == "head[7,3] @ S2 -> head[9,9].q freezing head -> logits"
    assert (
        repr([node, node @ "B" + 1, ct.Position("B", 2), ct.Axis("layer")]) == "[ssm_state[1], ssm_state[1] @ B+1, B+2, {layer}]"
    )


def test_a_plan_is_text_and_prints_its_lines() -> None:
    model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4)
    plan = ct.explain(model, task, "ssm_state[{layer}] @ B+1 -> logits freezing ssm_state")
    assert isinstance(plan, str) and repr(plan) == str(plan) and type(str(plan)) is str
    assert repr(plan).splitlines()[1].split() == ["table", "4", "cells", "over", "layer"]
    out = read(plan)
    assert {"table", "kind", "cost", "pass 1"} <= {row[0] for table in out.tables for row in table}
    assert all(line.strip()[11:].strip() in out.text for line in plan.splitlines())


def bundle(value: Any) -> dict[str, Any]:
    formatters = pytest.importorskip("IPython.core.formatters")
    data: dict[str, Any] = formatters.DisplayFormatter().format(value)[0]
    return data


def test_a_notebook_gets_html_and_text() -> None:
    data = bundle(TABLES["writes"])
    assert set(data) == {"text/plain", "text/html"} and data["text/plain"].startswith("ssm_in[{layer}]")
    assert bundle(ct.Node("mlp")[3])["text/plain"] == "mlp[3]"


def test_plot_as_the_last_expression_is_a_picture() -> None:
    from matplotlib.figure import Figure

    figure = TABLES["writes"].plot()
    data, size = figure._repr_png_()
    assert isinstance(figure, Figure) and bundle(figure)["image/png"] == data and data.startswith(b"\x89PNG")
    wide, high = figure.get_size_inches()
    assert 0.8 < size["width"] / size["height"] / (wide / high) < 1.25
    for drawn in (circuit().draw(), TABLES["states"].plot()):
        assert "image/png" in bundle(drawn)


def test_nnsight_adds_no_method_to_what_a_value_lists() -> None:
    """nnsight mounts `save` on every object of Python; a table keeps its own."""
    code = (
        "import nnsight, circuitry as ct; mounted = hasattr(object, 'save'); g = ct.graph('mamba');"
        "values = [g, g.embed, ct.task('induction'), ct.parse('embed -> logits')];"
        "print(mounted, any('save' in dir(v) for v in values), 'save' in dir(ct.PatchingTable), 'axes' in dir(values[3]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False", "True", "True"]


def test_showing_a_path_or_a_plan_needs_no_torch() -> None:
    code = (
        "import sys, circuitry as ct; loaded = 'jinja2' in sys.modules; ct.parse('embed -> logits')._repr_html_();"
        "ct.graph('mamba')._repr_html_(); print(loaded, *[m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
