"""Is a set of nodes the circuit? Faithfulness, completeness and minimality (Wang et al. 2023, section 4), with random sets.

To measure f of a set, all nodes outside it get their values on the source input, at every position. f is the metric that is
left, scaled so that f of the whole model is 1 and f of the empty set is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from numpy.random import Generator
from numpy.typing import NDArray

from ..architecture.graph import Graph
from ..discovery.circuit import EdgeCircuit
from ..errors import CircuitryError, no_effect
from ..html.shown import Shown
from ..models.model import Model
from ..patching.experiment import patch
from ..patching.measured import MetricLike
from ..paths.labelled import labelled
from ..paths.parse import parse_node
from ..paths.values import Leg, Node, Path, Site
from ..planning.frozen import matching
from ..progress import together
from ..prompting.task import Task
from ..results.recorded import setting
from ..results.statistics import resampling
from ..results.table import PatchingTable
from ..results.writing import count

if TYPE_CHECKING:
    from markupsafe import Markup

    from ..discovery.scores import EdgeScores

Floats = NDArray[np.float64]
Nodes = frozenset[Node]


@dataclass
class Scores(Shown):
    """Scores of a circuit, with those of random sets of the same size and kind.

    ``faithfulness``: f(C), with its bootstrap ``interval`` over examples; ``random``: f of each random set. ``completeness``:
    for each subset K, f(C without K), f(model without K) and their distance. ``minimality``: for each node, how much its removal
    changes f, from the whole circuit or from the circuit without the other nodes of its role, whichever is more. ``outsiders``:
    how much f changes when a random node from outside is added. ``table``: every measured set, by example.
    """

    roles: dict[str, list[str]]
    faithfulness: float
    interval: tuple[float, float]
    random: list[float]
    completeness: pd.DataFrame
    minimality: pd.DataFrame
    outsiders: list[float]
    table: PatchingTable

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_scores

        return of_scores(self)

    def __repr__(self) -> str:
        said = self.caption()
        return f"{self.text()}\n({said})" if said else self.text()

    def caption(self) -> str:
        """How nodes were patched, in which model and task; empty if the table does not say."""
        return "; ".join(setting(self.table.provenance))

    def text(self) -> str:
        """The scores in words."""
        size, gaps, change = sum(map(len, self.roles.values())), self.completeness["gap"], self.minimality["change"]
        low, high = self.interval
        lines = [
            f"faithfulness {self.faithfulness:.2f} ({low:.2f} to {high:.2f}): the circuit alone, {count(size, 'node')}",
            f"random sets of that size: {np.mean(self.random):.2f} on average, {np.max(self.random):.2f} at most, of {len(self.random)}"
            if self.random
            else "no random set was measured",
            f"completeness: without a subset, circuit and model differ by {gaps.mean():.2f} on average and {gaps.max():.2f} at most, "
            f"over {count(len(gaps), 'subset')}",
            f"minimality: {self._needed()} (the least by {change.min():.2f}, {self.minimality['node'].iloc[int(change.argmin())]})",
        ]
        return "\n".join(lines)

    def plot(self, path: str | FilePath | None = None, style: str | None = None) -> Any:
        """Faithfulness among random sets, completeness and minimality, in three panels; saved if named.

        ``style="paper"`` is a column wide, in serif type.
        """
        from ..drawing.figures import plotted
        from .scores_figure import draw

        return plotted(draw, self, path, style)

    def _needed(self) -> str:
        """How many nodes change the faithfulness by more than any node from outside, as a sentence; it also says if none was measured."""
        size = count(len(self.minimality), "node")
        if not self.outsiders:
            return f"each of {size} was measured, but no node from outside"
        needed = int((self.minimality["change"] > max(self.outsiders)).sum())
        return f"{needed} of {size} change the faithfulness by more than any of {count(len(self.outsiders), 'node')} from outside"


@overload
def score(
    model: Model,
    task: Task,
    circuit: EdgeCircuit,
    *,
    metric: MetricLike = ...,
    random: int = ...,
    subsets: int = ...,
    seed: int = ...,
    **options: Any,
) -> EdgeScores: ...


@overload
def score(
    model: Model,
    task: Task,
    circuit: Mapping[str, Sequence[str]] | Sequence[str],
    *,
    metric: MetricLike = ...,
    random: int = ...,
    subsets: int = ...,
    seed: int = ...,
    **options: Any,
) -> Scores: ...


@together()
def score(
    model: Model,
    task: Task,
    circuit: Mapping[str, Sequence[str]] | Sequence[str] | EdgeCircuit,
    *,
    metric: MetricLike = "logit_difference",
    random: int = 20,
    subsets: int = 8,
    seed: int = 0,
    **options: Any,
) -> Scores | EdgeScores:
    """Score a circuit: nodes of one family, roles with their nodes (``{"name mover": ["head[9,9]"]}``), or a discovered circuit.

    The circuit that ``found.circuit()`` returns is scored on its edges at their positions, as an ``EdgeScores``.

    A name without its last index is one member and means all nodes of a layer (``ssm_state[3]`` if states have heads).
    ``random`` is the number of random sets of the circuit's size, and of nodes from outside. Completeness removes each role, and
    as many random halves as ``subsets`` says. Other options go to ``circuitry.patch``. Raises CircuitryError for nodes of several
    families, a node named twice, or an empty circuit.

    >>> import circuitry as ct
    >>> model, task = ct.load("bundled:gpt_neox"), ct.task("ioi", examples=4)
    >>> scores = score(model, task, {"mover": ["head[3,1]", "head[3,3]"]}, random=2, subsets=1)
    >>> scores.table.axes, len(scores.random)
    (('set',), 2)
    """
    _check_options(metric, options)
    if isinstance(circuit, EdgeCircuit):
        from ..discovery.positions import ALL
        from ..discovery.scores import score_edges
        from ..discovery.search import asked

        if unknown := sorted(options.keys() - {"direction", "executor", "progress"}):
            raise CircuitryError(
                f"{unknown[0]}= does not apply to a circuit of edges, whose other edges carry their corrupted values; leave it out"
            )
        question = asked(model, task, metric=metric, positions=ALL not in circuit.positions, **options)
        return score_edges(question, circuit, random=random, subsets=subsets, seed=seed)
    named = circuit if isinstance(circuit, Mapping) else {"node": circuit}
    roles = {role: [_member(model.graph, text) for text in nodes] for role, nodes in named.items() if nodes}
    inside = _checked(roles)
    kind = next(iter(inside))
    same_kind = (n for n in model.graph.nodes(kind.family, ports=True) if n.port == kind.port)
    every = frozenset(replace(n, indices=n.indices[: len(kind.indices)]) for n in same_kind)
    rng = np.random.default_rng(seed)
    groups = _Groups(roles, inside, every, _draws(every, inside, random, rng), _subsets(roles, inside, subsets, rng))
    paths: dict[str, str | Path] = {label: _path(nodes) for nodes, label in groups.labels.items() if nodes}
    table = patch(model, task, labelled("set", paths), metric=metric, lint="prompts", baseline=0, **options)
    # The paths of the sets list every replaced node; one sentence says the same.
    table.provenance |= {
        "paths": {},
        "path_data": {},
        "plan": "",
        "path": "(every node outside the set) -> logits",
        "title": "What is lost when all but a set of nodes is replaced (normalized: 1 - f)",
    }
    return _scores(groups, table, seed)


def _check_options(metric: Any, options: Mapping[str, Any]) -> None:
    if isinstance(metric, list | tuple):
        raise CircuitryError(f"a circuit is scored by one metric, got {metric!r}; name one")
    if options.get("baseline", 0) != 0:
        raise no_effect(
            "baseline", options["baseline"], "a circuit is compared with random sets", "use random=, or leave baseline out"
        )
    if reserved := [name for name in ("axes", "lint") if name in options]:
        raise CircuitryError(f"{reserved[0]}= is set by score(), which replaces sets of nodes; leave it out")


def _member(graph: Graph, text: str) -> Node:
    """A node. A name without the last index means all nodes of a layer together: ``ssm_state[3]`` if states have heads."""
    named = graph.canonical(parse_node(text))
    return named if named.indices and matching(graph, named) else graph.node(named)


def _checked(roles: Mapping[str, list[Node]]) -> Nodes:
    named = [node for nodes in roles.values() for node in nodes]
    if not named:
        raise CircuitryError("an empty circuit has no scores; name at least one node")
    if twice := [node for node in named if named.count(node) > 1]:
        raise CircuitryError(f"{twice[0]} is in the circuit twice; give it one role")
    if len(families := {(node.family, node.port, len(node.indices)) for node in named}) > 1:
        raise CircuitryError(f"expected nodes of one kind, got {len(families)} kinds; score those of one kind, such as heads")
    return frozenset(named)


def _draws(every: Nodes, inside: Nodes, count: int, rng: Generator) -> tuple[list[Nodes], list[Node]]:
    """Random sets of the circuit's size, all different and different from the circuit, and random nodes from outside."""
    ordered, outside = sorted(every, key=str), sorted(every - inside, key=str)
    # Four times too many are drawn, since some repeat; a small family may still have fewer different sets than asked for.
    drawn = (frozenset(ordered[k] for k in rng.choice(len(ordered), len(inside), replace=False)) for _ in range(4 * count))
    sets = list(dict.fromkeys(nodes for nodes in drawn if nodes != inside))[:count]
    picked = rng.permutation(len(outside))[:count]
    return sets, [outside[k] for k in picked]


def all_of(role: str) -> str:
    """The label of all nodes of a role, removed together.

    >>> all_of("name mover")
    'all name mover'
    """
    return f"all {role}"


def _subsets(roles: Mapping[str, list[Node]], inside: Nodes, count: int, rng: Generator) -> dict[str, Nodes]:
    """Subsets K for completeness: every role, and different random halves of the circuit."""
    subsets, ordered = {all_of(role): frozenset(nodes) for role, nodes in roles.items()}, sorted(inside, key=str)
    size = len(ordered) // 2
    drawn = (frozenset(ordered[k] for k in rng.choice(len(ordered), size, replace=False)) for _ in range(4 * count))
    halves = [half for half in dict.fromkeys(drawn) if half and half not in subsets.values()][:count]
    return subsets | {f"half {number + 1}": half for number, half in enumerate(halves)}


@dataclass(frozen=True)
class _Groups:
    """The measured sets: ``every`` node of the kind, those ``inside`` the circuit, random ``draws``, and ``subsets``."""

    roles: dict[str, list[Node]]
    inside: Nodes
    every: Nodes
    draws: tuple[list[Nodes], list[Node]]
    subsets: dict[str, Nodes]

    @cached_property
    def labels(self) -> dict[Nodes, str]:
        """Each replaced set under its first label only: a role of one node and that node are one set, and are measured once."""
        labels: dict[Nodes, str] = {}
        for label, nodes in self.removed().items():
            labels.setdefault(nodes, label)
        return labels

    def removed(self) -> dict[str, Nodes]:
        """The replaced nodes, by label."""
        outside = self.every - self.inside
        removed = {"nothing kept": self.every, "circuit": outside}
        removed |= {f"circuit without {k}": outside | nodes for k, nodes in self.subsets.items()}
        removed |= {f"model without {k}": nodes for k, nodes in self.subsets.items()}
        for role, nodes in self.roles.items():
            removed[f"circuit without {all_of(role)}"] = outside | frozenset(nodes)
            for node in nodes:
                removed[f"circuit without {node}"] = outside | {node}
                removed[f"circuit without {all_of(role)} but {node}"] = outside | (frozenset(nodes) - {node})
        removed |= {f"random {k + 1}": self.every - nodes for k, nodes in enumerate(self.draws[0])}
        removed |= {f"circuit and {node}": outside - {node} for node in self.draws[1]}
        return removed


def _path(nodes: Iterable[Node]) -> Path:
    """The path that replaces all these nodes at every position and freezes nothing."""
    return Path(tuple(Site(node) for node in sorted(nodes, key=str)), (Leg((Site(Node("logits")),)),))


def _scores(groups: _Groups, table: PatchingTable, seed: int) -> Scores:
    nothing_kept = table.frame[table.frame["set"] == "nothing kept"]
    gone, base = nothing_kept["effect"].to_numpy(), nothing_kept["base"].to_numpy()
    effects = {str(label): rows.to_numpy() for label, rows in table.frame.groupby("set", sort=False)["effect"]}

    removed = groups.removed()

    def f_of(label: str, weights: Floats | None = None) -> Any:
        """f of a label's set: 1 - (effect of its replaced nodes) / (effect of replacing all); [resample] with weights."""
        lost = effects.get(groups.labels[removed[label]], np.zeros(len(base)))
        w = np.ones(len(base)) if weights is None else weights
        return 1 - (w @ lost) / (w @ gone)

    weights = resampling(len(base), 2000, np.random.default_rng(seed))
    low, high = np.quantile(f_of("circuit", weights), [0.025, 0.975])
    rows = [(k, f_of(f"circuit without {k}"), f_of(f"model without {k}")) for k in groups.subsets]
    completeness = pd.DataFrame(rows, columns=["without", "circuit", "model"])
    completeness["gap"] = (completeness["circuit"] - completeness["model"]).abs()
    return Scores(
        {role: [str(n) for n in nodes] for role, nodes in groups.roles.items()},
        float(f_of("circuit")),
        (float(low), float(high)),
        [float(f_of(f"random {k + 1}")) for k in range(len(groups.draws[0]))],
        completeness,
        _minimality(groups, f_of),
        [float(abs(f_of(f"circuit and {node}") - f_of("circuit"))) for node in groups.draws[1]],
        table,
    )


def _minimality(groups: _Groups, f_of: Any) -> pd.DataFrame:
    rows = []
    for role, nodes in groups.roles.items():
        for node in nodes:
            from_all = abs(f_of("circuit") - f_of(f"circuit without {node}"))
            alone = abs(f_of(f"circuit without {all_of(role)} but {node}") - f_of(f"circuit without {all_of(role)}"))
            rows.append((str(node), role, float(from_all), float(alone), float(max(from_all, alone))))
    return pd.DataFrame(rows, columns=["node", "role", "from the circuit", "without its role", "change"])
