"""IOI in a Transformer: from the heads that write the name at END back to the tokens (Wang et al. 2023), and the circuit's scores.

Each role is a question that any Transformer can answer with no: name movers raise IO's logit at END and S suppressors lower
S's; S-inhibition heads act on their queries; duplicate-token and induction heads on the S-inhibition heads' values at S2;
previous-token heads on the induction heads' keys at S1+1. Where the movers copy from a token other than the name, the heads that
wrote it there are looked for too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from ..drawing.circuit import Circuit
from ..evidence.scores import Scores, score
from ..evidence.scores_figure import draw
from ..paths.labelled import labelled
from ..results.writing import count
from ..thresholds import KEY_EFFECT
from .ioi_roles import (
    AT_END,
    DIRECT,
    DUPLICATE,
    HELPER,
    INDUCTION,
    INHIBITION,
    MOVER,
    NEGATIVE,
    OTHER,
    POSITIONS,
    PREVIOUS,
    STAGES,
    SUPPRESSOR,
    TABLES,
    WRITER,
    Found,
    Stage,
)
from .keys import keys, sure
from .result import Picture, SuiteResult, Summary
from .senders import Head, Receivers, jointly, read_at, reads, senders, site, strong_senders
from .stages import Drawing
from .study import Study


def run(study: Study) -> SuiteResult:
    """All tables of the suite, the circuit, its scores and the summary."""
    found, effects = Found(), _direct(study)
    found.roles = {role: [(one, "END", float(effects[one])) for one in heads] for role, heads in _roles_at_end(study).items()}
    movers = found.heads(*DIRECT)
    if not movers:
        return _nothing(study, float(effects.max()))
    _movers(study, movers, found)
    _inhibition(study, movers, found)
    scores = _score(study, found)
    pictures = {"scores": Picture("Is it the circuit?", scores.text(), draw(scores))}
    wholes = _wholes(study, found)
    return SuiteResult(study.tables, _circuit(study, found, wholes), _summary(study, found, scores, wholes[AT_END]), pictures)


def _direct(study: Study) -> pd.Series:
    """Every head at END on the logits: on their difference, and on each name's own. Shares of the difference."""
    head, title = study.name("head"), "Heads to the logits at END"
    path, main = f"{head}[{{layer}},{{head}}] @ END -> logits freezing {study.carriers}", study.options["metric"]
    made = study.patch(title, path, metric=list(dict.fromkeys([main, "logit", "foil_logit"])))
    note = "A head whose patch lowers the difference helps to answer; one whose patch raises it works against."
    direct = made.select("metric", main)
    study.keep("heads_to_logits", direct, note)
    for own, name, words in (("logit", "IO", "A name mover raises IO."), ("foil_logit", "S", "An S suppressor lowers S.")):
        one = replace(made.select("metric", own), unit=f"change of the logit of {name}")
        study.keep(f"heads_to_{name}", one.titled(f"{title}: {name} alone"), words)
    return direct.normalized()


def _roles_at_end(study: Study) -> dict[str, list[Head]]:
    """Heads that write IO; of the others, those that help or hurt the difference.

    A mover writes IO's own logit, by the thresholds, and has a normalized effect on the difference, whose noise it shares with what it writes of S.
    """
    direct = study.tables["heads_to_logits"]
    effects = direct.normalized()
    to_s, whole = study.tables["heads_to_S"], abs((direct.frame["source"] - direct.frame["base"]).mean())
    movers = [one for one in keys(study.tables["heads_to_IO"]) if effects[one] >= KEY_EFFECT]
    lowers = (to_s.mean() >= KEY_EFFECT * whole) & sure(to_s)
    helping, hurting = keys(direct), keys(direct, negative=True)
    return {
        MOVER: movers,
        SUPPRESSOR: [one for one in helping if one not in movers and lowers[one]],
        HELPER: [one for one in helping if one not in movers and not lowers[one]],
        NEGATIVE: [one for one in hurting if one not in movers],
    }


def _movers(study: Study, movers: list[Head], found: Found) -> None:
    """Through which port the movers get their information, where they copy from, and who put it there."""
    paths = {port: f"{site(study, movers, port)} -> logits freezing {study.carriers}" for port in "qkv"}
    note = "All heads that write the answer, together. Queries say where to look, values what is copied."
    study.keep("mover_ports", study.patch("What the heads that write the answer need: q, k or v", labelled("port", paths)), note)
    read = study.keep("movers_read", reads(study, "Where the heads that write the answer copy from", movers, "v", POSITIONS))
    elsewhere = [p for p in read_at(read) if p != "IO"]
    receivers = Receivers(movers if elsewhere else [], "v", "")
    made = senders(study, "Earlier heads to the answering heads' v, at every position", receivers)
    if made is not None:
        note = "The movers copy from tokens other than the name itself, so an earlier head must have put it there."
        found.roles[WRITER] = strong_senders(study.keep("senders_v", made, note))


def _inhibition(study: Study, movers: list[Head], found: Found) -> None:
    """S-inhibition heads, what they read at S2, and what those heads look for."""
    made = senders(study, "Earlier heads to the answering heads' q at END", Receivers(movers, "q", "END"), ["END"])
    if made is None:
        return
    found.roles[INHIBITION] = strong_senders(
        study.keep("senders_q", made, "S-inhibition heads tell the movers where not to look.")
    )
    inhibiting = Receivers(found.heads(INHIBITION), "v", "S2")
    made = senders(study, "Earlier heads to the S-inhibition heads' v at S2", inhibiting, ["S2"])
    if made is None:
        return
    at_s2 = strong_senders(study.keep("senders_inhibition_v", made, "Duplicate-token and induction heads notice S at S2."))
    if not at_s2:
        return
    title = "Where the heads that notice S match it (k)"
    looked = reads(study, title, [one for one, _, _ in at_s2], "k", ["IO", "IO+1", "S1", "S1+1"], inhibiting)
    matched = study.keep("noticing_read", looked, "A key at S1 makes a duplicate-token head, a key at S1+1 an induction head.")
    where = dict(reversed(keys(matched, most=len(matched.mean()))))  # the strongest of each head stands last in reverse
    for one, at, effect in at_s2:
        place = where.get(f"{one[0]},{one[1]}", "")
        found.roles.setdefault({"S1": DUPLICATE, "S1+1": INDUCTION}.get(place, OTHER), []).append((one, at, effect))
    _previous(study, found)


def _previous(study: Study, found: Found) -> None:
    induction = Receivers(found.heads(INDUCTION), "k", "S1+1", acting="S2")
    made = senders(study, "Earlier heads to the induction heads' k at S1+1", induction, ["S1+1"])
    if made is not None:
        found.roles[PREVIOUS] = strong_senders(study.keep("senders_k", made, "Previous-token heads write S one token on."))


def _score(study: Study, found: Found) -> Scores:
    """Faithfulness, completeness and minimality of all heads found; where two roles share a head it counts in the first."""
    study.say("Faithfulness, completeness and minimality, against random circuits")
    named = {role: [site(study, [one]) for one in heads] for role, heads in found.once().items()}
    scores = score(study.model, study.task, named, **study.plain_options)
    study.keep("scores", scores.table, scores.text())
    return scores


def _wholes(study: Study, found: Found) -> dict[str, float]:
    """What all heads at END have together, and what the port of each stage carries; effects, by what they are called."""
    ends = site(study, found.heads(*DIRECT, NEGATIVE), position="END")
    paths = {AT_END: f"{ends} -> logits freezing {study.carriers}"}
    for stage in STAGES:
        if found.of(*stage.senders):
            receivers = found.of(*stage.receivers)
            heads, acting = [one for one, _, _ in receivers], receivers[0][1]
            paths[stage.title] = jointly(study, Receivers(heads, stage.port, stage.position, acting))
    return dict.fromkeys(paths, 0.0) | study.normalized_effects({title: path for title, path in paths.items() if path})


def _summary(study: Study, found: Found, scores: Scores, joint: float) -> Summary:
    ends = found.heads(*DIRECT, NEGATIVE)
    components = [
        study.component(site(study, [one]), role, *_cell(study, role, one, at), at)
        for role, heads in found.roles.items()
        for one, at, _ in heads
    ]
    missing = [r for r in (MOVER, INHIBITION, DUPLICATE, INDUCTION, PREVIOUS) if not found.roles.get(r)]
    notes = [
        f"heads of a role alone have, along that role's path, {study.rule()}; a name mover also of IO's own logit, "
        "for which q is taken (normalized effects here are of IO - S)",
        *study.caveats(study.tables["heads_to_logits"]),
    ]
    notes += [f"not found: {', '.join(missing)}"] if missing else []
    notes.append("scores take a head out at every position; a normalized effect below 0 works against the answer")
    taken = study.offsets("IO", corruption="IO")
    verdict = "\n".join([scores.text(), *([taken.text()] if taken else [])])
    together = f"the {count(len(ends), 'head')} at END"
    return study.summary(components, notes, explained=joint, together=together, taken=taken, verdict=verdict)


def _cell(study: Study, role: str, head: Head, at: str) -> tuple[str, tuple[Any, ...]]:
    """The table that shows a head of this role, and its cell there."""
    name = TABLES.get(role, "heads_to_logits")
    return name, (*head, at) if "position" in study.tables[name].axes else head


def _circuit(study: Study, found: Found, wholes: Mapping[str, float]) -> Circuit:
    """The chain of roles, with a hub where several heads share a port."""
    head, drawing = study.name("head"), Drawing()
    for role in (*DIRECT, NEGATIVE):
        for one, at, effect in found.roles.get(role, []):
            drawing.edge(drawing.node(f"{head}[{one[0]},{one[1]}] @ {at}", at, one[0], effect, "head"), "logits", effect)
    drawing.node("logits", "END", study.model.graph.sizes["layer"] + 0.3, 1.0, "logits")
    for stage in STAGES:
        if found.of(*stage.senders):
            _stage(study, drawing, stage, found, wholes[stage.title])
    _tokens(study, drawing, found)
    return drawing.circuit(f"IOI circuit of {study.model.name}", tuple(POSITIONS))


def _stage(study: Study, drawing: Drawing, stage: Stage, found: Found, whole: float) -> None:
    """One hub: the receivers' port and its senders. Senders that were patched at every position stand where the receivers read most."""
    head, receivers, at = study.name("head"), found.of(*stage.receivers), stage.position or _most_read(study)
    ends = {f"{head}[{a},{b}] @ {place}": float("nan") for (a, b), place, _ in receivers}
    hub = drawing.hub(stage.title, at, whole, ends, [one[0] for one, _, _ in receivers])
    drawing.senders(head, [(one, at, effect) for one, _, effect in found.of(*stage.senders)], hub)


def _most_read(study: Study) -> str:
    """Where the heads that write the answer copy most from, apart from the name itself."""
    read = study.tables["movers_read"].normalized().groupby("position", sort=False).sum()
    return str(read.drop("IO").idxmax())


def _tokens(study: Study, drawing: Drawing, found: Found) -> None:
    """The tokens that movers and noticing heads read themselves."""
    head = study.name("head")
    for name, roles, port in (("movers_read", DIRECT, "v"), ("noticing_read", (DUPLICATE, INDUCTION), "k")):
        table = study.tables.get(name)
        if table is None:
            continue
        effects = table.normalized()
        for role in roles:
            for (a, b), at, _ in found.roles.get(role, []):
                row = effects[f"{a},{b}"]
                for place in ("IO", "S1", "S2"):
                    if row.get(place, 0.0) >= KEY_EFFECT:
                        drawing.token(place, f"{head}[{a},{b}] @ {at}", float(row[place]), port)


def _nothing(study: Study, most: float) -> SuiteResult:
    notes = [
        f"no head at END has {study.rule()} (the most is {most:.1%}): no IOI circuit was found",
        *study.caveats(study.tables["heads_to_logits"]),
    ]
    summary = study.summary([], notes, explained=0.0)
    return SuiteResult(study.tables, Drawing().circuit(f"IOI in {study.model.name}", tuple(POSITIONS)), summary)
