"""Does a finding depend on how it was measured? One path under every ablation, direction, frozen set and metric.

A paper leaves some choices open, such as whether the read-out of later layers is live while their states are frozen. Here each
choice is a setting, and a finding holds in n of m settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..architecture.graph import Graph
from ..errors import CircuitryError, no_effect, several
from ..html.shown import Shown
from ..models.model import Model
from ..patching.experiment import patch
from ..paths.parse import parse, parse_node
from ..paths.values import Node, Path
from ..planning.interventions import INTERVENTIONS, intervention
from ..planning.names import POSITION, axis_kinds
from ..planning.plan import plan
from ..planning.readings import reads_logits
from ..progress import together
from ..prompting.task import Task
from ..results.recorded import facts
from ..results.table import PatchingTable
from ..thresholds import SIGNIFICANT

if TYPE_CHECKING:
    from markupsafe import Markup

METRICS = ("logit", "logit_difference", "log_probability")
"""The default metrics: one on each scale, of those that are signed."""
ABLATIONS = tuple(name for name, entry in INTERVENTIONS.items() if not entry.needs_value)
DIRECTIONS = ("noising", "denoising")
AS_WRITTEN = "as written"
OPEN_ROLES = (("gate", ""), ("write_input", "C"), ("write_input", "skip"), ("mlp", ""))
"""Nodes, by role and port, that are live in a path that freezes states or heads, but that another author might freeze."""
DISTANCE = "distance"
"""The metric's name in the frame if a path does not end at the logits."""
SETTING = ("ablation", "direction", "frozen", "metric")


@dataclass
class Sensitivity(Shown):
    """A finding in every setting.

    ``frame`` has a row for each setting: the four choices, the strongest cell, the ``normalized`` effect of the finding's cell
    with its bootstrap interval and ``q``, and whether the finding ``holds``. ``cell`` is the strongest cell of the first
    setting; ``tables`` has the tables by (ablation, direction, frozen).
    """

    path: str
    cell: Any
    frame: pd.DataFrame
    tables: dict[tuple[str, str, str], PatchingTable] = field(repr=False, default_factory=dict)
    provenance: dict[str, Any] = field(repr=False, default_factory=dict)

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_sensitivity

        return of_sensitivity(self)

    @property
    def held(self) -> int:
        """The number of settings in which the finding holds.

        >>> Sensitivity("p", 3, pd.DataFrame({"holds": [True, False]})).held
        1
        """
        return int(self.frame["holds"].sum())

    def text(self) -> str:
        """In how many settings the finding holds, in all and for each value of each choice.

        >>> frame = pd.DataFrame({"ablation": ["resample", "zero"], "direction": "noising", "frozen": "as written",
        ...                       "metric": "logit", "holds": [True, False]})
        >>> print(Sensitivity("h[{layer}] -> logits", 3, frame).text())
        h[{layer}] -> logits
        the finding (cell 3 is the strongest) holds in 1 of 2 settings
          ablation resample: 1 of 1, zero: 0 of 1
          everywhere direction noising, frozen as written, metric logit
        """
        said = ", ".join(filter(None, facts(self.provenance)[1:]))
        lines = [
            self.path,
            f"the finding ({self.claim}) holds in {self.held} of {len(self.frame)} settings",
        ]
        for choice in SETTING:
            counted = self.frame.groupby(choice, sort=False)["holds"].agg(["sum", "size"])
            if len(counted) > 1:
                lines.append(f"  {choice} " + ", ".join(f"{name}: {n} of {m}" for name, n, m in counted.itertuples()))
        alone = [f"{choice} {self.frame[choice].iloc[0]}" for choice in SETTING if self.frame[choice].nunique() == 1]
        if alone:
            lines.append(f"  everywhere {', '.join(alone)}")
        return "\n".join([*lines, *([f"({said})"] if said else [])])

    @property
    def claim(self) -> str:
        """The finding in words.

        >>> Sensitivity("p", (3, "B"), pd.DataFrame()).claim
        'cell 3, B is the strongest'
        """
        cell = ", ".join(map(str, self.cell)) if isinstance(self.cell, tuple) else str(self.cell)
        return str(self.provenance.get("claim", f"cell {cell} is the strongest"))

    def __repr__(self) -> str:
        return self.text()

    def plot(self, path: str | FilePath | None = None, style: str | None = None) -> Any:
        """The normalized effect of the finding's cell by setting (rows) and metric, crossed where the finding does not hold."""
        from ..drawing.figures import plotted
        from .grid_figure import draw

        return plotted(draw, self, path, style)


@together()
def sensitivity(
    model: Model,
    task: Task,
    path: Path | str,
    *,
    holds: Callable[[PatchingTable], bool] | None = None,
    ablations: Sequence[str] = ABLATIONS,
    directions: Sequence[str] = DIRECTIONS,
    metrics: Sequence[str] | None = None,
    frozen: Mapping[str, Sequence[str]] | None = None,
    **options: Any,
) -> Sensitivity:
    """Measure a path in every setting. Zero and mean ablation use no other prompt, so they run as noising only.

    Args:
        holds: a function of one setting's table that says whether the finding holds. By default: whether the strongest cell of
            the first setting (the first of each list, the path as written) is the strongest again, at q < .05. If tables have
            too few effects for any q, p < .05 counts; for a metric that is never negative, such as KL, only the order counts.
        metrics: by default the answer's logit, the logit difference and the answer's log probability; for a path that does not
            end at the logits, the distance at its target.
        frozen: sets to freeze on the last leg, by label, instead of those of the path. By default: the path as written, nothing
            at all, and the path's own set with each of gate, read-out matrix, skip connection and MLPs that the model has.
            Default sets with which the path could have no effect are left out.
        options: passed to ``circuitry.patch``: axes, executor ...

    Raises CircuitryError if no setting is left, and for a setting that is given twice or would have no effect.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8)
    >>> result = sensitivity(model, task, "h[{layer}] @ B+3 -> logits freezing h", ablations=["resample"], metrics=["logit"])
    >>> result.cell, len(result.frame)
    (3, 10)
    """
    written = parse(path) if isinstance(path, str) else path
    sets = dict(frozen_sets(model.graph, written) if frozen is None else _given(model.graph, written, frozen))
    _check_settings(ablations, directions, sets, options)
    has_metric = reads_logits(written, model.graph)
    named = several("metrics", metrics) if metrics is not None else METRICS if has_metric else (DISTANCE,)
    tables = {}
    for ablation, direction in _runs(ablations, directions):
        for label, variant in sets.items():
            arguments = {"lint": "prompts", "baseline": 0, **options}
            # Metrics that the user gave for a path without logits reach ``patch``, which refuses them.
            asked = list(named) if has_metric else metrics
            table = patch(model, task, variant, metric=asked, intervention=ablation, direction=direction, **arguments)
            tables[ablation, direction, label] = (
                table if has_metric else PatchingTable.stack({DISTANCE: table}, "metric", str(variant))
            )
    if not tables:
        raise CircuitryError("no setting is left to measure; give at least one ablation, direction, frozen set and metric")
    first = next(iter(tables.values())).select("metric", named[0])
    effects = first.normalized()
    cell = effects.index.tolist()[int(effects.argmax())]
    rows = [_row(key, metric, table.select("metric", metric), cell, holds) for key, table in tables.items() for metric in named]
    provenance = {"model": model.name, "task": task.record} | ({"claim": holds.__doc__ or holds.__name__} if holds else {})
    return Sensitivity(str(written), cell, pd.DataFrame(rows), tables, provenance)


def _check_settings(
    ablations: Sequence[str], directions: Sequence[str], sets: Mapping[str, Path], options: Mapping[str, Any]
) -> None:
    """Refuse a repeated setting, which would be counted twice, and one that would have no effect."""
    for name, values in (("ablations", ablations), ("directions", directions)):
        several(name, values)
        if twice := [value for value in values if list(values).count(value) > 1]:
            raise CircuitryError(f"{name} has {twice[0]!r} twice; each setting is counted once, so name it once")
    for number, (label, path) in enumerate(sets.items()):
        if same := [earlier for earlier in list(sets)[:number] if sets[earlier] == path]:
            raise CircuitryError(
                f"the frozen sets {same[0]!r} and {label!r} are the same; each setting is counted once, so name it once"
            )
    if set(directions) == {"denoising"} and (
        only := [ablation for ablation in ablations if not intervention(ablation).from_source]
    ):
        why = f"ablation {only[0]!r} takes nothing from the other prompt and is run as noising only"
        raise no_effect("directions", list(directions), why, "add 'noising', or leave out all ablations but 'resample'")
    for name, instead in (("metric", "metrics"), ("intervention", "ablations"), ("direction", "directions")):
        if name in options:
            raise CircuitryError(f"{name}= varies over the grid; give {instead}=[...]")


def _runs(ablations: Sequence[str], directions: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    for ablation in ablations:
        for direction in directions if intervention(ablation).from_source else ("noising",):
            yield ablation, direction


def frozen_sets(graph: Graph, path: Path) -> Iterator[tuple[str, Path]]:
    """The path as written, and with other sets frozen on its last leg, by label; without sets that would leave it no effect.

    >>> import circuitry as ct
    >>> [label for label, _ in frozen_sets(ct.graph("mamba"), ct.parse("h[3] @ B -> logits freezing h"))]
    ['as written', 'nothing', 'and gate', 'and ssm_in.C', 'and ssm_in.skip']
    """
    leg = path.legs[-1]
    open_nodes = [(graph.by_role(role)[0], port) for role, port in OPEN_ROLES if graph.by_role(role)]
    more = [Node(family.name, (), port or None) for family, port in open_nodes if not port or port in family.ports]
    sets = {AS_WRITTEN: leg, "nothing": replace(leg, frozen=(), exempt=(), directly=False)}
    if not leg.directly:
        frozen = [graph.canonical(node) for node in leg.frozen]
        sets |= {f"and {node}": replace(leg, frozen=(*leg.frozen, node)) for node in more if node not in frozen}
    for label, changed_leg in sets.items():
        variant = replace(path, legs=(*path.legs[:-1], changed_leg))
        if label == AS_WRITTEN or (variant != path and _possible(graph, variant)):
            yield label, variant


def _given(graph: Graph, path: Path, frozen: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Path]]:
    yield AS_WRITTEN, path
    for label, names in frozen.items():
        nodes = tuple(parse_node(name) for name in names)
        families = {graph.family(node.family).name for node in nodes}
        # An ``except`` that exempts nothing of the new set would be refused.
        exempt = tuple(node for node in path.legs[-1].exempt if graph.family(node.family).name in families)
        leg = replace(path.legs[-1], frozen=nodes, exempt=exempt, directly=False)
        yield label, replace(path, legs=(*path.legs[:-1], leg))


def _possible(graph: Graph, path: Path) -> bool:
    """Whether the path can have an effect according to the graph; placeholders stand for open positions, which need prompts."""
    try:
        anywhere = {name: [f"ANY_{name}"] for name, kind in axis_kinds(path, graph).items() if kind == POSITION}
        plan(path, graph, axes=anywhere)
    except CircuitryError:
        return False
    return True


def _row(
    key: tuple[str, str, str], metric: str, table: PatchingTable, cell: Any, holds: Callable[[PatchingTable], bool] | None
) -> dict[str, Any]:
    """One row of the frame: the strongest cell of a setting and the numbers of the finding's cell, 0 where it was not run."""
    numbers, effects = table.statistics(), table.normalized()
    strongest = effects.index.tolist()[int(effects.argmax())]
    normalized, low, high, q, p = 0.0, 0.0, 0.0, 1.0, 1.0
    if cell in effects.index:
        row = numbers.loc[[cell]].iloc[0]
        normalized, q, p = row["normalized"], row["q"], row["p"]
        # Intervals are in the metric's unit. The scale is negative if the whole effect is, so the ends may swap.
        scale = normalized / row["mean"] if row["mean"] else 0.0
        low, high = sorted((row["low"] * scale, row["high"] * scale))
    return {
        **dict(zip(SETTING, (*key, metric), strict=True)),
        "strongest": strongest,
        "normalized": float(normalized),
        "low": float(low),
        "high": float(high),
        "q": float(q),
        "holds": bool(holds(table)) if holds else bool(strongest == cell and _sure(table, p, q)),
    }


def _sure(table: PatchingTable, p: float, q: float) -> bool:
    """Whether a cell's effect is significant; True for a metric that is never negative, which is not tested."""
    if not table.signed().all():
        return True
    return bool((q if table.outliers.enough else p) < SIGNIFICANT)
