"""A suite as a value: a task, the tables to make of it, and what to conclude. One file that defines ``SUITE`` declares one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import CircuitryError, expected, suggest
from ..patching.experiment import Paths
from ..results.recorded import path_of, paths_of
from ..results.table import PatchingTable
from ..results.writing import count
from ..thresholds import MOST_KEYS
from .keys import keys
from .result import Component, SuiteResult
from .study import Study

Axes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class TableSpec:
    """One table of a suite.

    ``path`` is a path's text, or several by label (``ct.labelled`` names their axis), or a function of the Study that gives
    either: it may look at ``study.tables``, which holds the tables above this one. ``axes``: values of open axes, or such a
    function. ``over``: a task option and its values, which become the first axis. ``options``: task options for this table. ``layout``: the order of
    the axes, the last one across. ``needs``: the role of a node without which the table is left out.
    """

    name: str
    title: str
    path: Paths | Callable[[Study], Paths]
    axes: Axes | Callable[[Study], Axes] = field(default_factory=dict)
    over: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    metric: Any = None
    layout: tuple[str, ...] = ()
    needs: str | None = None
    note: str = ""

    def make(self, study: Study) -> PatchingTable:
        """Patch, lay out and keep.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4))
        >>> TableSpec("states", "States", "h[{layer}] @ B+1 -> logits freezing h").make(study).axes
        ('layer',)
        """
        path = self.path(study) if callable(self.path) else self.path
        axes = self.axes(study) if callable(self.axes) else self.axes
        how: dict[str, Any] = {"task": dict(self.options), "metric": self.metric, **axes}
        if len(self.over) > 1:
            raise CircuitryError(expected(f"one task option in over= of table {self.name!r}", list(self.over)))
        if self.over:
            option, values = next(iter(self.over.items()))
            made = study.over(option, values, self.title, path, **how)
        else:
            made = study.patch(self.title, path, **how)
        if self.layout:
            if sorted(self.layout) != sorted(made.axes):
                raise CircuitryError(
                    f"table {self.name!r} has the axes {', '.join(made.axes)}; its layout names {', '.join(self.layout)}"
                )
            made = replace(made, axes=self.layout)
        return study.keep(self.name, made, self.note)


@dataclass(frozen=True)
class Suite:
    """A task and what is asked of it. ``settings`` are the suite's own, with their defaults.

    ``tables`` are made in order; ``conclude`` makes the result of them, by default a list of the nodes that matter. A suite
    that decides what to do next from what it finds has ``run`` instead of both. ``cites``: BibTeX of what the experiments follow.
    ``metric``: what is measured unless a table or the user asks for another.
    """

    name: str
    description: str
    task: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[TableSpec] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    run: Callable[[Study], SuiteResult] | None = None
    conclude: Callable[[Study], SuiteResult] | None = None
    cites: str = ""
    metric: str | None = None

    def __post_init__(self) -> None:
        names = [table.name for table in self.tables]
        for name in names:
            if names.count(name) > 1:
                raise CircuitryError(
                    f"suite {self.name!r} has {names.count(name)} tables named {name!r}; each needs a name of its own"
                )
            if set(name) & set("/\\") or not name:
                raise CircuitryError(f"a table's name becomes the name of its files, and {name!r} cannot be one")

    def split(self, given: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options a user gave, as (settings of the suite, options of the task). Raises CircuitryError for one of neither.

        >>> Suite("s", "", "induction", settings={"distances": (8,)}).split({"distance": 16}, {"distance": 32})
        ({'distances': (8,)}, {'distance': 16})
        """
        settings, options = dict(self.settings), dict(self.options)
        for name, value in given.items():
            if name not in self.settings and name not in known:
                raise CircuitryError(f"suite {self.name!r} has no option {name!r}; {suggest(name, [*self.settings, *known])}")
            if name in self.settings:
                default = self.settings[name]
                settings[name] = (value,) if isinstance(default, tuple) and not isinstance(value, tuple | list) else value
                _check_kind(name, settings[name], default)
            if name in known:
                options[name] = value
        return settings, options

    def carry_out(self, study: Study) -> SuiteResult:
        """Make every table and conclude.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=16))
        >>> declared = Suite("s", "", "induction", tables=[TableSpec("states", "States", "h[{layer}] @ B+3 -> logits freezing h")])
        >>> declared.carry_out(study).summary.components[0].node
        'h[3] @ B+3'
        """
        if self.metric is not None:
            study.options = {"metric": self.metric, **study.options}
        if self.run is not None:
            return self.run(study)
        for table in self.tables:
            if table.needs is None or study.model.graph.by_role(table.needs):
                table.make(study)
        return self.conclude(study) if self.conclude else findings(study)


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Refuse a setting of another kind than its default; where that is a tuple, values of another kind than its first."""
    values, model = (value, default[0] if default else None) if isinstance(default, tuple) else ((value,), default)
    wrong = [one for one in values if not isinstance(one, int | float if isinstance(model, float) else type(model))]
    if isinstance(default, tuple) and (twice := [one for one in values if list(values).count(one) > 1]):
        raise CircuitryError(f"{name} has {twice[0]!r} twice; name each value once")
    if model is not None and wrong:
        raise CircuitryError(f"{name}={value!r}: expected {type(model).__name__}, such as {default!r}")


def findings(study: Study) -> SuiteResult:
    """The default conclusion: for each table the nodes whose cells pass the thresholds, each by its strongest cell.

    >>> import circuitry as ct
    >>> findings(Study(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4))).summary.components
    []
    """
    found = {name: _by_node(table) for name, table in study.tables.items()}
    components = [_component(study, name, cells) for name, nodes in found.items() for cells in nodes[:MOST_KEYS]]
    notes = [f"nodes by their strongest cell in each table, with {study.rule()}"]
    notes += [
        f"{len(nodes)} nodes pass in {name}; its {MOST_KEYS} strongest are listed"
        for name, nodes in found.items()
        if len(nodes) > MOST_KEYS
    ]
    notes += study.caveats(next(iter(study.tables.values()))) if study.tables else []
    return SuiteResult(study.tables, None, study.summary(components, notes))


def _by_node(table: PatchingTable) -> list[list[Any]]:
    """Cells over the thresholds, those of one node together; nodes, and the cells of each, from the strongest."""
    found: dict[str, list[Any]] = {}
    for cell in keys(table, most=len(table.mean())):
        found.setdefault(_node(table, cell), []).append(cell)
    return list(found.values())


def _component(study: Study, name: str, cells: list[Any]) -> Component:
    """A node as its strongest cell shows it, with the number of its other cells."""
    table = study.tables[name]
    first, others = cells[0], [f"and {count(len(cells) - 1, 'more cell')}"] if len(cells) > 1 else []
    role = ", ".join([name, *_conditions(table, first), *others])
    return study.component(source(table, first), role, name, first, _position(table, first))


def _node(table: PatchingTable, cell: Any) -> str:
    """The patched nodes without their positions."""
    path = path_of(table.provenance, _values(table, cell))
    return ", ".join(str(site.node) for site in path.sources) if path else source(table, cell)


def source(table: PatchingTable, cell: Any) -> str:
    """Where a cell's value enters, as its path says it, with the axes filled in.

    >>> import numpy as np
    >>> one = PatchingTable.of([{"layer": 3}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit", {"path": "h[{layer}] @ B -> logits"})
    >>> source(one, 3)
    'h[3] @ B'
    """
    path = path_of(table.provenance, _values(table, cell))
    if path is None:
        return str(table.provenance.get("path", ""))  # a description
    named = ", ".join(map(str, path.sources))
    return named if len(path.sources) == 1 else f"({named})"


def _conditions(table: PatchingTable, cell: Any) -> list[str]:
    """Under what a cell was measured, as far as its path does not say it: a distance, a metric, the label of a path."""
    open_axes = {axis for path in paths_of(table.provenance).values() for axis in path.axes}
    return [f"{axis} {value}" for axis, value in _values(table, cell).items() if axis not in open_axes]


def _position(table: PatchingTable, cell: Any) -> str:
    return str(_values(table, cell).get("position", ""))


def _values(table: PatchingTable, cell: Any) -> dict[str, Any]:
    """The axis values of a cell as a table's index names it; none where the table is one cell."""
    return dict(zip(table.axes, cell if isinstance(cell, tuple) else (cell,), strict=True)) if table.axes else {}
