"""Induction in a Transformer: induction heads, where they read, and the earlier heads that write what they look for."""

from __future__ import annotations

import pandas as pd

from ..results import PatchingTable
from ..results.circuit import Circuit, CircuitEdge, CircuitNode
from .result import Component, SuiteResult, Summary, stacked
from .study import KEY_SHARE, Study, at, keys, normalised

AROUND = ["A", "B", "B+1", "B+2", "B+3"]
PORTS = {"k": "A", "q": "A", "v": "B"}
"""Which corruption shows what a port carries: the key tells where [A] was, the value what [B] is."""


def run(study: Study) -> SuiteResult:
    """All tables of the suite, the circuit and the summary."""
    direct = f"-> logits freezing {_head(study)}"
    tables = {
        "heads_to_logits": study.by_distance("Heads to the logits at END", f"{_head(study)}[{{layer}},{{head}}] @ END {direct}")
    }
    shares = study.at_distance(tables["heads_to_logits"])
    found = keys(shares)
    if not found:
        return _nothing(study, tables, shares)
    for port, corruption in (("v", "B"), ("k", "A")):
        title = f"Where the induction heads' {'values' if port == 'v' else 'keys'} are read ([{corruption}'])"
        tables[f"reads_{port}"] = _reads(study, title, port, corruption, found)
    senders = _senders(study, tables, found)
    if senders is not None:
        tables["senders_to_induction_heads"] = senders
        if read_by := _senders_read(study, tables, found):
            tables["senders_read"] = read_by
    joint = _joint(study, found)
    return SuiteResult(tables, _circuit(study, tables, shares, found), _summary(study, tables, shares, found, joint))


def _head(study: Study) -> str:
    return study.model.graph.by_role("head")[0].name


def _reads(study: Study, title: str, port: str, corruption: str, found: list[tuple[int, int]]) -> PatchingTable:
    """Patch a port of each induction head at every position: where the head reads is where it matters."""
    head = _head(study)
    made = {
        f"{layer},{number}": study.patch(
            title, f"{head}[{layer},{number}].{port} @ {{position}} -> logits freezing {head}", corruption, position=AROUND
        )
        for layer, number in found
    }
    return stacked(made, "head", title)


def _read_at(table: PatchingTable) -> list[str]:
    """The positions at which a port of the induction heads matters: those over the threshold, at least the strongest."""
    profile = table.share().groupby("position", sort=False).sum()
    return [str(p) for p in profile.index if profile[p] >= KEY_SHARE] or [str(profile.idxmax())]


def _senders(study: Study, tables: dict[str, PatchingTable], found: list[tuple[int, int]]) -> PatchingTable | None:
    """Every earlier head to the induction heads' k, q and v, on to the logits; a sender's receivers are all heads after it.

    Senders of keys and values are patched where those ports were found to be read, senders of queries at END.
    """
    made = {}
    for port, corruption in PORTS.items():
        positions = ["END"] if port == "q" else _read_at(tables[f"reads_{port}"])
        parts = [_senders_to(study, port, corruption, list(layers), receivers, positions) for layers, receivers in _bands(found)]
        if parts:
            made[port] = PatchingTable(pd.concat([t.frame for t in parts]), parts[0].axes, parts[0].unit, parts[0].about)
    return stacked(made, "port", "Earlier heads to the induction heads' k, q and v") if made else None


def _bands(found: list[tuple[int, int]]) -> list[tuple[range, list[tuple[int, int]]]]:
    """Sender layers that have the same receivers after them, with those receivers.

    >>> _bands([(1, 0), (3, 2)])
    [(range(0, 1), [(1, 0), (3, 2)]), (range(1, 3), [(3, 2)])]
    """
    tops = sorted({layer for layer, _ in found})
    bands = [(range(low, top), [n for n in found if n[0] >= top]) for low, top in zip([0, *tops], tops, strict=False)]
    return [(layers, receivers) for layers, receivers in bands if layers]


def _senders_to(
    study: Study, port: str, corruption: str, layers: list[int], receivers: list[tuple[int, int]], positions: list[str]
) -> PatchingTable:
    head = _head(study)
    ports = _set([f"{head}[{layer},{number}].{port}" for layer, number in receivers])
    path = f"{head}[{{layer}},{{head}}] @ {{position}} -> {ports} freezing {head} -> logits"
    return study.patch(f"Earlier heads to the induction heads' {port}", path, corruption, layer=layers, position=positions)


def _senders_read(study: Study, tables: dict[str, PatchingTable], found: list[tuple[int, int]]) -> PatchingTable | None:
    """Where the heads that write the keys read: a previous-token head's value matters one token before it writes."""
    head = _head(study)
    made = {
        f"{a},{b}": study.patch(
            "Where the earlier heads read ([A'])",
            f"{head}[{a},{b}].v @ {{position}} -> {_set([f'{head}[{x},{y}].k' for x, y in found if x > a])} freezing {head} -> logits",
            "A",
            position=AROUND,
        )
        for (a, b), port, _, _ in _strong(tables)
        if port == "k"
    }
    return stacked(made, "head", "Where the heads that write the keys read ([A'])") if made else None


def _set(members: list[str]) -> str:
    return members[0] if len(members) == 1 else f"({', '.join(members)})"


def _joint(study: Study, found: list[tuple[int, int]]) -> float:
    """Share of the effect when all induction heads are patched at once."""
    head = _head(study)
    sites = [f"{head}[{layer},{number}] @ END" for layer, number in sorted(found)]
    return float(study.patch("All induction heads together", f"{_set(sites)} -> logits freezing {head}").share().iloc[0])


def _summary(
    study: Study, tables: dict[str, PatchingTable], shares: pd.Series, found: list[tuple[int, int]], joint: float
) -> Summary:
    """The same columns as a state-space model's: where the token's information is taken from is where it was written."""
    head, read = _head(study), tables["reads_v"].share()
    components = [
        Component(
            f"{head}[{layer},{number}]", "induction head", float(shares[layer, number]), str(read[f"{layer},{number}"].idxmax())
        )
        for layer, number in found
    ]
    components += [Component(f"{head}[{n[0]},{n[1]}]", f"writes the {port}", share, p) for n, port, p, share in _strong(tables)]
    profile = normalised(sum(read[f"{a},{b}"].clip(lower=0) for a, b in found))
    notes = [f"components have at least {KEY_SHARE:.0%} of the effect alone, at distance {study.distance}"]
    return Summary(study.model.name, study.model.graph.name, components, joint, profile, study.baseline(), notes)


def _strong(tables: dict[str, PatchingTable]) -> list[tuple[tuple[int, int], str, str, float]]:
    """Earlier heads over the threshold: (layer, head), the port they write, the position, their share."""
    if "senders_to_induction_heads" not in tables:
        return []
    found = []
    for port in PORTS:
        part = at(tables["senders_to_induction_heads"], "port", port)
        if part.frame.empty:
            continue
        shares = part.share().dropna()
        found += [((int(i[0]), int(i[1])), port, str(i[2]), float(shares[i])) for i in keys(shares)]
    return found


def _circuit(study: Study, tables: dict[str, PatchingTable], shares: pd.Series, found: list[tuple[int, int]]) -> Circuit:
    """Token A, the heads that copy it one token on, the keys they write there, the heads that look for them, the answer."""
    head = _head(study)
    nodes = [CircuitNode(f"{head}[{a},{b}]", "END", a, float(shares[a, b]), "head") for a, b in found]
    edges = [CircuitEdge(node.name, "logits", node.effect) for node in nodes]
    for port in PORTS:
        senders = [one for one in _strong(tables) if one[1] == port]
        if not senders:
            continue
        position = senders[0][2]
        keys_of = f"{port} of these heads @ {position}"
        depth = min(layer for layer, _ in found) - 0.4
        nodes.append(CircuitNode(keys_of, position, depth, _together(study, port, found, position), "head"))
        edges += [CircuitEdge(keys_of, f"{head}[{a},{b}]", _read_share(tables, port, a, b)) for a, b in found]
        for (layer, number), _, at_position, share in senders:
            name = f"{head}[{layer},{number}] @ {at_position}"
            nodes.append(CircuitNode(name, at_position, layer, share, "head"))
            edges.append(CircuitEdge(name, keys_of, share))
            _draw_reading(tables, f"{layer},{number}", name, nodes, edges)
    nodes.append(CircuitNode("logits", "END", study.model.graph.sizes["layer"] + 0.3, 1.0, "logits"))
    title = f"Induction circuit of {study.model.name}, distance {study.distance}"
    return Circuit(title, (*AROUND, "END"), tuple(nodes), tuple(edges), "share of the effect")


def _read_share(tables: dict[str, PatchingTable], port: str, layer: int, number: int) -> float:
    """What a port of one induction head carries where it is read; not measured for queries."""
    name = f"reads_{port}"
    return float(tables[name].share()[f"{layer},{number}"].max()) if name in tables else float("nan")


def _together(study: Study, port: str, found: list[tuple[int, int]], position: str) -> float:
    """What a port of all these heads carries at once, measured as its senders are: the rest of the model stays live."""
    ports = _set([f"{_head(study)}[{a},{b}].{port} @ {position}" for a, b in sorted(found)])
    return float(study.patch(f"The {port} of all induction heads together", f"{ports} -> logits", PORTS[port]).share().iloc[0])


def _draw_reading(
    tables: dict[str, PatchingTable], key: str, name: str, nodes: list[CircuitNode], edges: list[CircuitEdge]
) -> None:
    """Where an earlier head reads: the token its value comes from."""
    if "senders_read" not in tables or key not in set(tables["senders_read"].frame["head"]):
        return
    reads = tables["senders_read"].share()[key]
    position, share = str(reads.idxmax()), float(reads.max())
    token = f"token @ {position}"
    if token not in {node.name for node in nodes}:
        nodes.append(CircuitNode(token, position, -1, share, "embed"))
    edges.append(CircuitEdge(token, name, share, "v"))


def _nothing(study: Study, tables: dict[str, PatchingTable], shares: pd.Series) -> SuiteResult:
    note = f"no head has {KEY_SHARE:.0%} of the effect (the most is {shares.max():.1%}): no induction circuit was found"
    summary = Summary(study.model.name, study.model.graph.name, [], 0.0, {}, study.baseline(), [note])
    return SuiteResult(tables, Circuit(f"Induction in {study.model.name}", (*AROUND, "END"), (), ()), summary)
