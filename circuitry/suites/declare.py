"""A suite as a value: a task, the tables to measure on it, and how to summarise them. A suite file defines one as ``SUITE``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..architecture.definitions import roles
from ..architecture.graph import Graph
from ..errors import CircuitryError, expected, several, suggest
from ..html.shown import Shown
from ..patching.experiment import Paths
from ..results.recorded import path_of, paths_of
from ..results.table import PatchingTable
from ..results.writing import count
from ..thresholds import MOST_KEYS
from .keys import keys, too_few
from .result import Component, SuiteResult
from .study import Study

if TYPE_CHECKING:
    from markupsafe import Markup

Axes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class TableSpec(Shown):
    """One table of a suite.

    ``path`` is a path's text, or several by label (``ct.labelled`` names their axis), or a function of the Study that returns
    either. Such a function can read ``study.tables``, which holds the tables listed before this one. ``axes``: values of open
    axes, or a function of the Study that returns them. ``over``: a task option and its values, which become the first axis.
    ``options``: task options for this table. ``layout``: the order of the axes; the last one is drawn across. ``needs``: a node
    role; the table is left out if the model has no node of that role.
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

    def __post_init__(self) -> None:
        several(f"layout of table {self.name!r}", self.layout)

    def made_for(self, graph: Graph) -> bool:
        """Whether a model with this graph has what the table needs. Raises CircuitryError for a role that no architecture knows.

        >>> import circuitry as ct
        >>> heads = TableSpec("heads", "Heads", "head[{layer},{head}] @ END -> logits", needs="head")
        >>> heads.made_for(ct.graph("gpt2")), heads.made_for(ct.graph("mamba"))
        (True, False)
        """
        if self.needs is None or graph.by_role(self.needs):
            return True
        if self.needs not in roles():
            raise CircuitryError(
                f"table {self.name!r} needs the role {self.needs!r}, which no node plays; {suggest(self.needs, roles())}"
            )
        return False

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_spec

        return of_spec(self)

    def make(self, study: Study) -> PatchingTable:
        """Run the patches of this table, order its axes, and keep it in the study. Raises CircuitryError for a wrong layout.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4))
        >>> TableSpec("states", "States", "h[{layer}] @ B+1 -> logits freezing h").make(study).axes
        ('layer',)
        """
        path = self.path(study) if callable(self.path) else self.path
        axes = self.axes(study) if callable(self.axes) else self.axes
        options: dict[str, Any] = {"task": dict(self.options), "metric": self.metric, **axes}
        if len(self.over) > 1:
            raise CircuitryError(expected(f"one task option in over= of table {self.name!r}", list(self.over)))
        if self.over:
            option, values = next(iter(self.over.items()))
            table = study.over(option, values, self.title, path, **options)
        else:
            table = study.patch(self.title, path, **options)
        if self.layout:
            if sorted(self.layout) != sorted(table.axes):
                raise CircuitryError(
                    f"table {self.name!r} has the axes {', '.join(table.axes)}; its layout names {', '.join(self.layout)}"
                )
            table = replace(table, axes=self.layout)
        return study.keep(self.name, table, self.note)


@dataclass(frozen=True)
class Suite(Shown):
    """A task and the experiments on it. ``settings`` are the options of the suite itself, with their defaults.

    ``tables`` are made in order. ``conclude`` turns them into the result, by default a list of the nodes that matter. A suite
    whose next step depends on its earlier results has ``run`` instead of both. ``cites``: BibTeX of the papers it follows.
    ``metric``: the metric of every table, unless the table or the user sets another.
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

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_suite

        return of_suite(self)

    def __post_init__(self) -> None:
        names = [table.name for table in self.tables]
        for name in names:
            if names.count(name) > 1:
                raise CircuitryError(
                    f"suite {self.name!r} has {names.count(name)} tables named {name!r}; give each a different name"
                )
            if set(name) & set("/\\") or not name:
                raise CircuitryError(expected("a table name that can be a file name", name, "try one without slashes"))

    def split(self, given: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split the user's options into (settings of the suite, options of the task). Raises CircuitryError for an unknown one.

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
        """Make every table and return the result.

        >>> import circuitry as ct
        >>> study = Study(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=16))
        >>> declared = Suite("s", "", "induction", tables=[TableSpec("states", "States", "h[{layer}] @ B+3 -> logits freezing h")])
        >>> declared.carry_out(study).summary.components[0].node
        'h[3] @ B+3'
        """
        if self.metric is not None:
            # The user's metric comes last and wins.
            study.options = {"metric": self.metric, **study.options}
        if self.run is not None:
            return self.run(study)
        for table in self.tables:
            if table.made_for(study.model.graph):
                table.make(study)
        return self.conclude(study) if self.conclude else findings(study)


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Refuse a setting whose type differs from its default's; values of a tuple are compared with the default's first value."""
    values, sample = (value, default[0] if default else None) if isinstance(default, tuple) else ((value,), default)
    wrong = [v for v in values if not isinstance(v, int | float if isinstance(sample, float) else type(sample))]
    if isinstance(default, tuple) and (twice := [v for v in values if list(values).count(v) > 1]):
        raise CircuitryError(f"{name} has {twice[0]!r} twice; name each value once")
    if sample is not None and wrong:
        raise CircuitryError(f"{name}={value!r}: expected {type(sample).__name__}, such as {default!r}")


def findings(study: Study) -> SuiteResult:
    """The default conclusion: for each table the nodes whose cells pass the thresholds, each by its strongest cell.

    >>> import circuitry as ct
    >>> findings(Study(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=4))).summary.components
    []
    """
    nodes_by_table = {name: _by_node(table) for name, table in study.tables.items()}
    components = [_component(study, name, cells) for name, nodes in nodes_by_table.items() for cells in nodes[:MOST_KEYS]]
    notes = [f"nodes by their strongest cell in each table, with {study.rule()}"]
    notes += [
        f"{len(nodes)} nodes pass in {name}; its {MOST_KEYS} strongest are listed"
        for name, nodes in nodes_by_table.items()
        if len(nodes) > MOST_KEYS
    ]
    notes += study.caveats(next(iter(study.tables.values()))) if study.tables else []
    undecided = "; ".join(
        f"{name}: {few}" for name, table in study.tables.items() if not nodes_by_table[name] and (few := too_few(table))
    )
    notes += [f"too few examples in {undecided}"] if undecided and components else []
    return SuiteResult(study.tables, None, study.summary(components, notes, undecided=undecided))


def _by_node(table: PatchingTable) -> list[list[Any]]:
    """Cells above the thresholds, grouped by node; the nodes and the cells of each are sorted, strongest first."""
    nodes: dict[str, list[Any]] = {}
    for cell in keys(table, most=len(table.mean())):
        nodes.setdefault(_node(table, cell), []).append(cell)
    return list(nodes.values())


def _component(study: Study, name: str, cells: list[Any]) -> Component:
    """A node with its strongest cell and the number of its other cells."""
    table = study.tables[name]
    first, more = cells[0], [f"and {count(len(cells) - 1, 'more cell')}"] if len(cells) > 1 else []
    role = ", ".join([name, *_conditions(table, first), *more])
    return study.component(source(table, first), role, name, first, _position(table, first))


def _node(table: PatchingTable, cell: Any) -> str:
    """The patched nodes without their positions."""
    path = path_of(table.provenance, _values(table, cell))
    return ", ".join(str(site.node) for site in path.sources) if path else source(table, cell)


def source(table: PatchingTable, cell: Any) -> str:
    """The patched sites of a cell, as its path writes them, with the axes filled in.

    >>> import numpy as np
    >>> provenance = {"path": "h[{layer}] @ B -> logits"}
    >>> table = PatchingTable.of([{"layer": 3}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit", provenance)
    >>> source(table, 3)
    'h[3] @ B'
    """
    path = path_of(table.provenance, _values(table, cell))
    if path is None:
        return str(table.provenance.get("path", ""))  # a table made by other means has a description here, not a path
    named = ", ".join(map(str, path.sources))
    return named if len(path.sources) == 1 else f"({named})"


def _conditions(table: PatchingTable, cell: Any) -> list[str]:
    """The axis values of a cell that its path does not contain: a distance, a metric, the label of a path."""
    open_axes = {axis for path in paths_of(table.provenance).values() for axis in path.axes}
    return [f"{axis} {value}" for axis, value in _values(table, cell).items() if axis not in open_axes]


def _position(table: PatchingTable, cell: Any) -> str:
    return str(_values(table, cell).get("position", ""))


def _values(table: PatchingTable, cell: Any) -> dict[str, Any]:
    """The axis values of a cell, by axis; empty for a table of one cell."""
    return dict(zip(table.axes, cell if isinstance(cell, tuple) else (cell,), strict=True)) if table.axes else {}
