"""Does a finding depend on how it was measured? One path under every ablation, direction, frozen set and metric.

What the paper leaves open, such as whether the read-out of later layers is live while their states are frozen, is here one more
setting among others: a finding holds in n of m of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from ..architecture.graph import Graph
from ..errors import CircuitryError, no_effect
from ..models.model import Model
from ..patching.experiment import patch
from ..paths.parse import parse, parse_node
from ..paths.values import Node, Path
from ..planning.interventions import INTERVENTIONS, intervention
from ..planning.names import POSITION, axis_kinds
from ..planning.plan import plan
from ..planning.readings import reads_logits
from ..prompting.task import Task
from ..results.table import PatchingTable
from ..thresholds import SIGNIFICANT

METRICS = ("logit", "logit_difference", "log_probability")
"""The metrics that are measured if nothing is said: of those with the answer's sign, one on each scale."""
ABLATIONS = tuple(name for name, one in INTERVENTIONS.items() if not one.needs_value)
DIRECTIONS = ("noising", "denoising")
AS_WRITTEN = "as written"
OPEN_ROLES = (("gate", ""), ("write_input", "C"), ("write_input", "skip"), ("mlp", ""))
"""Nodes, by role and port, that a path which freezes states or heads leaves live, and another author might not."""
DISTANCE = "distance"
"""What stands for the metric where a path does not end at the logits."""
SETTING = ("ablation", "direction", "frozen", "metric")


@dataclass
class Sensitivity:
    """A finding in every setting. ``frame`` has a row a setting: the four choices, the strongest cell, what the cell of the
    finding has (``normalized`` effect, with its bootstrap interval, and ``q``), and whether the finding ``holds``.

    ``cell`` is the strongest cell of the first setting; ``tables`` the tables by (ablation, direction, frozen).
    """

    path: str
    cell: Any
    frame: pd.DataFrame
    tables: dict[tuple[str, str, str], PatchingTable] = field(repr=False, default_factory=dict)
    provenance: dict[str, Any] = field(repr=False, default_factory=dict)

    @property
    def held(self) -> int:
        """In how many settings the finding holds.

        >>> Sensitivity("p", 3, pd.DataFrame({"holds": [True, False]})).held
        1
        """
        return int(self.frame["holds"].sum())

    def text(self) -> str:
        """How many settings agree, and which choices those that do not have in common.

        >>> frame = pd.DataFrame({"ablation": ["resample", "zero"], "direction": "noising", "frozen": "as written",
        ...                       "metric": "logit", "holds": [True, False]})
        >>> print(Sensitivity("h[{layer}] -> logits", 3, frame).text())
        h[{layer}] -> logits
        the finding (cell 3 is the strongest) holds in 1 of 2 settings
          ablation resample: 1 of 1, zero: 0 of 1
        """
        lines = [self.path, f"the finding ({self.claim}) holds in {self.held} of {len(self.frame)} settings"]
        for choice in SETTING:
            counted = self.frame.groupby(choice, sort=False)["holds"].agg(["sum", "size"])
            if len(counted) > 1:
                lines.append(f"  {choice} " + ", ".join(f"{name}: {n} of {m}" for name, n, m in counted.itertuples()))
        return "\n".join(lines)

    @property
    def claim(self) -> str:
        """The finding in words.

        >>> Sensitivity("p", (3, "B"), pd.DataFrame()).claim
        'cell 3, B is the strongest'
        """
        shown = ", ".join(map(str, self.cell)) if isinstance(self.cell, tuple) else str(self.cell)
        return str(self.provenance.get("claim", f"cell {shown} is the strongest"))

    def __repr__(self) -> str:
        return self.text()

    def plot(self, path: str | None = None) -> Any:
        """Settings as a grid, metrics across: the normalized of the finding's cell, crossed out where it does not hold."""
        from ..drawing.figures import save
        from .grid_figure import draw

        figure = draw(self)
        if path is not None:
            save(figure, path)
        return figure


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
    """Measure a path in every setting. Zero and mean ablation have no other direction, so they are run as noising only.

    Args:
        metrics: by default the answer's logit, the logit difference and the answer's log probability; a path that does not end at
            the logits has none of them, and its distance is measured.
        holds: the finding, as a question to one setting's table; by default whether the strongest cell of the first setting
            (the first of each list, the path as written) is the strongest again, at q < .05. Where tables have too
            few effects for any q, p < .05 counts; in a metric that is never negative, such as KL, being the strongest is enough.
        frozen: sets to freeze on the last leg, by label, instead of what the path says; by default the path as written, nothing
            at all, and what is written with each of gate, read-out matrix, skip connection and MLPs that the model has. Sets
            with which the path could have no effect are left out.
        options: given to ``circuitry.patch``: axes, executor ...

    Raises CircuitryError where no setting is left, and for a setting that is given twice or would have no effect.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8)
    >>> found = sensitivity(model, task, "h[{layer}] @ B+3 -> logits freezing h", ablations=["resample"], metrics=["logit"])
    >>> found.cell, len(found.frame)
    (3, 10)
    """
    written = parse(path) if isinstance(path, str) else path
    sets = dict(frozen_sets(model.graph, written) if frozen is None else _given(model.graph, written, frozen))
    _check_settings(ablations, directions, sets, options)
    has_metric = reads_logits(written, model.graph)
    named = metrics if metrics is not None else METRICS if has_metric else (DISTANCE,)
    tables = {}
    for ablation, direction in _runs(ablations, directions):
        for label, one in sets.items():
            given = {"lint": "prompts", "baseline": 0, **options}
            asked = list(named) if has_metric else metrics
            made = patch(model, task, one, metric=asked, intervention=ablation, direction=direction, **given)
            tables[ablation, direction, label] = made if has_metric else PatchingTable.stack({DISTANCE: made}, "metric", str(one))
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
    """Refuse a setting that comes twice, since it would be counted twice, and one that is not what would run."""
    for name, values in (("ablations", ablations), ("directions", directions)):
        if twice := [value for value in values if list(values).count(value) > 1]:
            raise CircuitryError(f"{name} has {twice[0]!r} twice; each setting is counted once, so name it once")
    for number, (label, one) in enumerate(sets.items()):
        if same := [known for known, path in list(sets.items())[:number] if path == one]:
            raise CircuitryError(
                f"the frozen sets {same[0]!r} and {label!r} are the same; each setting is counted once, so name it once"
            )
    if set(directions) == {"denoising"} and (only := [one for one in ablations if not intervention(one).from_source]):
        why = f"ablation {only[0]!r} takes nothing from the other prompt and is run as noising only"
        raise no_effect("directions", list(directions), why, "add 'noising', or leave out all ablations but 'resample'")
    for name, instead in (("metric", "metrics"), ("intervention", "ablations"), ("direction", "directions")):
        if name in options:
            raise CircuitryError(f"{name}= is what the grid is over; give {instead}=[...]")


def _runs(ablations: Sequence[str], directions: Sequence[str]) -> Iterator[tuple[Any, Any]]:
    for ablation in ablations:
        for direction in directions if intervention(ablation).from_source else ("noising",):
            yield ablation, direction


def frozen_sets(graph: Graph, path: Path) -> Iterator[tuple[str, Path]]:
    """The path as written and with other sets frozen on its last leg, by label, without those that leave it no effect.

    >>> import circuitry as ct
    >>> [label for label, _ in frozen_sets(ct.graph("mamba"), ct.parse("h[3] @ B -> logits freezing h"))]
    ['as written', 'nothing', 'and gate', 'and ssm_in.C', 'and ssm_in.skip']
    """
    leg = path.legs[-1]
    known = [(graph.by_role(role)[0], port) for role, port in OPEN_ROLES if graph.by_role(role)]
    more = [Node(family.name, (), port or None) for family, port in known if not port or port in family.ports]
    sets = {AS_WRITTEN: leg, "nothing": replace(leg, frozen=(), exempt=(), directly=False)}
    if not leg.directly:
        frozen = [graph.canonical(node) for node in leg.frozen]
        sets |= {f"and {node}": replace(leg, frozen=(*leg.frozen, node)) for node in more if node not in frozen}
    for label, one in sets.items():
        made = replace(path, legs=(*path.legs[:-1], one))
        if label == AS_WRITTEN or (made != path and _possible(graph, made)):
            yield label, made


def _given(graph: Graph, path: Path, frozen: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Path]]:
    yield AS_WRITTEN, path
    for label, names in frozen.items():
        nodes = tuple(parse_node(name) for name in names)
        families = {graph.family(node.family).name for node in nodes}
        exempt = tuple(node for node in path.legs[-1].exempt if graph.family(node.family).name in families)
        leg = replace(path.legs[-1], frozen=nodes, exempt=exempt, directly=False)
        yield label, replace(path, legs=(*path.legs[:-1], leg))


def _possible(graph: Graph, path: Path) -> bool:
    """Whether the graph lets the path have an effect somewhere; open positions are not known here, so any will do."""
    try:
        anywhere = {name: [f"ANY_{name}"] for name, kind in axis_kinds(path, graph).items() if kind == POSITION}
        plan(path, graph, axes=anywhere)
    except CircuitryError:
        return False
    return True


def _row(
    key: tuple[str, str, str], metric: str, table: PatchingTable, cell: Any, holds: Callable[[PatchingTable], bool] | None
) -> dict[str, Any]:
    """One setting: what its strongest cell is, and what it says of the finding's cell, which has no effect where it is not run."""
    numbers, effects = table.statistics(), table.normalized()
    strongest = effects.index.tolist()[int(effects.argmax())]
    normalized, low, high, q, p = 0.0, 0.0, 0.0, 1.0, 1.0
    if cell in effects.index:
        one = numbers.loc[[cell]].iloc[0]
        normalized, q, p = one["normalized"], one["q"], one["p"]
        scale = normalized / one["mean"] if one["mean"] else 0.0
        low, high = sorted((one["low"] * scale, one["high"] * scale))
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
    """Whether a cell's effect is told from zero, as far as its table can say."""
    if not table.signed().all():
        return True
    return bool((q if table.outliers.enough else p) < SIGNIFICANT)
