"""Induction in a Transformer: the induction heads, where they read, and the earlier heads that write what they look for."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..drawing.circuit import Circuit
from ..planning.metrics import METRICS
from ..results.table import PatchingTable
from ..results.writing import count
from .heads import Head
from .keys import keys
from .result import SuiteResult, Summary
from .senders import Receivers, read_at, read_by, reads, senders, site, strong_senders, together
from .stages import Drawing
from .study import Study

AROUND = ["A", "B", "B+1", "B+2", "B+3"]
PORTS = {"k": "A", "q": "A", "v": "B"}
"""The corruption that shows what a port carries: a key says where [A] was, a value says what [B] is."""
READING = (
    "the effect of an induction head is normalized by that of the corruption [{}'], and its position is the token that its value "
    "is read from; the effect of a head that writes for the induction heads is normalized by that of the corruption in its role, "
    "and its position is the token it writes to"
)
"""The components of one column are not all normalized by the same effect."""


def run(study: Study) -> SuiteResult:
    """All tables of the suite, the circuit and the summary."""
    head = study.name("head")
    table = study.over(
        "distance",
        study.settings["distances"],
        "Heads to the logits at END",
        f"{head}[{{layer}},{{head}}] @ END -> logits freezing {study.carriers}",
    )
    study.keep("heads_to_logits", table, "An induction head moves [B] to the end, so patching it there loses the answer.")
    at_distance = _at_distance(study)
    effects, heads = at_distance.normalized(), keys(at_distance)
    if not heads:
        return _nothing(study, at_distance)
    for port, words in (("v", "values"), ("k", "keys")):
        title = f"Where the induction heads' {words} are read ([{PORTS[port]}'])"
        read = reads(study, title, heads, port, AROUND, corruption=PORTS[port])
        if read is not None:
            study.keep(f"reads_{port}", read)
    for port, corruption in PORTS.items():
        _senders(study, port, corruption, heads)
    _senders_read(study, heads)
    return SuiteResult(study.tables, _circuit(study, effects, heads), _summary(study, heads))


def _at_distance(study: Study) -> PatchingTable:
    """The heads' effects at the task's distance, the one at which the circuit is analysed."""
    return study.tables["heads_to_logits"].select("distance", study.task.options["distance"])


def _senders(study: Study, port: str, corruption: str, heads: list[Head]) -> None:
    """Every earlier head to a port of the induction heads: keys and values where they are read, queries at END."""
    positions = ["END"] if port == "q" else read_at(study.tables.get(f"reads_{port}"))
    if not positions:
        return
    title = f"Earlier heads to the induction heads' {port} ([{corruption}'])"
    table = senders(study, title, Receivers(heads, port, "{position}"), positions, corruption=corruption)
    if table is not None:
        study.keep(f"senders_{port}", table)


def _strong(study: Study) -> list[tuple[Head, str, str, float]]:
    """Earlier heads above the threshold: (layer, head), the port they write, the position, their normalized effect."""
    return [
        (head, port, at, effect) for port in PORTS for head, at, effect in strong_senders(study.tables.get(f"senders_{port}"))
    ]


def _senders_read(study: Study, heads: list[Head]) -> None:
    """Where the heads that write the keys read: the value of a previous-token head matters one token before it writes."""
    writers = list(dict.fromkeys(head for head, port, _, _ in _strong(study) if port == "k"))
    if writers:
        title = "Where the heads that write the keys read ([A'])"
        table = reads(study, title, writers, "v", AROUND, Receivers(heads, "k", ""), corruption="A")
        if table is not None:
            study.keep("senders_read", table)


def _joint(study: Study, heads: list[Head]) -> float:
    """The normalized effect of all induction heads patched at once."""
    path = f"{site(study, heads, position='END')} -> logits freezing {study.carriers}"
    return study.normalized_effect("All induction heads together", path)


def _summary(study: Study, heads: list[Head]) -> Summary:
    """The same columns as for a state-space model: the position that a head reads is the counterpart of a write position."""
    distance, components = study.task.options["distance"], []
    for head in heads:
        values = read_by(study.tables.get("reads_v"), head)
        at = "" if values is None else str(values.idxmax())
        components.append(study.component(site(study, [head]), "induction head", "heads_to_logits", (distance, *head), at))
    for head, port, at, _ in _strong(study):
        role = f"writes the {port} ([{PORTS[port]}'])"
        components.append(study.component(site(study, [head]), role, f"senders_{port}", (*head, at), at))
    notes = [
        f"each component, patched alone at distance {distance}, has {study.rule()}",
        READING.format(study.task.options["corruption"]),
        *study.caveats(_at_distance(study)),
    ]
    taken = study.offsets("B", corruption="B")
    ends: Any = {"explained": _joint(study, heads), "together": f"the {count(len(heads), 'induction head')}"}
    return study.summary(components, notes, **ends, taken=taken, verdict=taken.text() if taken else "", baseline=baselines(study))


def baselines(study: Study) -> dict[str, float]:
    """Accuracy, logit difference and the effect of the corruption at every distance.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", examples=2), settings={"distances": (8,)})
    >>> list(baselines(study))[0]
    'top-1 accuracy, distance 8'
    """
    by_distance = {d: study.baseline(_gap(study, d), distance=d) for d in study.settings["distances"]}
    return {f"{name}, distance {d}": value for d, numbers in by_distance.items() for name, value in numbers.items()}


def _gap(study: Study, distance: int) -> float | None:
    """Clean minus corrupted logit of the answer; None if the suite's first table has not measured it."""
    table = study.tables.get("heads_to_logits")
    if table is None or table.unit != METRICS["logit"].unit or distance not in set(table.frame["distance"]):
        return None
    part = table.select("distance", distance)
    gap = float((part.values("base")[0] - part.values("source")[0]).mean())
    return -gap if part.provenance["base"] == "corrupted" else gap


def _circuit(study: Study, effects: pd.Series, heads: list[Head]) -> Circuit:
    """The tokens, the heads that read them, the ports that these heads write, the induction heads, the answer."""
    drawing, family = Drawing(), study.name("head")
    for head in heads:
        drawing.edge(
            drawing.node(site(study, [head]), "END", head[0], float(effects[head]), "head"), "logits", float(effects[head])
        )
    drawing.node("logits", "END", study.model.graph.sizes["layer"] + 0.3, 1.0, "logits")
    for port, corruption in PORTS.items():
        writers = strong_senders(study.tables.get(f"senders_{port}"))
        if not writers:
            continue
        position = writers[0][1]
        joint = together(
            study, f"The {port} of all induction heads together", Receivers(heads, port, position), corruption=corruption
        )
        ends = {site(study, [head]): _read_effect(study, port, head) for head in heads}
        hub = drawing.hub(f"{port} of these heads", position, joint, ends, [layer for layer, _ in heads])
        for head, name in drawing.senders(family, writers, hub).items():
            _draw_reading(study, head, name, drawing)
    if not strong_senders(study.tables.get("senders_v")):
        _draw_copying(study, heads, drawing)
    title = f"Induction circuit of {study.model.name}, distance {study.task.options['distance']}"
    return drawing.circuit(title, (*AROUND, "END"))


def _draw_copying(study: Study, heads: list[Head], drawing: Drawing) -> None:
    """The tokens that the induction heads copy directly, each with the joint effect of all heads' values there."""
    for head in heads:
        values = read_by(study.tables.get("reads_v"), head)
        if values is None:
            continue
        at, title = str(values.idxmax()), "The v of all induction heads together"
        if f"token @ {at}" not in {node.name for node in drawing.nodes}:
            drawing.node(
                f"token @ {at}", at, -1, together(study, title, Receivers(heads, "v", at), corruption=PORTS["v"]), "embed"
            )
        drawing.token(at, site(study, [head]), float(values.max()), "v")


def _read_effect(study: Study, port: str, head: Head) -> float:
    """The largest normalized effect of a port of one induction head over positions; NaN where it is not measured, as of queries."""
    values = read_by(study.tables.get(f"reads_{port}"), head)
    return float("nan") if values is None else float(values.max())


def _draw_reading(study: Study, head: Head, name: str, drawing: Drawing) -> None:
    """An arrow from the token that an earlier head reads its value from."""
    values = read_by(study.tables.get("senders_read"), head)
    if values is not None:
        drawing.token(str(values.idxmax()), name, float(values.max()), "v")


def _nothing(study: Study, table: PatchingTable) -> SuiteResult:
    summary = study.nothing("head", "induction", table, baselines(study))
    return SuiteResult(study.tables, Circuit(f"Induction in {study.model.name}", (*AROUND, "END"), (), ()), summary)
