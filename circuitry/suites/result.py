"""The result of a suite: named tables, the circuit they show, and a summary in which any two models can be compared."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..drawing.circuit import Circuit
from ..errors import CircuitryError
from ..html.shown import Shown
from ..paths.parse import parse_node
from ..results import writing
from ..results.table import PatchingTable
from ..store.files import write_whole
from .folder import read_record

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure


_LINES = 5
"""How many parts of a list, or lines of a verdict, the short form of a result has."""


def _first(parts: list[str], most: int = _LINES) -> str:
    """The first parts of a list, and how many more there are."""
    return ", ".join([*parts[:most], *([f"and {len(parts) - most} more"] if len(parts) > most else [])])


@dataclass
class Component:
    """A node that carries the behaviour: its normalized effect, and the position at which it reads or is written.

    ``table`` and ``cell`` name the suite's table and the cell that the normalized effect is from. ``measured`` is the position that
    was patched there, if it is not ``position``: a state that is written at B+1 may be patched at B+5.
    """

    node: str
    role: str
    normalized: float
    position: str
    table: str = ""
    cell: tuple[Any, ...] = ()
    measured: str = ""

    @property
    def at(self) -> str:
        """Where the effect was measured and where the node is written, in words; empty if neither is known.

        >>> Component("h[3]", "state", 0.9, "B+1", measured="B+5").at, Component("h[3]", "state", 0.9, "B").at
        ('at B+5, written at B+1', 'at B')
        """
        if not self.measured:
            return f"at {self.position}" if self.position else ""
        return f"at {self.measured}" + (f", written at {self.position}" if self.position else "")

    @property
    def layer(self) -> int:
        """The layer of the node. Raises CircuitryError for a node outside all layers.

        >>> Component("ssm_state[3]", "state", 0.9, "END").layer
        3
        """
        layer = next(iter(parse_node(self.node).indices), None)
        if not isinstance(layer, int):
            raise CircuitryError(f"{self.node} is in no layer, so it has no depth")
        return layer


@dataclass
class Summary(Shown):
    """The findings of a suite, in a form that can be compared between models.

    ``explained`` is the normalized effect of ``together``, the components that act last: patched at once, with all other nodes
    of their kind frozen; NaN if not measured. ``offsets`` maps "B", "B+1" ... to the share of the information about the token
    that is written there (paper section 6.3); the shares sum to 1. It is empty if no write position was found, None if not
    measured. ``offset`` is the position with the largest share. ``verdict`` has one finding on each line. ``undecided`` says why the examples
    are too few for a finding; without components a circuit may still exist.
    """

    model: str
    architecture: str
    components: list[Component]
    explained: float
    offsets: dict[str, float] | None
    baseline: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    verdict: str = ""
    together: str = "these"
    undecided: str = ""

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_summary

        return of_summary(self)

    @property
    def offset(self) -> str:
        """The position at which most is written; "none" if nothing was found or measured.

        >>> Summary("m", "mamba", [], 0.9, {"B": 0.2, "B+1": 0.8}).offset
        'B+1'
        """
        return max(self.offsets, key=self.offsets.__getitem__) if self.offsets else "none"

    def frame(self) -> pd.DataFrame:
        """The components as a table: node, role, normalized effect, position.

        >>> Summary("m", "mamba", [Component("h[1]", "state", 0.9, "B+1")], 0.9, {}).frame().shape
        (1, 4)
        """
        rows = [vars(c) for c in self.components]
        return pd.DataFrame(rows, columns=["node", "role", "normalized", "position"])

    def text(self) -> str:
        """The summary for a terminal.

        >>> print(Summary("m", "mamba", [], 0.0, {}).text())
        m (mamba)
          carried by (these together have 0% of the effect):
            nothing
          no write position found
        """
        lines = [f"{self.model} ({self.architecture})"]
        lines += [f"  {k}: {v:.3g}" for k, v in self.baseline.items()]
        together = (
            ""
            if math.isnan(self.explained) or (self.undecided and not self.components)
            else f" ({writing.having(self.together)} {self.explained:.0%} of the effect)"
        )
        lines.append(f"  carried by{together}:")
        wide = {key: max([least, *self.frame()[key].map(len)]) for key, least in (("node", 16), ("role", 22))}
        for c in self.components:
            lines.append(f"    {c.node:<{wide['node']}} {c.role:<{wide['role']}} {c.normalized:>6.0%}{c.at and f' {c.at}'}")
        nothing = f"too few examples to tell: {self.undecided}" if self.undecided else "nothing"
        lines += [] if self.components else [f"    {nothing}"]
        if self.offsets is not None:
            written = ", ".join(f"{name} {share:.0%}" for name, share in self.offsets.items() if share >= 0.005)
            lines.append(f"  written at {self.offset} ({written})" if self.offsets else "  no write position found")
        lines += [f"  {line}" for line in self.verdict.splitlines()]
        return "\n".join([*lines, *(f"  note: {n}" for n in self.notes)])

    def to_json(self) -> str:
        """The summary as JSON; what was not measured is null.

        >>> '"offset": "none"' in Summary("m", "mamba", [], float("nan"), {}).to_json()
        True
        """
        data = {**vars(self), "components": [vars(c) for c in self.components], "offset": self.offset}
        data["explained"] = None if math.isnan(self.explained) else self.explained
        return json.dumps(data, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Summary:
        """Read what ``to_json`` wrote. Raises CircuitryError for anything else.

        >>> Summary.from_json(Summary("m", "mamba", [Component("h[1]", "state", 0.9, "B")], 0.9, {}).to_json()).components[0].node
        'h[1]'
        """
        try:
            data = json.loads(text)
            data.pop("offset")
            explained = math.nan if data["explained"] is None else data["explained"]
            return cls(**{**data, "components": [_component(c) for c in data["components"]], "explained": explained})
        except (KeyError, TypeError, ValueError) as error:
            raise CircuitryError(
                f"this JSON does not describe a suite's summary ({error!r}); Summary.to_json writes one"
            ) from error


def _component(data: dict[str, Any]) -> Component:
    return Component(**{**data, "cell": tuple(data.get("cell", ()))})


@dataclass
class Picture:
    """A figure that belongs to no table, with a title and a caption."""

    title: str
    caption: str
    figure: Figure


@dataclass
class SuiteResult(Shown):
    """Tables by name, the circuit they show (None if the suite draws none), the summary, and further pictures.

    ``record`` says what ran, with which settings and versions; it becomes ``run.json``.

    >>> SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {}))
    <result on m (mamba): 0 tables
      carried by nothing that was found (these together have 0% of the effect)
      no write position found
      tables: none>
    """

    tables: dict[str, PatchingTable]
    circuit: Circuit | None
    summary: Summary
    pictures: dict[str, Picture] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_result

        return of_result(self)

    def __repr__(self) -> str:
        suite, summary, tables = self.record.get("suite", ""), self.summary, self.tables
        drawn = f", a circuit of {writing.count(len(self.circuit.nodes), 'node')}" if self.circuit else ""
        lines = [
            f"<{suite or 'result'} on {summary.model} ({summary.architecture}): {writing.count(len(tables), 'table')}{drawn}"
        ]
        together = (
            ""
            if math.isnan(summary.explained)
            else f" ({writing.having(summary.together)} {summary.explained:.0%} of the effect)"
        )
        strong = [f"{c.node} ({c.role}, {c.normalized:.0%})" for c in summary.components]
        lines.append(f"  carried by {_first(strong) or 'nothing that was found'}{together}")
        if summary.offsets is not None:
            lines.append(f"  written at {summary.offset}" if summary.offsets else "  no write position found")
        lines += [f"  {line}" for line in summary.verdict.splitlines()[:_LINES]]
        lines.append(f"  tables: {_first(list(tables), 12) or 'none'}")
        lines += [f"  in {self.record['folder']}"] if self.record.get("folder") else []
        return "\n".join(lines) + ">"

    def save(self, folder: str | Path) -> Path:
        """Write everything into a folder: tables, figures, the circuit, summary.json, run.json, report.html and explorer.html.

        >>> import tempfile
        >>> empty = SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {}))
        >>> sorted(path.name for path in empty.save(tempfile.mkdtemp()).iterdir())
        ['explorer.html', 'report.html', 'run.json', 'summary.json', 'summary.md']
        """
        from ..drawing.figures import save
        from ..explorer.page import write_explorer
        from ..reports.page import write_report

        target = Path(folder)
        for name, table in self.tables.items():
            table.save(target / "tables", name)
            for suffix in (".png", ".svg") if name in self.pictures else ():
                # A picture of the same name says it better than a bar for each cell.
                save(self.pictures[name].figure, target / "tables" / f"{name}{suffix}")
        figures = {f"figures/{name}": picture.figure for name, picture in self.pictures.items()}
        if self.circuit is not None:
            figures["circuit"] = self.circuit.draw()
            for suffix in (".dot", ".mmd", ".json"):
                self.circuit.save(target / f"circuit{suffix}")
        for name, figure in figures.items():
            for suffix in (".svg", ".png"):
                save(figure, target / f"{name}{suffix}")
        write_whole(target / "summary.json", self.summary.to_json())
        write_whole(target / "summary.md", self._markdown())
        write_whole(target / "run.json", json.dumps(self._record(), indent=1, default=str))
        write_report(target)
        write_explorer(target)
        return target

    @classmethod
    def load(cls, folder: str | Path) -> SuiteResult:
        """Read a complete run from its folder; ``pictures`` stay files. Raises CircuitryError if it is not one.

        >>> import tempfile
        >>> folder = SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {})).save(tempfile.mkdtemp())
        >>> SuiteResult.load(folder).summary.model
        'm'
        """
        path = Path(folder)
        record = read_record(path)
        try:
            # Tables first: they say so where the whole folder is from an earlier version.
            tables = {name: PatchingTable.from_json(path / "tables" / f"{name}.json") for name in record["tables"]}
            summary = Summary.from_json((path / "summary.json").read_text(encoding="utf-8"))
            drawn = path / "circuit.json"
            circuit = Circuit.from_json(drawn.read_text(encoding="utf-8")) if drawn.exists() else None
        except CircuitryError:
            raise
        except (OSError, ValueError) as error:
            raise CircuitryError(
                f"the run in {path} is incomplete ({error}); run it again with the same arguments to complete it"
            ) from error
        return cls(tables, circuit, summary, {}, {**record, "folder": str(path)})

    def _record(self) -> dict[str, Any]:
        figures = [{"name": name, "title": p.title, "caption": p.caption} for name, p in self.pictures.items()]
        defaults = {"state": "complete", "model": self.summary.model, "architecture": self.summary.architecture}
        return {**defaults, **self.record, "tables": list(self.tables), "figures": figures}

    def _markdown(self) -> str:
        parts = [f"# {self.summary.model}", f"```\n{self.summary.text()}\n```"]
        parts += ["![circuit](circuit.svg)"] if self.circuit else []
        for name, table in self.tables.items():
            parts += [f"## {table.provenance.get('title', name)}", f"`{table.provenance.get('path', '')}`", table.to_markdown()]
        return "\n\n".join(parts) + "\n"
