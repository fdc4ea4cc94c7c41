"""A plan in words, as a database explains a query: passes, frozen set, kind of path patching. The executor knows what it costs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ..architecture.graph import Graph
from ..html.shown import Shown
from ..paths.values import Node, Site
from .frozen import own_way
from .values import Pass, Plan, Write

if TYPE_CHECKING:
    from markupsafe import Markup

_WIDE = 11
"""Characters that a label has, with the space after it."""
_SHOWN = 8
"""How many paths of a joined plan are printed."""


class Explanation(Shown, str):
    """A plan in words: text that shows its lines where Python would show a quoted text.

    >>> Explanation("a -> b\\n  table      1 cell")
    a -> b
      table      1 cell
    """

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_explanation

        return of_explanation(self)

    def __repr__(self) -> str:
        return str(self)

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The lines with a label, as (label, text).

        >>> Explanation("a -> b\\n  table      1 cell").rows
        [('table', '1 cell')]
        """
        labelled = (line[2:] for line in self.splitlines() if line.startswith("  "))
        return [(line[:_WIDE].strip(), line[_WIDE:].strip()) for line in labelled]

    @property
    def paths(self) -> list[str]:
        """The lines before those with a label: the paths.

        >>> Explanation("a -> b\\n  table      1 cell\\n(a remark)").paths
        ['a -> b']
        """
        return list(itertools.takewhile(lambda line: not line.startswith("  "), self.splitlines()))

    @property
    def remarks(self) -> list[str]:
        """The lines after those with a label.

        >>> Explanation("a -> b\\n  table      1 cell\\n(a remark)").remarks
        ['(a remark)']
        """
        return [line for line in self.splitlines()[len(self.paths) :] if not line.startswith("  ")]


def explain(plan: Plan, more: Mapping[str, str] | None = None) -> Explanation:
    """What will run, in words; ``more`` has further lines by label.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> print(explain(plan("h[{layer}] @ 4 -> logits freezing h", ct.graph("mamba", layer=4))))
    h[{layer}] @ 4 -> logits freezing h
      table      4 cells over layer
      clean      record what is frozen
      corrupted  record ssm_state[0] @ 4
      pass 1     on the clean input: write ssm_state[0] @ 4 from corrupted; freeze ssm_state (3 of 4) at clean; read logits @ END
      kind       path patching through live nodes: everything but ssm_state is recomputed
    (passes are those of the first cell, layer=0)
    """
    cell = plan.cells[0]
    lines = [f"{label}: {path}" for label, path in plan.named.items()][:_SHOWN] or [str(plan.path)]
    if len(plan.named) > _SHOWN:
        lines.append(f"(and {len(plan.named) - _SHOWN} more paths)")
    lines.append(_line("table", _table(plan)))
    lines.append(_line(plan.base, "record what is frozen" if any(p.frozen for p in cell.passes) else "the baseline"))
    if plan.intervention.from_source:
        lines.append(_line(plan.source, f"record {_writes(cell.passes[0].writes)}"))
    else:
        lines.append(_line("value", plan.intervention.phrase))
    lines += [_line(f"pass {k + 1}", _pass(plan, p, k)) for k, p in enumerate(cell.passes)]
    lines.append(_line("kind", kind(plan)))
    lines += [_line(label, text) for label, text in (more or {}).items()]
    if cell.values:
        lines.append(f"(passes are those of the first cell, {', '.join(f'{k}={v}' for k, v in cell.values)})")
    if plan.skipped:
        lines.append(
            f"({len(plan.skipped)} {'cell is' if len(plan.skipped) == 1 else 'cells are'} left out; the first: {plan.skipped[0][1]})"
        )
    return Explanation("\n".join(lines))


def _line(label: str, text: str) -> str:
    return f"  {label:<{_WIDE}}{text}"


def _table(plan: Plan) -> str:
    count = len(plan.cells)
    over = f" over {', '.join(plan.axes)}" if plan.axes else ""
    return f"{count} cell{'s' if count != 1 else ''}{over}"


def _writes(writes: Iterable[Write]) -> str:
    return ", ".join(str(Site(w.node, w.at)) for w in writes)


def _pass(plan: Plan, step: Pass, number: int) -> str:
    first = plan.source if plan.intervention.from_source else plan.intervention
    source = f"pass {number}" if number else first
    reads = ", ".join(str(site) if site.at is not None else f"{site} @ every position" for site in step.reads)
    frozen = f"; freeze {_frozen(step.frozen, plan.graph)} at {plan.base}" if step.frozen else ""
    return f"on the {plan.base} input: write {_writes(step.writes)} from {source}{frozen}; read {reads}"


def _frozen(nodes: frozenset[Node], graph: Graph) -> str:
    """Frozen nodes by kind, with counts: ``head (143 of 144), mlp``."""
    counts = Counter((n.family, n.port, n.term) for n in nodes)
    shown = []
    for (family, port, term), count in sorted(counts.items(), key=str):
        total = (
            sum(host.family == family and host.port == port for host in graph.terms.latents) if term else len(graph.nodes(family))
        )
        name = str(Node(family, (), port, term))
        shown.append(name if count == total else f"{name} ({count} of {total})")
    return ", ".join(shown)


def kind(plan: Plan) -> str:
    """Which kind of path patching this is: total effect, a single edge, or through nodes left live.

    >>> import circuitry as ct
    >>> from circuitry.planning import plan
    >>> kind(plan("mlp[0] -> logits", ct.graph("gpt2")))
    'total effect (activation patching): nothing is frozen, everything downstream is recomputed'
    """
    passes = plan.cells[0].passes
    if not any(p.frozen for p in passes):
        return "total effect (activation patching): nothing is frozen, everything downstream is recomputed"
    if not any(_live(p, plan.graph) for p in passes):
        return "one edge: only the residual stream itself connects the two ends"
    frozen = ", ".join(sorted({str(Node(n.family, (), None, n.term)) for p in passes for n in p.frozen}))
    return f"path patching through live nodes: everything but {frozen} is recomputed"


def _live(step: Pass, graph: Graph) -> set[Node]:
    """Nodes between the ends that add to the stream and are neither frozen nor the sources' own way into it."""
    sources, targets = [w.node for w in step.writes], [s.node for s in step.reads]
    after = set(graph.reach(sources, set(step.frozen)))
    before = {n for t in targets for n in graph.ancestors(t)}
    return {n for n in after & before if graph.family(n.family).adds} - own_way(graph, sources) - step.frozen
