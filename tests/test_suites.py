"""The induction suite on the bundled models: it finds a circuit that explains the behaviour, and says so in files."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

import circuitry as ct
import tiny
from circuitry.suites import SuiteResult, induction


@functools.cache
def result(name: str) -> SuiteResult:
    return induction(ct.load(f"bundled:{name}"), distances=[8, 16], distance=16, examples=12, progress=False)


def test_the_transformer_has_previous_token_heads_and_induction_heads() -> None:
    summary = result("gpt_neox").summary
    roles = {c.role for c in summary.components}
    assert {"induction head", "writes the k"} <= roles
    assert summary.explained > 0.6
    assert sum(summary.offsets.values()) == pytest.approx(1, abs=1e-4)


def test_previous_token_heads_stand_in_earlier_layers_and_read_a() -> None:
    found = result("gpt_neox")
    layer = {
        role: [int(c.node.split("[")[1].split(",")[0]) for c in found.summary.components if c.role == role]
        for role in ("induction head", "writes the k")
    }
    assert max(layer["writes the k"]) < max(layer["induction head"])
    assert (found.tables["senders_read"].share().groupby("head").idxmax().map(lambda i: i[1]) == "A").all()


def test_states_carry_it_in_mamba_and_are_written_after_b() -> None:
    found = result("mamba")
    assert found.summary.components[0].role == "state"
    assert found.summary.explained > 0.8
    assert found.summary.offset in ("B", "B+1", "B+2", "B+3")


def test_the_convolution_brings_a_and_b_to_the_write_position() -> None:
    """Tables 3 and 4: [B'] acts only at B and [A'] only at A, whatever position the layer writes at."""
    found = result("mamba")
    layer = int(found.summary.components[0].node.split("[")[1].rstrip("]"))
    from_b, from_a = (found.tables[f"table{n}_conv_input_{c}"].share()[16, layer] for n, c in ((3, "B"), (4, "A")))
    assert from_b.idxmax() == "B" and from_a.idxmax() == "A"


def test_conv_edges_of_one_position_add_up_to_its_write() -> None:
    """At one position the taps are all there is: no tap has the whole effect of a later or earlier token."""
    table = result("mamba").tables["conv_edges"]
    assert set(table.axes) == {"corruption", "layer", "lag", "position"}
    assert table.share().max() > 0.1


def test_the_ports_of_the_write_input_are_compared_with_all_of_them() -> None:
    readers = result("mamba").tables["write_ports"].frame["reader"]
    assert set(readers) == {"all", "value", "delta", "B"}


def test_a_model_without_the_behaviour_is_reported_as_such() -> None:
    found = induction(tiny.model("mamba"), distances=[8], distance=8, examples=4, progress=False)
    assert "no state has" in found.summary.text() or found.summary.components
    assert found.circuit.title


@pytest.mark.parametrize("name", ["gpt_neox", "mamba"])
def test_the_folder_holds_tables_pictures_and_the_circuit(name: str, tmp_path: Path) -> None:
    folder = result(name).save(tmp_path / "run")
    for table in result(name).tables:
        assert {p.suffix for p in folder.glob(f"{table}.*")} == {".csv", ".json", ".md", ".tex", ".png", ".svg"}
    assert {p.suffix for p in folder.glob("circuit.*")} == {".svg", ".png", ".dot", ".mmd", ".json"}
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["offset"] == result(name).summary.offset
    assert "circuit.svg" in (folder / "summary.md").read_text()


def test_distances_too_short_for_the_sweep_are_refused() -> None:
    with pytest.raises(ct.CircuitryError, match="distance 6 is too short"):
        induction(tiny.model("mamba"), distances=[6])
