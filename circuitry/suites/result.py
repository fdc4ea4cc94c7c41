"""What a suite leaves: named tables, the circuit they show, and a summary that any two models can be compared by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..results import PatchingTable
from ..results.circuit import Circuit


@dataclass
class Component:
    """A node that carries the behaviour: its share of the whole effect, and where it reads or is written."""

    node: str
    role: str
    share: float
    position: str


@dataclass
class Summary:
    """The comparable end of a suite.

    ``explained`` is the share of the whole effect (clean less corrupted) that patching all ``components`` at once has, with
    everything of their kind held. ``offsets`` maps "B", "B+1" ... to the share of the information about the token that is
    written there (paper section 6.3), normalised to 1; ``offset`` is where most of it is.
    """

    model: str
    architecture: str
    components: list[Component]
    explained: float
    offsets: dict[str, float]
    baseline: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def offset(self) -> str:
        """The position at which most is written; "none" where nothing was found.

        >>> Summary("m", "mamba", [], 0.9, {"B": 0.2, "B+1": 0.8}).offset
        'B+1'
        """
        return max(self.offsets, key=lambda name: self.offsets[name]) if self.offsets else "none"

    def frame(self) -> pd.DataFrame:
        """The components as a table: node, role, share, position.

        >>> Summary("m", "mamba", [Component("h[1]", "state", 0.9, "B+1")], 0.9, {}).frame().shape
        (1, 4)
        """
        rows = [vars(c) for c in self.components]
        return pd.DataFrame(rows, columns=["node", "role", "share", "position"])

    def text(self) -> str:
        """The summary for a terminal.

        >>> print(Summary("m", "mamba", [], 0.0, {}).text())
        m (mamba)
          carried by (together 0% of the effect):
            nothing
          written nowhere that was looked at
        """
        lines = [f"{self.model} ({self.architecture})"]
        lines += [f"  {k}: {v:.3g}" for k, v in self.baseline.items()]
        lines.append(f"  carried by (together {self.explained:.0%} of the effect):")
        lines += [f"    {c.node:<16} {c.role:<22} {c.share:>6.0%} at {c.position}" for c in self.components] or ["    nothing"]
        written = ", ".join(f"{name} {share:.0%}" for name, share in self.offsets.items() if share >= 0.005)
        lines.append(f"  written at {self.offset} ({written})" if self.offsets else "  written nowhere that was looked at")
        return "\n".join([*lines, *(f"  note: {n}" for n in self.notes)])


@dataclass
class SuiteResult:
    """Tables by name (with a title each), the circuit, and the summary."""

    tables: dict[str, PatchingTable]
    circuit: Circuit
    summary: Summary

    def save(self, folder: str | Path) -> Path:
        """Write everything into a folder: one set of files a table, the circuit in all formats, summary.json and summary.md.

        >>> import tempfile
        >>> empty = SuiteResult({}, Circuit("c", ("A",), (), ()), Summary("m", "mamba", [], 0.0, {}))
        >>> (empty.save(tempfile.mkdtemp()) / "summary.json").exists()
        True
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            table.save(target, name)
        for suffix in (".svg", ".png", ".dot", ".mmd", ".json"):
            self.circuit.save(target / f"circuit{suffix}")
        data = {**vars(self.summary), "components": [vars(c) for c in self.summary.components], "offset": self.summary.offset}
        (target / "summary.json").write_text(json.dumps(data, indent=1))
        (target / "summary.md").write_text(self._markdown())
        return target

    def _markdown(self) -> str:
        parts = [f"# {self.summary.model}", f"```\n{self.summary.text()}\n```", "![circuit](circuit.svg)"]
        for name, table in self.tables.items():
            parts += [f"## {table.about.get('title', name)}", f"`{table.about.get('path', '')}`", table.to_markdown()]
        return "\n\n".join(parts) + "\n"


def stacked(tables: Mapping[Any, PatchingTable], axis: str, title: str) -> PatchingTable:
    """Several tables of one path as one, with a new first axis: distance, corruption ...

    >>> import numpy as np
    >>> one = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
    >>> stacked({8: one, 16: one}, "distance", "by distance").axes
    ('distance', 'layer')
    """
    first = next(iter(tables.values()))
    frame = pd.concat([t.frame.assign(**{axis: value}) for value, t in tables.items()], ignore_index=True)
    return PatchingTable(frame, (axis, *first.axes), first.unit, {**first.about, "title": title, axis: list(tables)})


def titled(table: PatchingTable, title: str) -> PatchingTable:
    """The table with a title for its picture and heading.

    >>> import numpy as np
    >>> titled(PatchingTable.of([{}], np.ones((1, 1)), np.zeros(1), np.ones(1), "logit"), "T").about["title"]
    'T'
    """
    return PatchingTable(table.frame, table.axes, table.unit, {**table.about, "title": title})
