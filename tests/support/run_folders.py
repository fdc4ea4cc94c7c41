"""Run folders as the suites write them, small and made up."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from circuitry import PatchingTable
from circuitry.drawing.circuit import Circuit, CircuitEdge, CircuitNode
from circuitry.prompting.texts import PromptTexts
from circuitry.reports import write_comparison

EVIL = "<script>window.hacked = 1</script>\"'&amp;"


LONG = ("circuit", "circuit without all heads that write the name movers' v but head[2,0]")

STATES = "ssm_state[{layer}] @ {position} -> logits freezing ssm_state"

RUN: dict[str, Any] = {
    "suite": "induction", "description": "Which components complete a repeated pair", "model": "bundled:mamba", "architecture": "mamba",
    "parameters": 784000, "dtype": "float32", "device": "cpu", "task": "<task induction: distance=8>", "state": "complete",
    "settings": {"examples": 16, "seed": 3, "distances": [8, 16]}, "command": "circuitry run induction --model bundled:mamba",
    "versions": {"circuitry-lm": "0.1.0", "torch": "2.13.0"}, "started": "2026-11-22T15:30:00+00:00", "cites": "arXiv:2410.06672",
    "figures": [{"name": "figure13", "title": "Split cells", "caption": "As in the paper."}, {"name": "absent", "title": "Lost"}],
}  # fmt: skip

SUMMARY: dict[str, Any] = {
    "model": "bundled:mamba", "architecture": "mamba", "explained": 0.93, "offset": "B+1", "offsets": {"B": 0.2, "B+1": 0.8},
    "components": [{"node": "ssm_state[1]", "role": "state", "normalized": 0.5, "position": "B+1"}],
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
    return Circuit("A circuit", ("A", "B", "B+1", "END"), nodes, edges, "normalized effect")


def made(cells: list[dict[str, Any]], effect: Any, random: pd.DataFrame | None = None, **provenance: Any) -> PatchingTable:
    examples = np.asarray(effect).shape[1]
    provenance = {"seed": 3, "intervention": "resample", "base": "clean", "task": "<task induction: distance=8>", **provenance}
    return PatchingTable.of(
        cells,
        np.asarray(effect, float),
        np.full(examples, 10.0),
        np.full(examples, 0.0),
        "change of the logit",
        provenance,
        random,
    )


def tables(seed: int = 0) -> dict[str, PatchingTable]:
    """A heat map whose cell (1, B+1) is -5 for sure, bars with random nodes, one cell, and heads by label."""
    rng = np.random.default_rng(seed)
    grid = [{"layer": layer, "position": position} for layer in (0, 1) for position in ("B", "B+1", "B+2")]
    effects = rng.normal(0, 0.1, (6, 16))
    effects[4] = -5 + rng.normal(0, 0.01, 16)
    random = pd.DataFrame({
        "draw": np.repeat(range(8), 16), "node": "ssm_state[0] @ END-3", "example": np.tile(range(16), 8),
        "effect": rng.normal(0, 0.2, 128), "base": 10.0, "source": 0.0,
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


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def said(page: str) -> str:
    """A page without the marks of words that it explains."""
    return re.sub(r"</?abbr[^>]*>", "", page).replace("\u00a0", " ")


def compared(folder: Path) -> Path:
    """The page of two runs that differ in a table's effects, in its axes, and in a table that only one of them has."""
    other = tables(seed=1)
    other["states"].frame["effect"] *= 0.5
    other["writes"] = made([{"head": 0}], np.ones((1, 16)))
    other["own"] = other.pop("all")
    for table in other.values():
        table.provenance["model"] = "other"
    one = run_folder(folder / "one")
    two = run_folder(folder / "two", other, head=True, model="bundled:gpt_neox")
    return write_comparison(one, two, folder / "out")


def prompted(bad: float = 1.0, other: bool = False) -> PatchingTable:
    """A grid of 2 x 3 cells with prompts; example 11 has no effect in the cell of layer 1 at B+1, where all others have -5."""
    base = tables()["states"]
    effects = base.values() + np.linspace(0, 0.1, 16)
    effects[4, 11] += 5 * bad
    words = {0: "The", 1: " dog", 2: " sat", 3: " ran", **{10 + n: f" cat{n}" for n in range(16)}}
    end = 3 if other else 2
    clean = [[0, 10 + n, end] for n in range(16)]
    where = {"B": [1] * 16, "END": [2] * 16}
    texts = PromptTexts(clean, [[0, 1, end]] * 16, [row[1] for row in clean], [1] * 16, where, words)
    cells = base.frame[["layer", "position"]].drop_duplicates().to_dict("records")
    whole = np.full(16, 10.0), np.zeros(16)
    return PatchingTable.of(
        [{str(axis): value for axis, value in cell.items()} for cell in cells],
        effects,
        *whole,
        "change of the logit",
        base.provenance,
        prompts=texts,
    )
