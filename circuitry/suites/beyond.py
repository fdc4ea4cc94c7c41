"""What discovery finds that a suite did not look for: verified edges whose ends are not among the suite's components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..architecture.graph import Graph
from ..discovery.result import Discovery
from ..discovery.search import discover
from ..discovery.wiring import edge
from ..paths.parse import parse_node
from ..paths.values import Node
from ..results.table import PatchingTable
from .result import Component, SuiteResult
from .study import Study

TABLE = "discovered"
"""The name of the table in a run."""
TITLE = "What discovery finds that the suite did not look for"


def add_discovery(result: SuiteResult, study: Study, verify: int) -> None:
    """Discover edges on the suite's task, and add those that are significant and new as a table; a note of the summary says how many.

    An edge is new unless both its ends belong to the suite's components (``known``).

    >>> import circuitry as ct
    >>> from circuitry.suites.result import Summary
    >>> study = Study(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=8))
    >>> result = SuiteResult({}, None, Summary("m", "mamba", [], 0.0, {}))
    >>> add_discovery(result, study, 2); result.summary.notes[0][:37]
    'discovery verified 2 edges at positio'
    """
    found = discover(study.model, study.task, verify=verify, executor=study.options.get("executor", "suffix"))
    new = [
        cell
        for cell in zip(found.found["edge"], found.found["position"], strict=True)
        if not known(study.model.graph, cell[0], result.summary.components)
    ]
    total = len(found.found)
    result.summary.notes.append(
        f"discovery verified {len(found.exact)} edges at positions, {total} with a significant effect; {len(new)} of these are not "
        f"between the components above{f' (table {TABLE!r})' if new else ''}"
    )
    if new:
        result.tables[TABLE] = _table(found, new)


def known(graph: Graph, text: str, components: Sequence[Component]) -> bool:
    """Whether both ends of an edge belong to what a suite found; the embedding and the logits count as known.

    A head stands for itself; any other component stands for its block, since a suite says what a state does, not each part beside it.

    >>> import circuitry as ct
    >>> components = [Component("head[1,0]", "induction head", 1.0, "END"), Component("head[0,1]", "writes the k", 1.0, "B")]
    >>> known(ct.graph("gpt2"), "head[0,1] -> head[1,0].k", components), known(ct.graph("gpt2"), "mlp[0] -> head[1,0].k", components)
    (True, False)
    """
    found = {_part(graph, component.node) for component in components}
    ends = edge(text)
    return all(end.family in ("embed", "logits") or _part(graph, end) in found for end in (ends.source, ends.target))


def _part(graph: Graph, named: Node | str) -> Node:
    """A head, or the block of any other node: what it adds to the stream."""
    node = graph.members(parse_node(named) if isinstance(named, str) else named)[0]
    while node not in graph.adding and graph.family(node.family).role != "head":
        node = next(
            after for after in graph.nx.successors(node) if after.indices[0] == node.indices[0] and after not in graph.stream
        )
    return replace(node, port=None)


def _table(found: Discovery, cells: Sequence[tuple[str, str]]) -> PatchingTable:
    """The exact effects of some verified cells as a table over ``edge`` and ``position``."""
    exact = found.table.select("measure", "exact")
    chosen = [cell in set(cells) for cell in zip(exact.frame["edge"], exact.frame["position"], strict=True)]
    frame = exact.frame[chosen].reset_index(drop=True)
    return replace(exact, frame=frame, provenance={**exact.provenance, "title": TITLE})
