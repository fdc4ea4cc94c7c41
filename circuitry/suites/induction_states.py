"""Induction in a state-space model: which states carry it, when they are written, and what the convolution brings there.

The paper's appendix G with one change. Some models write after B+1, and a patch of the state at B+1 cannot see that. So the
state is patched at every position from B to B+5, and its effect at the last one decides which layers are key layers.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..drawing.circuit import NORMALIZED, Circuit, CircuitEdge, CircuitNode
from ..paths.labelled import labelled
from ..results.table import PatchingTable
from ..results.writing import count
from ..thresholds import KEY_EFFECT
from .induction_heads import baselines
from .keys import keys
from .result import Component, SuiteResult, Summary
from .stages import with_nodes
from .study import Study

AFTER = ["B", "B+1", "B+2", "B+3", "B+4", "B+5"]
AROUND = ["A", "B", "B+1", "B+2", "B+3"]
LAST = AFTER[-1]
READING = (
    "the effect of a convolution edge is normalized by that of the corruption in its role, and its position is the token where "
    "the edge arrives"
)


def run(study: Study) -> SuiteResult:
    """All tables of the suite, the circuit and the summary."""
    state = study.name("state")
    distances = study.settings["distances"]
    title = "State of every layer, patched at every position from B to B+5"
    path = f"{state}[{{layer}}] @ {{position}} -> logits freezing {study.carriers}"
    by_position = study.keep("state_by_position", study.over("distance", distances, title, path, position=AFTER))
    table1 = by_position.select("position", "B+1").titled("State at B+1, by layer (paper Table 1)")
    study.keep("table1_state_at_B+1", table1)
    last = detailed(study, by_position).select("position", LAST)
    final, layers = last.normalized(), keys(last)
    if not layers:
        return _nothing(study, last)
    _writes(study, layers)
    offsets = detailed(study, study.tables["table2_write_input"]).normalized()
    study.keep("write_ports", _ports(study, offsets, layers))
    return SuiteResult(study.tables, _circuit(study, final, offsets, layers), _summary(study, offsets, layers))


def _writes(study: Study, layers: list[int]) -> None:
    """Tables 2 to 4 of the paper for the key layers, and a table of the convolution's single edges."""
    state, write, conv, tap = (study.name(role) for role in ("state", "write_input", "conv_input", "conv_edge"))
    through = f"@ {{position}} -> logits freezing {study.carriers} except {state}[{{layer}}]"
    distances = study.settings["distances"]

    def table(title: str, source: str, corruption: str) -> PatchingTable:
        axes: dict[str, Any] = {"layer": layers, "position": AROUND}
        return study.over("distance", distances, title, f"{source}[{{layer}}] {through}", task={"corruption": corruption}, **axes)

    study.keep("table2_write_input", table("Scan input of the key layers (Table 2)", write, "B"))
    study.keep("table3_conv_input_B", table("Convolution input under [A][B'] (Table 3)", conv, "B"))
    study.keep("table4_conv_input_A", table("Convolution input under [A'][B] (Table 4)", conv, "A"))
    title, path = "Convolution edges by lag, at the position they arrive", f"{tap}[{{layer}},{{lag}}] {through}"
    study.keep("conv_edges", study.over("corruption", "BA", title, path, layer=layers, position=AROUND[1:]))


def detailed(study: Study, table: PatchingTable) -> PatchingTable:
    """The cells of a table at the task's distance, the one at which the circuit is analysed.

    >>> import circuitry as ct
    >>> import numpy as np
    >>> table = PatchingTable.of([{"layer": 0}], np.ones((1, 2)), np.zeros(2), np.ones(2), "logit")
    >>> study = Study(ct.load("bundled:mamba"), ct.task("induction", distance=8))
    >>> detailed(study, PatchingTable.stack({8: table, 16: table}, "distance")).axes
    ('layer',)
    """
    return table.select("distance", study.task.options["distance"])


def _joint(study: Study, layers: list[int]) -> float:
    """The normalized effect of all key states patched at once, after the last write."""
    state = study.name("state")
    sites = ", ".join(f"{state}[{layer}] @ {LAST}" for layer in sorted(layers))
    return study.normalized_effect("All key states together", f"({sites}) -> logits freezing {study.carriers}")


def _ports(study: Study, offsets: pd.Series, layers: list[int]) -> PatchingTable:
    """The effect of the scan input at its write position, seen by all its readers (as in the paper) or by one of them.

    Only readers that write to the state are measured: what C and the skip connection do at this token ends at this token. A
    step size or a decay that is not computed from the scan input (Mamba-2's) is added to them, unless no changed token has reached it.
    """
    state, write, layer = study.name("state"), study.name("write_input"), layers[0]
    position = offsets[layer].idxmax()
    rest = f"@ {position} -> logits freezing {study.carriers} except {state}[{layer}]"
    sources = {port or "all": f"{write}[{layer}]{port and '.' + port}" for port in ("", *_writers(study, layer))}
    sources |= {
        family.name: f"{family.name}[{layer}]" for role in ("step", "decay") for family in study.model.graph.by_role(role)
    }
    paths = {reader: path for reader, source in sources.items() if study.possible(path := f"{source} {rest}")}
    return study.patch(f"Which reader of {write}[{layer}] @ {position} carries the effect", labelled("reader", paths))


def _writers(study: Study, layer: int) -> list[str]:
    """The ports of the scan input with an edge into the state."""
    graph = study.model.graph
    into = [node for state in graph.nodes(study.name("state"), layer=layer) for node in graph.nx.predecessors(state)]
    return list(dict.fromkeys(str(node.port) for node in into if node.family == study.name("write_input")))


def _components(study: Study, offsets: pd.Series, layers: list[int]) -> list[Component]:
    """The key states, and the convolution's edges that bring the pair to them."""
    state, tap, distance = study.name("state"), study.name("conv_edge"), study.task.options["distance"]
    components = []
    for layer in layers:
        at = str(offsets[layer].idxmax())
        components.append(study.component(f"{state}[{layer}]", "state", "state_by_position", (distance, layer, LAST), at, LAST))
    for corruption, layer, lag, at in keys(study.tables["conv_edges"]):
        role, cell = f"writes the state ([{corruption}'])", (corruption, layer, lag, at)
        components.append(study.component(f"{tap}[{layer},{lag}]", role, "conv_edges", cell, at))
    return components


def _summary(study: Study, offsets: pd.Series, layers: list[int]) -> Summary:
    components = _components(study, offsets, layers)
    where = f"at distance {study.task.options['distance']} (states at {LAST})"
    notes = [
        f"each component, patched alone {where}, has {study.rule()}",
        READING,
        *study.caveats(detailed(study, study.tables["state_by_position"])),
    ]
    taken = study.offsets("B", corruption="B")
    ends: Any = {"explained": _joint(study, layers), "together": f"the {count(len(layers), 'state')}"}
    return study.summary(components, notes, **ends, taken=taken, verdict=taken.text() if taken else "", baseline=baselines(study))


def _circuit(study: Study, final: pd.Series, offsets: pd.Series, layers: list[int]) -> Circuit:
    """For every key layer: the tokens that the convolution brings together, the write, the state, and the answer."""
    state, write, conv, tap = (study.name(role) for role in ("state", "write_input", "conv_input", "conv_edge"))
    nodes: list[CircuitNode] = []
    edges: list[CircuitEdge] = []
    from_a, from_b = (detailed(study, study.tables[f"table{n}_conv_input_{c}"]).normalized() for n, c in ((4, "A"), (3, "B")))
    for layer in sorted(layers):
        h, main = f"{state}[{layer}] @ {LAST}", str(offsets[layer].idxmax())
        for at in _write_positions(offsets[layer]):
            c = f"{write}[{layer}] @ {at}"
            for corruption, effects in (("A", from_a[layer]), ("B", from_b[layer])):
                for source, effect, edge in _arrivals(study, corruption, layer, effects, at, at == main):
                    name = f"{conv}[{layer}] @ {source}"
                    if name not in {node.name for node in nodes}:
                        nodes.append(CircuitNode(name, source, layer, effect, "conv_input"))
                    lag = AROUND.index(at) - AROUND.index(source)
                    edges.append(CircuitEdge(name, c, edge, f"[{corruption}] lag {lag}", f"{tap}[{layer},{lag}] @ {at}"))
            nodes.append(CircuitNode(c, at, layer + 0.35, float(offsets[layer][at]), "write_input"))
            edges.append(CircuitEdge(c, h, float(offsets[layer][at]), "kept in the state"))
        nodes.append(CircuitNode(h, LAST, layer + 0.7, float(final[layer]), "state"))
        edges.append(CircuitEdge(h, "logits", float(final[layer])))
    nodes.append(CircuitNode("logits", "END", study.model.graph.sizes["layer"] + 0.6, 1.0, "logits"))
    title = f"Induction circuit of {study.model.name}, distance {study.task.options['distance']}"
    return Circuit(title, with_nodes((*AROUND, LAST, "END"), nodes), tuple(nodes), tuple(edges), NORMALIZED)


def _write_positions(effects: pd.Series) -> list[str]:
    """The positions at which a layer writes: those with KEY_EFFECT, and always the strongest.

    >>> _write_positions(pd.Series({"B": 0.3, "B+1": 0.6, "B+2": 0.01}))
    ['B', 'B+1']
    """
    return [str(at) for at, effect in effects.items() if effect >= KEY_EFFECT or at == effects.idxmax()]


def _arrivals(
    study: Study, corruption: str, layer: int, effects: pd.Series, at: str, main: bool
) -> list[tuple[str, float, float]]:
    """The positions from which the convolution brings a token to a write, each with its effect and that of the edge.

    Both have KEY_EFFECT. The strongest position of a layer is drawn to its ``main`` write even if no single edge has that much.
    """
    found = []
    for source, effect in effects.items():
        lag = AROUND.index(at) - AROUND.index(str(source))
        edge = _tap_effect(study, corruption, layer, lag, at)
        if effect >= KEY_EFFECT and lag >= 0 and (edge >= KEY_EFFECT or (main and source == effects.idxmax())):
            found.append((str(source), float(effect), edge))
    return found


def _tap_effect(study: Study, corruption: str, layer: int, lag: int, position: str) -> float:
    """The normalized effect of one convolution edge at the write position; NaN if the convolution does not reach that far."""
    return float(study.tables["conv_edges"].normalized().get((corruption, layer, lag, position), float("nan")))


def _nothing(study: Study, table: PatchingTable) -> SuiteResult:
    summary = study.nothing("state", "induction", table, baselines(study))
    return SuiteResult(study.tables, Circuit(f"Induction in {study.model.name}", (*AROUND, "END"), (), ()), summary)
