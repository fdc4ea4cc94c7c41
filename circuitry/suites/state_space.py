"""Induction in a state-space model: which states carry it, when they are written, and what the convolution brings there.

The paper's appendix G, with one change forced by measurement: a patch of the state at B+1 cannot see a later write, so the
key layers are found from the state after the last write, and the state is patched at every position from B to B+5.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..results import PatchingTable
from ..results.circuit import Circuit, CircuitEdge, CircuitNode
from .result import Component, SuiteResult, Summary, stacked
from .study import KEY_SHARE, Study, at, keys, normalised

AFTER = ["B", "B+1", "B+2", "B+3", "B+4", "B+5"]
AROUND = ["A", "B", "B+1", "B+2", "B+3"]
LAST = AFTER[-1]


def run(study: Study) -> SuiteResult:
    """All tables of the suite, the circuit and the summary."""
    state, write, conv, tap = (study.model.graph.by_role(r)[0].name for r in ("state", "write_input", "conv_input", "conv_edge"))
    tables = {"state_by_position": study.by_distance(
        "State of every layer, patched at every position from B to B+5", f"{state}[{{layer}}] @ {{position}} -> logits freezing {state}",
        position=AFTER,
    )}  # fmt: skip
    tables["table1_state_at_B+1"] = _pick(
        tables["state_by_position"], "position", "B+1", "State at B+1, by layer (paper Table 1)"
    )
    final = at(study_at(study, tables["state_by_position"]), "position", LAST).share()
    layers = keys(final)
    if not layers:
        return _nothing(study, tables, final)
    through = f"@ {{position}} -> logits freezing {state} except {state}[{{layer}}]"
    chosen: dict[str, Any] = {"layer": layers, "position": AROUND}
    tables["table2_write_input"] = study.by_distance(
        "Scan input of the key layers (Table 2)", f"{write}[{{layer}}] {through}", **chosen
    )
    for number, corruption in ((3, "B"), (4, "A")):
        title = f"Convolution input under [{'A][B' if corruption == 'B' else 'A'}'{']' if corruption == 'B' else '][B]'} (Table {number})"
        tables[f"table{number}_conv_input_{corruption}"] = study.by_distance(
            title, f"{conv}[{{layer}}] {through}", corruption, **chosen
        )
    tables["conv_edges"] = stacked(
        {
            c: study.patch(
                "Convolution edges by lag", f"{tap}[{{layer}},{{lag}}] {through}", c, layer=layers, position=AROUND[1:]
            )
            for c in "BA"
        },
        "corruption",
        "Convolution edges by lag, at the position they arrive",
    )
    offsets = study.at_distance(tables["table2_write_input"])
    tables["write_ports"] = _ports(study, write, state, offsets, layers)
    joint = _joint(study, state, layers)
    summary = _summary(study, state, write, final, offsets, layers, joint)
    return SuiteResult(tables, _circuit(study, (state, write, conv), tables, final, offsets, layers), summary)


def study_at(study: Study, table: PatchingTable) -> PatchingTable:
    """A table stacked over distances, at the detailed one."""
    return at(table, "distance", study.distance)


def _pick(table: PatchingTable, axis: str, value: Any, title: str) -> PatchingTable:
    picked = at(table, axis, value)
    return PatchingTable(picked.frame, picked.axes, picked.unit, {**picked.about, "title": title})


def _joint(study: Study, state: str, layers: list[int]) -> float:
    """Share of the effect when all key states are patched at once after the last write."""
    sites = ", ".join(f"{state}[{layer}] @ {LAST}" for layer in sorted(layers))
    return float(study.patch("All key states together", f"({sites}) -> logits freezing {state}").share().iloc[0])


def _ports(study: Study, write: str, state: str, offsets: pd.Series, layers: list[int]) -> PatchingTable:
    """How much it matters which of the scan input's readers see the patch: all of them (the paper's reading) or one.

    Only readers that write to the state: what C and the skip connection do at this token ends at this token.
    """
    layer = layers[0]
    position = offsets[layer].idxmax()
    made = {
        port or "all": study.patch(
            f"What reads the scan input of layer {layer} at {position}",
            f"{write}[{layer}]{port and '.' + port} @ {position} -> logits freezing {state} except {state}[{layer}]",
        )
        for port in ("", *_writers(study, write, state, layer))
    }
    return stacked(made, "reader", f"Which reader of {write}[{layer}] @ {position} carries the effect")


def _writers(study: Study, write: str, state: str, layer: int) -> list[str]:
    """The ports of the scan input with an edge into the state."""
    into = study.model.graph.nx.predecessors(study.model.graph.node(f"{state}[{layer}]"))
    return [str(node.port) for node in into if node.family == write]


def _summary(
    study: Study, state: str, write: str, final: pd.Series, offsets: pd.Series, layers: list[int], joint: float
) -> Summary:
    components = [Component(f"{state}[{n}]", "state", float(final[n]), str(offsets[n].idxmax())) for n in layers]
    profile = normalised(sum(offsets[n].clip(lower=0) for n in layers))
    return Summary(
        study.model.name,
        study.model.graph.name,
        components,
        joint,
        profile,
        study.baseline(),
        [f"components have at least {KEY_SHARE:.0%} of the effect alone, at distance {study.distance}, patched at {LAST}"],
    )


def _circuit(
    study: Study,
    names: tuple[str, str, str],
    tables: dict[str, PatchingTable],
    final: pd.Series,
    offsets: pd.Series,
    layers: list[int],
) -> Circuit:
    """For every key layer: what the convolution brings together, the write, the state, and the answer."""
    state, write, conv = names
    nodes: list[CircuitNode] = []
    edges: list[CircuitEdge] = []
    from_a, from_b = (study.at_distance(tables[f"table{n}_conv_input_{c}"]) for n, c in ((4, "A"), (3, "B")))
    for layer in sorted(layers):
        here = str(offsets[layer].idxmax())
        c, h = f"{write}[{layer}]", f"{state}[{layer}]"
        for effects, corruption in ((from_a, "A"), (from_b, "B")):
            at_position, share = str(effects[layer].idxmax()), float(effects[layer].max())
            if share >= KEY_SHARE:
                name, lag = f"{conv}[{layer}] @ {at_position}", AROUND.index(here) - AROUND.index(at_position)
                if name not in {node.name for node in nodes}:
                    nodes.append(CircuitNode(name, at_position, layer, share, "conv_input"))
                edges.append(CircuitEdge(name, c, _tap_share(tables, corruption, layer, lag, here), f"[{corruption}] lag {lag}"))
        nodes.append(CircuitNode(c, here, layer + 0.35, float(offsets[layer].max()), "write_input"))
        nodes.append(CircuitNode(h, "END", layer + 0.35, float(final[layer]), "state"))
        edges += [
            CircuitEdge(c, h, float(offsets[layer].max()), "kept in the state"),
            CircuitEdge(h, "logits", float(final[layer])),
        ]
    nodes.append(CircuitNode("logits", "END", study.model.graph.sizes["layer"] + 0.6, 1.0, "logits"))
    title = f"Induction circuit of {study.model.name}, distance {study.distance}"
    return Circuit(title, (*AROUND, "END"), tuple(nodes), tuple(edges), "share of the effect")


def _tap_share(tables: dict[str, PatchingTable], corruption: str, layer: int, lag: int, position: str) -> float:
    """What this one tap carries to the write position; NaN where the convolution does not reach that far."""
    return float(tables["conv_edges"].share().get((corruption, layer, lag, position), float("nan")))


def _nothing(study: Study, tables: dict[str, PatchingTable], final: pd.Series) -> SuiteResult:
    note = f"no state has {KEY_SHARE:.0%} of the effect (the most is {final.max():.1%}): no induction circuit was found"
    summary = Summary(study.model.name, study.model.graph.name, [], 0.0, {}, study.baseline(), [note])
    return SuiteResult(tables, Circuit(f"Induction in {study.model.name}", (*AROUND, "END"), (), ()), summary)
