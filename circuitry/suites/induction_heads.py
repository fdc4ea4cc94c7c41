"""Induction in a Transformer: induction heads, where they read, and the earlier heads that write what they look for."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..drawing.circuit import Circuit
from ..planning.metrics import METRICS
from ..results.table import PatchingTable
from ..results.writing import count
from .keys import keys
from .result import SuiteResult, Summary
from .senders import Head, Receivers, read_at, reads, senders, site, strong_senders, together
from .stages import Drawing
from .study import Study

AROUND = ["A", "B", "B+1", "B+2", "B+3"]
PORTS = {"k": "A", "q": "A", "v": "B"}
"""Which corruption shows what a port carries: the key tells where [A] was, the value what [B] is."""
READING = (
    "an induction head's share is of what [{}'] changes, and it is named at the token its value is read from; a head that writes "
    "for the induction heads has its share of what the corruption in its role changes, and is named at the token it writes to"
)
"""How the components of one column differ in what they are a share of."""


def run(study: Study) -> SuiteResult:
    """All tables of the suite, the circuit and the summary."""
    head = study.name("head")
    every = study.over(
        "distance",
        study.settings["distances"],
        "Heads to the logits at END",
        f"{head}[{{layer}},{{head}}] @ END -> logits freezing {study.carriers}",
    )
    study.keep("heads_to_logits", every, "An induction head moves [B] to the end, so patching it there loses the answer.")
    here = _here(study)
    effects, found = here.normalized(), keys(here)
    if not found:
        return _nothing(study, effects)
    for port, words in (("v", "values"), ("k", "keys")):
        title = f"Where the induction heads' {words} are read ([{PORTS[port]}'])"
        study.keep(f"reads_{port}", reads(study, title, found, port, AROUND, corruption=PORTS[port]))
    for port, corruption in PORTS.items():
        _senders(study, port, corruption, found)
    _senders_read(study, found)
    return SuiteResult(study.tables, _circuit(study, effects, found), _summary(study, found))


def _here(study: Study) -> PatchingTable:
    """The heads' effects at the distance at which the circuit is taken apart."""
    return study.tables["heads_to_logits"].select("distance", study.task.options["distance"])


def _senders(study: Study, port: str, corruption: str, found: list[Head]) -> None:
    """Every earlier head to a port of the induction heads: patched where keys and values were found to be read, queries at END."""
    positions = ["END"] if port == "q" else read_at(study.tables[f"reads_{port}"])
    title = f"Earlier heads to the induction heads' {port} ([{corruption}'])"
    made = senders(study, title, Receivers(found, port, "{position}"), positions, corruption=corruption)
    if made is not None:
        study.keep(f"senders_{port}", made)


def _strong(study: Study) -> list[tuple[Head, str, str, float]]:
    """Earlier heads over the threshold: (layer, head), the port they write, the position, their normalized effect."""
    return [(one, port, at, effect) for port in PORTS for one, at, effect in strong_senders(study.tables.get(f"senders_{port}"))]


def _senders_read(study: Study, found: list[Head]) -> None:
    """Where the heads that write the keys read: a previous-token head's value matters one token before it writes."""
    writers = list(dict.fromkeys(one for one, port, _, _ in _strong(study) if port == "k"))
    if writers:
        title = "Where the heads that write the keys read ([A'])"
        study.keep("senders_read", reads(study, title, writers, "v", AROUND, Receivers(found, "k", ""), corruption="A"))


def _joint(study: Study, found: list[Head]) -> float:
    """Presence of the effect when all induction heads are patched at once."""
    path = f"{site(study, found, position='END')} -> logits freezing {study.carriers}"
    return study.normalized_effect("All induction heads together", path)


def _summary(study: Study, found: list[Head]) -> Summary:
    """The same columns as a state-space model's: where the token's information is taken from is where it was written."""
    read, distance = study.tables["reads_v"].normalized(), study.task.options["distance"]
    components = []
    for one in found:
        at = str(read[f"{one[0]},{one[1]}"].idxmax())
        components.append(study.component(site(study, [one]), "induction head", "heads_to_logits", (distance, *one), at))
    for one, port, at, _ in _strong(study):
        role = f"writes the {port} ([{PORTS[port]}'])"
        components.append(study.component(site(study, [one]), role, f"senders_{port}", (*one, at), at))
    notes = [
        f"components alone have, at distance {distance}, {study.rule()}",
        READING.format(study.task.options["corruption"]),
        *study.caveats(_here(study)),
    ]
    taken = study.offsets("B", corruption="B")
    ends: Any = {"explained": _joint(study, found), "together": f"the {count(len(found), 'induction head')}"}
    return study.summary(components, notes, **ends, taken=taken, verdict=taken.text() if taken else "", baseline=baselines(study))


def baselines(study: Study) -> dict[str, float]:
    """Accuracy and what there is to explain at every distance.

    >>> import circuitry as ct
    >>> study = Study(ct.load("bundled:gpt_neox"), ct.task("induction", examples=2), settings={"distances": (8,)})
    >>> list(baselines(study))[0]
    'top-1 accuracy, distance 8'
    """
    found = {d: study.baseline(_gap(study, d), distance=d) for d in study.settings["distances"]}
    return {f"{name}, distance {d}": value for d, one in found.items() for name, value in one.items()}


def _gap(study: Study, distance: int) -> float | None:
    """What corruption costs the answer's logit, where the suite's first table has measured that: clean - corrupted."""
    table = study.tables.get("heads_to_logits")
    if table is None or table.unit != METRICS["logit"].unit:
        return None
    one = table.select("distance", distance)
    gap = float((one.values("base")[0] - one.values("source")[0]).mean())
    return -gap if one.provenance["base"] == "corrupted" else gap


def _circuit(study: Study, effects: pd.Series, found: list[Head]) -> Circuit:
    """Token A, the heads that copy it one token on, the keys they write there, the heads that look for them, the answer."""
    drawing, head = Drawing(), study.name("head")
    for one in found:
        drawing.edge(drawing.node(site(study, [one]), "END", one[0], float(effects[one]), "head"), "logits", float(effects[one]))
    drawing.node("logits", "END", study.model.graph.sizes["layer"] + 0.3, 1.0, "logits")
    for port, corruption in PORTS.items():
        ours = strong_senders(study.tables.get(f"senders_{port}"))
        if not ours:
            continue
        position = ours[0][1]
        whole = together(
            study, f"The {port} of all induction heads together", Receivers(found, port, position), corruption=corruption
        )
        ends = {site(study, [one]): _read_share(study, port, one) for one in found}
        hub = drawing.hub(f"{port} of these heads", position, whole, ends, [layer for layer, _ in found])
        for one, name in drawing.senders(head, ours, hub).items():
            _draw_reading(study, one, name, drawing)
    if not strong_senders(study.tables.get("senders_v")):
        _draw_copying(study, found, drawing)
    title = f"Induction circuit of {study.model.name}, distance {study.task.options['distance']}"
    return drawing.circuit(title, (*AROUND, "END"))


def _draw_copying(study: Study, found: list[Head], drawing: Drawing) -> None:
    """The tokens that the induction heads copy, where no earlier head comes between: of each, what all heads' values carry."""
    read = study.tables["reads_v"].normalized()
    for one in found:
        values = read[f"{one[0]},{one[1]}"]
        at, title = str(values.idxmax()), "The v of all induction heads together"
        if f"token @ {at}" not in {node.name for node in drawing.nodes}:
            drawing.node(
                f"token @ {at}", at, -1, together(study, title, Receivers(found, "v", at), corruption=PORTS["v"]), "embed"
            )
        drawing.token(at, site(study, [one]), float(values.max()), "v")


def _read_share(study: Study, port: str, one: Head) -> float:
    """What a port of one induction head carries where it is read; not measured for queries."""
    table = study.tables.get(f"reads_{port}")
    return float(table.normalized()[f"{one[0]},{one[1]}"].max()) if table is not None else float("nan")


def _draw_reading(study: Study, one: Head, name: str, drawing: Drawing) -> None:
    """Where an earlier head reads: the token its value comes from."""
    table, key = study.tables.get("senders_read"), f"{one[0]},{one[1]}"
    if table is not None and key in set(table.frame["head"]):
        read = table.normalized()[key]
        drawing.token(str(read.idxmax()), name, float(read.max()), "v")


def _nothing(study: Study, effects: pd.Series) -> SuiteResult:
    notes = [
        f"no head has {study.rule()} (the most is {effects.max():.1%}): no induction circuit was found",
        *study.caveats(_here(study)),
    ]
    summary = study.summary([], notes, explained=0.0, baseline=baselines(study))
    return SuiteResult(study.tables, Circuit(f"Induction in {study.model.name}", (*AROUND, "END"), (), ()), summary)
