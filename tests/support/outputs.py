"""Notebook outputs for tests: read back with the parser of Python's library, and one of each kind, with hostile texts in it."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import circuitry as ct
from circuitry.autoencoders import SAE, SAEConfig
from circuitry.discovery.curve import Measured
from circuitry.discovery.scores import EdgeScores
from circuitry.drawing.circuit import Circuit, CircuitEdge, CircuitNode
from circuitry.evidence.grid import Sensitivity
from circuitry.evidence.offsets_result import Offsets, Verdict
from circuitry.evidence.scores import Scores
from circuitry.features import Corpus, Matches, Sweep, Trained
from circuitry.planning.explain import Explanation
from circuitry.planning.metrics import Metric
from circuitry.prompting.definition import TaskDefinition
from circuitry.suites.result import Component, SuiteResult, Summary
from support.run_folders import made


class Output(HTMLParser):
    """The texts of an output: ``tables``, each a list of rows of cells; ``cells``, the tooltip
    and the two numbers of each of a heat map; and all ``text``."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.cells: list[tuple[dict[str, str], list[str]]] = []
        self.text, self.tags, self._hidden, self._inside, self._title = "", list[str](), 0, False, ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        if tag in ("style", "script"):
            self._hidden += 1
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._inside = True
            self._title = str(known.get("title") or "")
            if self._title:
                self.cells.append((dict(line.split(": ", 1) for line in self._title.splitlines()), []))

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")
        if tag in ("td", "th"):
            self._inside, self._title = False, ""

    def handle_data(self, data: str) -> None:
        if self._hidden:
            return
        self.text += data.replace("\u00a0", " ")
        if self._inside:
            self.tables[-1][-1][-1] += data.strip()
        if self._inside and self._title:
            tip, said = self.cells[-1]
            self.cells[-1] = (tip, [*said, data])

    def table(self, *heads: str) -> list[dict[str, str]]:
        """The rows of the one table with these heads, by head."""
        (found,) = [rows for rows in self.tables if rows and rows[0][: len(heads)] == [*heads]]
        return [dict(zip(found[0], row, strict=False)) for row in found[1:]]


def read(value: Any) -> Output:
    """What a value shows in a notebook."""
    return Output(value._repr_html_())


def shown(text: str) -> float:
    """A number that an output shows."""
    cleaned = text.replace("−", "-").replace("+", "").replace(",", "")
    return float(cleaned.removesuffix(" %")) / (100 if cleaned.endswith(" %") else 1)


def agrees(text: str, value: float) -> bool:
    """Whether a text is a number rounded, at the digits that it shows."""
    digits = text.replace("−", "").replace("+", "").removesuffix(" %").partition("e")[0].partition(".")[2]
    unit = 10.0 ** -len(digits) / (100 if text.endswith(" %") else 1)
    if "e" in text:
        unit = 10.0 ** int(text.replace("−", "-").rpartition("e")[2])
    return abs(shown(text) - value) <= 0.501 * unit


def corpus(source: str) -> Corpus:
    return Corpus(np.array([0, 5], np.int32), np.array([0, 2]), np.array([True, False]), source, "")


def each(evil: str) -> Mapping[str, Any]:
    """A value of each kind, with a text that somebody else may have written wherever the value holds such a text."""
    heat = made([{evil: evil, "b": b} for b in (evil, "x")], np.ones((2, 4)), title=evil, path=evil, task=evil, model=evil)
    bars = made([{evil: evil}], np.ones((1, 8)), path=evil, task=evil)
    other = made([{evil: evil}], np.zeros((1, 8)), path="q", task="other " + evil)
    circuit = Circuit(
        evil,
        (evil,),
        (CircuitNode(evil, evil, 0, 1.0, evil, evil), CircuitNode("b", evil, 1, 1.0)),
        (CircuitEdge(evil, "b", 1.0, evil),),
        evil,
    )
    summary = Summary(evil, evil, [Component(evil, evil, 0.9, evil)], 0.9, {evil: 1.0}, {evil: 1.0}, [evil], evil, evil)
    definition = TaskDefinition(evil, evil, lambda *_: None, (evil,), (evil,), {evil: evil}, source=evil)  # type: ignore[arg-type]
    change, gap = pd.DataFrame({"node": [evil], "change": [0.2]}), pd.DataFrame({"without": [evil], "gap": [0.1]})
    offsets = pd.DataFrame(
        {
            "model": [evil],
            "layer": ["all"],
            "offset": [1],
            "share": [1.0],
            "low": [0.9],
            "high": [1.0],
            "effect": [0.5],
            "q": [0.01],
        }
    )
    setting = {
        "ablation": [evil],
        "direction": evil,
        "frozen": evil,
        "metric": evil,
        "strongest": evil,
        "normalized": 0.5,
        "low": 0.4,
        "high": 0.6,
        "holds": True,
    }
    matches = pd.DataFrame({"layer_a": [evil], "feature_a": [7], "mppc": [0.98], "null": [0.1]})
    sae = SAE(SAEConfig(4, 16, provenance={"node": evil, "model": evil, "labels": {3: evil}}))
    return {
        "heat map": heat, "bars": bars, "comparison": bars.compare(other), "circuit": circuit, "summary": summary,
        "result": SuiteResult({evil: heat}, circuit, summary, record={"suite": evil, "task": evil, "folder": evil}),
        "task": ct.Task(definition, {evil: evil}), "explanation": Explanation(f"{evil}\n  table      {evil}\n({evil})"),
        "metric": Metric(evil, lambda *_: None, evil), "intervention": ct.Intervention(evil, evil), "node": ct.Node(evil), "path": ct.Node(evil) >> ct.Node("logits"),
        "offsets": Offsets(evil, offsets, (Verdict(evil, evil, "all", "none", (), (), (), (), 0.0, evil),), {}),
        "scores": Scores({evil: [evil]}, 0.9, (0.8, 1.0), [], gap, change, [], bars), "sensitivity": Sensitivity(evil, evil, pd.DataFrame(setting), {}, {"claim": evil}),
        "edge scores": EdgeScores(1, 0.9, (0.8, 1.0), 0.1, (0.0, 0.2), pd.DataFrame(), gap, change, [], Measured(np.zeros((0, 2)), np.ones(2), np.zeros(2))),
        "suite": ct.Suite("s", evil, evil, {evil: evil}, [ct.TableSpec("name", evil, evil, note=evil)]), "spec": ct.TableSpec(evil, evil, evil, note=evil),
        "matches": Matches(matches, matches, {}), "sae": sae, "trained": Trained({ct.Node(evil): sae}, np.zeros((0, 6)), 8, Path("folder")),
        "sweep": Sweep({}, pd.DataFrame({evil: [evil]}), Path("sweep")), "corpus": corpus(evil),
    }  # fmt: skip
