"""Effects as they were measured: one row per cell and example, chosen, stacked and averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import networkx as nx
import numpy as np
import pandas as pd

from ..errors import CircuitryError, expected, suggest
from ..prompting import record
from ..prompting.texts import PromptTexts
from . import left_out, top_1
from .recorded import ways
from .statistics import Array
from .units import KL, SEVERAL, signed

_ROUNDING = 1e-6
"""Differences below this fraction of the numbers themselves are rounding in float32."""
COLUMNS = ("example", "effect", "base", "source")
"""The columns of every table beside its axes."""


@dataclass
class Measurements:
    """Effects of a path, and where they come from.

    ``frame`` has a column for every axis, then ``example``, ``effect`` (in ``unit``), ``base`` and ``source`` (the metric on
    the unpatched and on the source input). ``provenance`` holds path, model, task, seed and versions, for the record. ``random`` has
    the effects of random nodes patched the same way: ``draw`` (which node), ``node``, ``example``, ``effect``, ``base``,
    ``source``, and a column for any axis whose cells are to be compared only with rows of the same value. ``prompts`` has the
    prompts of the examples as text, each with the axis values of the cells that were measured on them. A table is a value:
    make a new one rather than change it.
    """

    frame: pd.DataFrame
    axes: tuple[str, ...]
    unit: str
    provenance: dict[str, Any] = field(default_factory=dict)
    random: pd.DataFrame | None = None
    prompts: tuple[tuple[dict[str, Any], PromptTexts], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a repeated cell: its examples would count twice, and make significance out of nothing."""
        keys = [*self.axes, "example"]
        if self.frame.columns.isin(keys).sum() == len(keys) and (twice := self.frame.duplicated(keys)).any():
            cell = self.frame[twice][keys].iloc[:1].to_dict("records")[0]
            raise CircuitryError(f"the table has a cell twice for one example: {cell}; each cell is measured once")

    @classmethod
    def of(
        cls,
        cells: Sequence[dict[str, Any]],
        effect: np.ndarray[Any, Any],
        base: np.ndarray[Any, Any],
        source: np.ndarray[Any, Any],
        unit: str,
        provenance: dict[str, Any] | None = None,
        random: pd.DataFrame | None = None,
        prompts: PromptTexts | None = None,
    ) -> Self:
        """Make a table of cells (axis values) and ``effect``, ``base`` and ``source`` [cell, example]; of these two, [example] will do.

        >>> t = Measurements.of([{"layer": 0}, {"layer": 1}], np.array([[1.0], [3.0]]), np.zeros(1), np.ones(1), "logit")
        >>> t.mean().tolist()
        [1.0, 3.0]
        """
        examples = effect.shape[1]
        axes = tuple(cells[0])
        columns: dict[str, Any] = {a: pd.Series([c[a] for c in cells], dtype=object).repeat(examples).to_numpy() for a in axes}
        columns["example"] = np.tile(np.arange(examples), len(cells))
        columns["effect"] = effect.ravel()
        columns |= {name: np.broadcast_to(values, effect.shape).ravel() for name, values in (("base", base), ("source", source))}
        texts: tuple[tuple[dict[str, Any], PromptTexts], ...] = (({}, prompts),) if prompts else ()
        return cls(pd.DataFrame(columns).infer_objects(), axes, unit, provenance or {}, random, texts)

    @classmethod
    def stack(cls, tables: Mapping[Any, Measurements], axis: str, title: str = "") -> Self:
        """Several tables of one path as one, with a new first axis: distance, corruption ... ; random nodes keep its values.

        Raises CircuitryError without a table, or where tables do not have the same axes and unit.

        >>> one = Measurements.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> Measurements.stack({8: one, 16: one}, "distance", "by distance").axes
        ('distance', 'layer')
        """
        if not tables:
            raise CircuitryError(expected(f"at least one table to stack by {axis!r}", tables))
        first = next(iter(tables.values()))
        if axis in (*first.axes, *COLUMNS):
            raise CircuitryError(f"these tables have a column {axis!r} already; try another name for the new axis")
        for value, table in tables.items():
            if (table.axes, table.unit) != (first.axes, first.unit):
                raise CircuitryError(
                    f"the table at {axis} {value!r} has axes {table.axes} in {table.unit}, the first {first.axes} in {first.unit}; "
                    "tables of one path and one metric can be stacked"
                )
        provenance = {
            **first.provenance,
            **_tasks(tables, axis),
            **ways({v: t.provenance for v, t in tables.items()}, axis),
            axis: list(tables),
        } | ({"title": title} if title else {})
        if any("top_1" in table.provenance for table in tables.values()):
            provenance["top_1"] = top_1.stacked({value: table.provenance.get("top_1") for value, table in tables.items()})
        skipped = {value: table.provenance.get("skipped", []) for value, table in tables.items()}
        provenance |= {"skipped": left_out.stacked(skipped, axis)} if any(skipped.values()) else {}
        baselines = {value: table.random for value, table in tables.items() if table.random is not None}
        frame = _stacked({value: table.frame for value, table in tables.items()}, axis)
        random, prompts = _stacked(baselines, axis) if baselines else None, _prompts(tables, axis)
        return cls(frame, (axis, *first.axes), first.unit, provenance, random, prompts)

    @classmethod
    def of_metrics(cls, tables: Mapping[str, Measurements], title: str = "") -> Self:
        """Tables of one path in several metrics as one, with the axis ``metric``; ``select`` gives each its own unit again.

        >>> one = {unit: Measurements.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), unit) for unit in ("logits", "nats")}
        >>> both = Measurements.of_metrics({"logit": one["logits"], "kl": one["nats"]})
        >>> both.unit, both.select("metric", "kl").unit
        ('change of the metric, each in its own unit', 'nats')
        """
        units = {name: table.unit for name, table in tables.items()}
        shared = next(iter(units.values())) if len(set(units.values())) == 1 else SEVERAL
        stacked = cls.stack({name: replace(table, unit=shared) for name, table in tables.items()}, "metric", title)
        never = {unit for name, table in tables.items() if not signed(unit := units[name], table.provenance)}
        return replace(
            stacked, provenance={**stacked.provenance, "unit": shared, "units": units, "never_negative": sorted(never)}
        )

    def unit_of(self, metric: Any) -> str:
        """The unit of one value of the axis ``metric``.

        >>> Measurements.of([{"metric": "kl"}], np.ones((1, 2)), np.zeros(2), np.ones(2), SEVERAL).unit_of("kl")
        'KL divergence from the base run, nats'
        """
        units = self.provenance.get("units") or ({"kl": KL} if self.unit == SEVERAL else {})  # old tables did not record units
        return str(units.get(str(metric), self.unit))

    def signed(self) -> pd.Series:
        """Whether each cell's effect can be negative, by its unit: a divergence or a distance cannot.

        >>> Measurements.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), KL).signed().tolist()
        [False]
        """
        cells = self.mean().index
        metrics = cells.get_level_values("metric") if "metric" in self.axes else [None] * len(cells)
        return pd.Series([signed(self.unit_of(metric), self.provenance) for metric in metrics], index=cells, dtype=bool)

    def select(self, axis: str, value: Any) -> Self:
        """The part of the table with one value of one axis, without that axis; random nodes of that value only.

        Raises CircuitryError for an axis or a value that the table does not have.

        >>> one = Measurements.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
        >>> Measurements.stack({8: one, 16: one}, "distance").select("distance", 8).axes
        ('layer',)
        """
        if axis not in self.axes:
            raise CircuitryError(f"this table has no axis {axis!r}; {suggest(axis, self.axes)}")
        frame = _having(self.frame, axis, value)
        if frame.empty:
            values = list(dict.fromkeys(self.frame[axis]))
            raise CircuitryError(f"no cell has {axis} {value!r}; there are {', '.join(map(repr, values))}")
        random = self.random
        if random is not None and axis in random:
            random = _having(random, axis, value)
            random = None if random.empty else random
        axes = tuple(a for a in self.axes if a != axis)
        provenance = {**self.provenance, axis: value}
        if axis == provenance.get("over"):
            provenance["task"] = provenance["tasks"][str(value)]
            del provenance["over"], provenance["tasks"]
        if axis == provenance.get("ways", {}).get("over"):
            provenance |= provenance.pop("ways")["of"][str(value)]
        if "top_1" in provenance:
            provenance["top_1"] = top_1.selected(provenance["top_1"], value)
        if provenance.get("skipped"):
            provenance["skipped"] = left_out.selected(provenance["skipped"], axis, value)
        unit = self.unit_of(value) if axis == "metric" else self.unit
        if axis == "metric":
            provenance = {**provenance, "unit": unit}
            provenance.pop("units", None)
        kept = tuple((_without(cells, axis), texts) for cells, texts in self.prompts if cells.get(axis, value) == value)
        return replace(self, frame=frame, axes=axes, unit=unit, provenance=provenance, random=random, prompts=kept)

    def prompts_of(self, **cell: Any) -> PromptTexts | None:
        """The prompts on which a cell was measured, by its axis values; None for a table that was made without them.

        >>> texts = PromptTexts([[1]], [[2]], [1], [2], {}, {1: "a", 2: "b"})
        >>> one = Measurements.of([{"layer": 0}], np.ones((1, 1)), np.zeros(1), np.ones(1), "logit", prompts=texts)
        >>> one.prompts_of(layer=0).marked(0)
        '[a->b]'
        """
        fitting = (texts for values, texts in self.prompts if all(cell.get(axis) == value for axis, value in values.items()))
        return next(fitting, None)

    def titled(self, title: str) -> Self:
        """The table with a title for its picture and heading.

        >>> Measurements.of([{}], np.ones((1, 1)), np.zeros(1), np.ones(1), "logit").titled("T").provenance["title"]
        'T'
        """
        return replace(self, provenance={**self.provenance, "title": title})

    def _grouped(self, values: pd.Series | None = None) -> Any:
        """Effects (or other values per row) by cell, in the order of the cells; one group if no axis is open."""
        keys: list[Any] = [self.frame[axis] for axis in self.axes] or [np.zeros(len(self.frame), int)]
        return (self.frame["effect"] if values is None else values).groupby(keys, sort=False)

    def cell_numbers(self) -> np.ndarray[Any, Any]:
        """For each row of ``frame``, the number of its cell in the order of ``mean``.

        >>> Measurements.of([{"k": 0}, {"k": 1}], np.ones((2, 1)), np.zeros(1), np.ones(1), "logit").cell_numbers().tolist()
        [0, 1]
        """
        return np.asarray(self._grouped().ngroup())

    def values(self, column: str = "effect") -> Array:
        """Effects (or another column) as an array [cell, example], cells as in ``mean``, examples in order, NaN after the last.

        >>> Measurements.of([{}], np.array([[1.0, 2.0]]), np.zeros(2), np.ones(2), "logit").values().tolist()
        [[1.0, 2.0]]
        """
        return _filled(self._grouped(self.frame["example"]), self.frame[column])

    def random_values(self) -> Array | None:
        """Effects of the random nodes as an array [node, example], those that can be negative; None without ``random``.

        >>> random = pd.DataFrame({"draw": [0, 0, 1], "example": [0, 1, 0], "effect": [1.0, 2.0, 3.0]})
        >>> one = Measurements.of([{}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit", random=random)
        >>> one.random_values().tolist()
        [[1.0, 2.0], [3.0, nan]]
        """
        if self.random is None:
            return None
        units = {metric: self.unit_of(metric) for metric in self.random.get("metric", pd.Series([None])).unique()}
        can_be_negative = [
            signed(units[metric], self.provenance) for metric in self.random.get("metric", [None] * len(self.random))
        ]
        random = self.random[can_be_negative]
        keys = [random[axis] for axis in self.axes if axis in random] + [random["draw"]]
        return _filled(random["example"].groupby(keys, sort=False), random["effect"])

    def mean(self) -> pd.Series:
        """Mean effect of each cell, indexed by the axes.

        >>> Measurements.of([{}], np.array([[1.0, 2.0]]), np.zeros(2), np.ones(2), "logit").mean().tolist()
        [1.5]
        """
        return self._mean.copy()

    @cached_property
    def _mean(self) -> pd.Series:
        return pd.Series(self._grouped().mean())

    def sem(self) -> pd.Series:
        """Standard error of each cell's mean over examples; NaN with one example.

        >>> Measurements.of([{}], np.array([[1.0, 3.0]]), np.zeros(2), np.ones(2), "logit").sem().tolist()
        [1.0]
        """
        return self._grouped().sem()  # type: ignore[no-any-return]

    def normalized(self) -> pd.Series:
        """The normalized effect: the mean effect divided by that of patching the whole input. 1 is all of it, with the same sign.

        NaN if the whole input changes nothing beyond rounding: a fraction of that means nothing.

        >>> Measurements.of([{}], np.array([[-1.0]]), np.array([2.0]), np.array([0.0]), "logit").normalized().tolist()
        [0.5]
        """
        return self._normalized.copy()

    @cached_property
    def _normalized(self) -> pd.Series:
        return self._mean / self._whole

    @cached_property
    def _whole(self) -> pd.Series:
        """By cell, the effect of exchanging the whole input; NaN if it changes nothing beyond rounding."""
        whole: pd.Series = self._grouped(self.frame["source"] - self.frame["base"]).mean()
        return whole.where(whole.abs() > self._rounding)

    def carried(self) -> pd.Series:
        """The mean effect as it is coloured: above zero if it carries the behaviour, that is, has the sign of the whole input's effect.

        As it is where the whole input changes nothing beyond rounding.

        >>> Measurements.of([{}], np.array([[-1.0]]), np.array([2.0]), np.array([0.0]), "logit").carried().tolist()
        [1.0]
        """
        sign: pd.Series = np.sign(self._whole).fillna(1.0)
        return self._mean * sign

    @property
    def carrying(self) -> int | None:
        """The sign of the effects that carry the behaviour: 1 or -1; 0 if it differs between cells, and None if it is not known.

        >>> Measurements.of([{}], np.array([[-1.0]]), np.array([2.0]), np.array([0.0]), "logit").carrying
        -1
        """
        signs = set(np.sign(self._whole.dropna()).astype(int).tolist())
        return (signs.pop() if len(signs) == 1 else 0) if signs else None

    @cached_property
    def _rounding(self) -> pd.Series:
        """By cell, the largest effect that may be rounding of the metric on the two inputs."""
        base, source = (self.frame[column].abs() for column in ("base", "source"))
        return _ROUNDING * pd.Series(self._grouped(base + source).mean())

    def pivot(self, values: pd.Series | None = None) -> pd.DataFrame:
        """Cell means (or other values by cell) as a grid: the first axis in rows, the last in columns.

        >>> t = Measurements.of([{"layer": 0}, {"layer": 1}], np.array([[1.0], [3.0]]), np.zeros(1), np.ones(1), "logit")
        >>> t.pivot().to_numpy().tolist()
        [[1.0, 3.0]]
        """
        values = self.mean() if values is None else values
        if len(self.axes) <= 1:
            name = self.axes[0] if self.axes else ""
            frame = values.to_frame().T
            frame.index, frame.columns = pd.Index(["effect"]), pd.Index(values.index, name=name)
            return frame
        grid: pd.DataFrame = values.unstack(self.axes[-1])
        rows = self.frame.drop_duplicates(list(self.axes)).groupby(list(self.axes[:-1]), sort=False)[self.axes[-1]]
        return grid[merged([list(row) for _, row in rows])]


def merged(rows: Sequence[Sequence[Any]]) -> list[Any]:
    """The values of all rows in an order that agrees with every row; by first appearance if there is none.

    >>> merged([["A", "B", "END"], ["A", "B", "B+1", "END"]]), merged([[1, 2], [2, 1]])
    (['A', 'B', 'B+1', 'END'], [1, 2])
    """
    order: nx.DiGraph[Any] = nx.DiGraph()
    for row in rows:
        nx.add_path(order, row)
    seen = {value: number for number, value in enumerate(dict.fromkeys(value for row in rows for value in row))}
    try:
        return list(nx.lexicographical_topological_sort(order, key=seen.__getitem__))
    except nx.NetworkXUnfeasible:
        return list(seen)


def _filled(examples: Any, values: pd.Series) -> Array:
    """Values of groups of rows as an array [group, example], given the groups' examples; NaN after the last."""
    group, place = examples.ngroup().to_numpy(), examples.rank(method="first").to_numpy().astype(int) - 1
    filled = np.full((group.max(initial=-1) + 1, place.max(initial=-1) + 1), np.nan)
    filled[group, place] = values
    return filled


def _stacked(frames: Mapping[Any, pd.DataFrame], axis: str) -> pd.DataFrame:
    """Frames below each other, with a new first column that names the frame of each row."""
    values = [value for value, frame in frames.items() for _ in range(len(frame))]
    stacked = pd.concat(frames.values(), ignore_index=True)
    stacked.insert(0, axis, pd.Series(values, dtype=object).infer_objects())
    return stacked


def _prompts(tables: Mapping[Any, Measurements], axis: str) -> tuple[tuple[dict[str, Any], PromptTexts], ...]:
    """The prompts of stacked tables; those of the first, if all tables were measured on the same."""
    first, *rest = (table.prompts for table in tables.values())
    if all(prompts == first for prompts in rest):
        return first
    return tuple(({axis: value, **cells}, texts) for value, table in tables.items() for cells, texts in table.prompts)


def _without(cells: Mapping[str, Any], axis: str) -> dict[str, Any]:
    return {name: value for name, value in cells.items() if name != axis}


def _having(frame: pd.DataFrame, axis: str, value: Any) -> pd.DataFrame:
    """Rows with one value of an axis, without its column; compared one by one, since a value may be a tuple."""
    return frame[[entry == value for entry in frame[axis]]].drop(columns=axis).reset_index(drop=True)


def _tasks(tables: Mapping[Any, Measurements], axis: str) -> dict[str, Any]:
    """The task of tables that differ in one of its options, with all values of it; the task of each table stays under ``tasks``."""
    tasks = {str(value): table.provenance.get("task", "") for value, table in tables.items()}
    if len({record.text(task) for task in tasks.values()}) < 2:
        return {}
    return {"task": record.together(list(tasks.values()), axis, list(tables)), "tasks": tasks, "over": axis}
