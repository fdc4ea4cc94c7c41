"""A suite in two halves, one for states and one for heads. A hybrid runs both on the same prompts and has one summary."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import networkx as nx

from ..drawing.circuit import Circuit
from ..errors import CircuitryError
from ..results.writing import having
from .result import SuiteResult
from .stages import with_nodes
from .study import Study

Half = Callable[[Study], SuiteResult]


def run_halves(study: Study, states: Half, heads: Half) -> SuiteResult:
    """Run the half that the architecture has nodes for, or both; with both, tables are prefixed ``states_`` and ``heads_``.

    In a hybrid the joint effect of both kinds is not measured, so ``explained`` is NaN; the notes have that of each half. Raises
    CircuitryError if there are neither states nor heads.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:mamba"), ct.task("induction", distance=8, examples=2))
    >>> run_halves(study, lambda study: "states", lambda study: "heads")
    'states'
    """
    graph = study.model.graph
    halves = {name: run for name, role, run in (("states", "state", states), ("heads", "head", heads)) if graph.by_role(role)}
    if not halves:
        raise CircuitryError(
            "this suite measures attention heads and recurrent states, and this model has neither: its tokens are mixed by "
            "convolutions alone. Measure these with ct.patch or ct.discover"
        )
    if len(halves) == 1:
        result = next(iter(halves.values()))(study)
        return result if graph.by_role("state") or not graph.by_role("conv_edge") else _heads_beside_convolutions(result)
    results = {name: run(replace(study, tables={}, prefix=f"{name}_", left_out=[])) for name, run in halves.items()}
    summaries = {name: result.summary for name, result in results.items()}
    parts = [replace(c, table=c.table and f"{name}_{c.table}") for name, s in summaries.items() for c in s.components]
    alone = [f"patched alone, {having(s.together)} {s.explained:.0%} of the effect" for s in summaries.values() if s.components]
    notes = [*alone, *(f"{name}: {note}" for name, s in summaries.items() for note in s.notes)]
    first = summaries["states"]
    summary = replace(
        first,
        components=parts,
        explained=math.nan if parts else 0.0,
        notes=list(dict.fromkeys(notes)),
        verdict="\n".join(f"{name}: {line}" for name, s in summaries.items() for line in s.verdict.splitlines()),
        undecided="; ".join(f"{name}: {s.undecided}" for name, s in summaries.items() if s.undecided),
    )
    tables = {f"{name}_{key}": table for name, result in results.items() for key, table in result.tables.items()}
    pictures = {f"{name}_{key}": picture for name, result in results.items() for key, picture in result.pictures.items()}
    drawn = [result.circuit for result in results.values() if result.circuit is not None]
    return SuiteResult(tables, _joined(drawn) if drawn else None, summary, pictures)


def _heads_beside_convolutions(result: SuiteResult) -> SuiteResult:
    note = "the model's convolutions, which have no state, also bring tokens to later ones; they stay live and are not measured"
    return replace(result, summary=replace(result.summary, notes=[*result.summary.notes, note]))


def _joined(circuits: list[Circuit]) -> Circuit:
    """All nodes and edges; a node that both circuits have, such as the logits, occurs once."""
    nodes = {node.name: node for circuit in reversed(circuits) for node in circuit.nodes}  # the first circuit's node wins
    edges = {(e.source, e.target, e.label): e for circuit in circuits for e in circuit.edges}
    positions = with_nodes(columns([circuit.positions for circuit in circuits]), nodes.values())
    return replace(circuits[0], positions=positions, nodes=tuple(nodes.values()), edges=tuple(edges.values()))


def columns(several: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The positions of several circuits in the order of the text: that of each circuit, and B before B+1.

    >>> columns([("B+1", "B+5", "END"), ("A", "B", "END")])
    ('A', 'B', 'B+1', 'B+5', 'END')
    """
    order: nx.DiGraph[str] = nx.DiGraph()
    for positions in several:
        nx.add_path(order, positions)
    for base, after in ((name.partition("+")[0], name) for name in list(order) if "+" in name):
        alike = [name for name in order if name == base or (name.startswith(f"{base}+") and _offset(name) < _offset(after))]
        order.add_edges_from((name, after) for name in alike)
    first = list(order)
    try:
        return tuple(nx.lexicographical_topological_sort(order, key=first.index))
    except nx.NetworkXUnfeasible:  # the circuits have the same positions in different orders
        return tuple(first)


def _offset(position: str) -> int:
    return int(position.partition("+")[2])
